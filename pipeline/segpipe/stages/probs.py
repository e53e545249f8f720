"""Reading what stages predict and crf wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def probs_at(predicted: Path, split: str, row: dict[str, Any], position: int) -> Any:
    """The probabilities of one image, from logits or from stored maps."""
    import numpy as np

    from segpipe.core.files import read_array
    from segpipe.data.geometry import Geometry, restore
    from segpipe.data.maps import open_maps

    if (predicted / f"{split}.npy").exists():
        return restore(read_array(predicted / f"{split}.npy")[position], Geometry(**row["geometry"]))
    found: Any = open_maps(predicted / f"{split}_probs")[position].astype(np.float32)
    return found


def refuse_leak(predicted: Path, ids: list[str], purpose: str) -> None:
    """DataError when a fit would use images that the member was trained on: its probabilities flatter there."""
    from segpipe.core.errors import DataError
    from segpipe.core.files import read_json

    shared = sorted(set(read_json(predicted / "train_ids.json")["ids"]) & set(ids))
    if shared:
        raise DataError(
            f"{predicted} was trained on {', '.join(shared[:3])}, which would also {purpose}; "
            "fit on images that no member has seen"
        )
