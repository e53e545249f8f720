"""Reading what stage predict wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_probs(predicted: Path, split: str, rows: list[dict[str, Any]]) -> Any:
    """An iterator of probabilities (C, H, W) at the original size, image by image."""
    from segpipe.core.files import read_array
    from segpipe.data.geometry import Geometry, restore

    logits = read_array(predicted / f"{split}.npy")
    return (restore(logits[i], Geometry(**row["geometry"])) for i, row in enumerate(rows))


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
