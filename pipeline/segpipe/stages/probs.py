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
