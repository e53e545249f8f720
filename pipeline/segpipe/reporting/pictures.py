"""Label maps as colours, side by side with their image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAP = 4


def colorize(labels: NDArray[Any], palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """(H, W) labels as (H, W, 3) RGB; void is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8)
    colors: NDArray[np.uint8] = table[labels]
    return colors


def strip(
    image: NDArray[np.uint8], maps: Sequence[NDArray[Any]], palette: Sequence[Sequence[int]]
) -> NDArray[np.uint8]:
    """One row: the image, then each label map in colour, with white gaps."""
    gap = np.full((len(image), GAP, 3), 255, np.uint8)
    parts = [np.asarray(image)]
    for labels in maps:
        parts += [gap, colorize(np.asarray(labels), palette)]
    row = np.concatenate(parts, 1)
    return np.concatenate([row, np.full((GAP, row.shape[1], 3), 255, np.uint8)])
