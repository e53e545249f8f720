"""From original size to the network's grid and back: keep the aspect, pad, undo both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.opencv import cv2
from segpipe.core.void import VOID


@dataclass(frozen=True)
class Geometry:
    """Sizes of one image: original, resized within the padded grid (padding below and right)."""

    original_height: int
    original_width: int
    resized_height: int
    resized_width: int
    padded_height: int
    padded_width: int

    @staticmethod
    def fit(original: tuple[int, int], padded: tuple[int, int] | None) -> Geometry:
        """The largest size of this aspect inside `padded`, both (height, width); None: the original size itself."""
        if padded is None:
            return Geometry(*original, *original, *original)
        scale = min(padded[0] / original[0], padded[1] / original[1])
        height, width = (min(limit, max(1, round(side * scale))) for side, limit in zip(original, padded, strict=True))
        return Geometry(*original, height, width, *padded)

    @property
    def padding_share(self) -> float:
        """Share of the padded grid that is padding."""
        return 1 - self.resized_height * self.resized_width / (self.padded_height * self.padded_width)

    def as_dict(self) -> dict[str, int]:
        """Plain numbers, for an index."""
        return asdict(self)


def place_image(image: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """(H, W, 3) on the padded grid; the padding is black."""
    return _place(image, geometry, _interpolation(image.shape[:2], geometry), 0)


def place_labels(labels: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """(H, W) on the padded grid by nearest neighbour; the padding is void."""
    return _place(labels, geometry, cv2.INTER_NEAREST_EXACT, VOID)


def restore(logits: NDArray[Any], geometry: Geometry) -> NDArray[np.float32]:
    """Logits (C, h, w) of the network as probabilities (C, H, W) at the original size.

    The one way back for all stages: bilinear to the padded grid, crop the padding, resize to the
    original size, softmax.
    """
    return softmax(resize_back(logits, geometry))


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of scores (C, H, W), in the place of the scores."""
    scores -= scores.max(0)
    np.exp(scores, out=scores)
    scores /= scores.sum(0)
    return scores


def resize_back(maps: NDArray[Any], geometry: Geometry) -> NDArray[np.float32]:
    """Maps (C, h, w) of the network's grid as (C, H, W) at the original size, without the padding."""
    g = geometry
    planes = np.asarray(maps, np.float32)
    found = np.empty((len(planes), g.original_height, g.original_width), np.float32)
    for plane, out in zip(planes, found, strict=True):
        grid = cv2.resize(plane, (g.padded_width, g.padded_height), interpolation=cv2.INTER_LINEAR)
        crop = grid[: g.resized_height, : g.resized_width]
        out[:] = cv2.resize(crop, (g.original_width, g.original_height), interpolation=cv2.INTER_LINEAR)
    return found


def _place(array: NDArray[np.uint8], geometry: Geometry, interpolation: int, padding: int) -> NDArray[np.uint8]:
    g = geometry
    resized = cv2.resize(array, (g.resized_width, g.resized_height), interpolation=interpolation)
    placed = np.full((g.padded_height, g.padded_width, *array.shape[2:]), padding, np.uint8)
    placed[: g.resized_height, : g.resized_width] = resized
    return placed


def _interpolation(original: tuple[int, ...], geometry: Geometry) -> int:
    """Area when shrinking (no aliasing), linear when growing."""
    shrinks = geometry.resized_height < original[0] or geometry.resized_width < original[1]
    return int(cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
