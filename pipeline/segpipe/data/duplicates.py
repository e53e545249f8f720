"""Near-duplicates between splits: the same picture, perhaps rescaled, recompressed or a frame later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.opencv import cv2

SIDE = 24  # pixels of the thumbnail that is compared
MOST = 100_000  # pairs that are kept: a camera that stands still makes millions
_BLOCK = 1024  # rows of a split that are compared at a time
ALIKE = 0.98  # correlation of two thumbnails from which they count as one picture


def thumbnails(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """(N, SIDE * SIDE): grey thumbnails of (H, W, 3) images with mean 0 and length 1; flat images are 0."""
    rows = []
    for image in images:
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        small -= small.mean()
        length = float(np.linalg.norm(small))
        rows.append(small / length if length > 1e-6 else np.zeros_like(small))
    return np.stack(rows) if rows else np.zeros((0, SIDE * SIDE), np.float32)


def across(
    splits: Mapping[str, tuple[Sequence[Any], NDArray[Any]]], alike: float = ALIKE
) -> list[tuple[str, Any, str, Any, float]]:
    """(split, id, other split, id, correlation) of pairs from two splits, at most MOST, most alike first.

    Args:
        splits: by name, ids and thumbnails.
        alike: smallest correlation that is reported.
    """
    found = []
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for start in range(0, len(splits[first][1]), _BLOCK):
                likeness = splits[first][1][start : start + _BLOCK] @ splits[second][1].T
                for a, b in zip(*np.nonzero(likeness >= alike), strict=True):
                    ids = splits[first][0][start + a], splits[second][0][b]
                    found.append((first, ids[0], second, ids[1], float(likeness[a, b])))
                if len(found) > MOST:
                    found = sorted(found, key=_most_alike)[:MOST]
    return sorted(found, key=_most_alike)


def _most_alike(row: tuple[str, Any, str, Any, float]) -> tuple[Any, ...]:
    return (-row[4], row[:4])
