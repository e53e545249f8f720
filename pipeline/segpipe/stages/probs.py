"""Reading what stages predict and crf wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_probs(predicted: Path, split: str, rows: list[dict[str, Any]]) -> Any:
    """An iterator of probabilities (C, H, W) at the original size, image by image."""
    return (probs_at(predicted, split, row, i) for i, row in enumerate(rows))


def probs_at(predicted: Path, split: str, row: dict[str, Any], position: int) -> Any:
    """The probabilities of one image, from logits or from stored maps."""
    import numpy as np

    from segpipe.core.files import read_array
    from segpipe.data.geometry import Geometry, restore
    from segpipe.data.maps import Maps

    if (predicted / f"{split}.npy").exists():
        return restore(read_array(predicted / f"{split}.npy")[position], Geometry(**row["geometry"]))
    return Maps(predicted / f"{split}_probs")[position].astype(np.float32)


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
