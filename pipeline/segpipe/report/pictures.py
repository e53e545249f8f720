"""Label maps as colours, side by side with their image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.opencv import cv2

GAP = 4
_WIDEST = 1024  # pixels of a side in the report


def colorize(labels: NDArray[Any], palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """(H, W) labels as (H, W, 3) RGB; void is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8)
    colors: NDArray[np.uint8] = table[labels]
    return colors


def reduced(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) or label map (H, W) of which every n-th row and column is left, to a side of 1024 at most."""
    step = -(-max(picture.shape[:2]) // _WIDEST)
    return np.ascontiguousarray(picture[::step, ::step])


def blend(
    image: NDArray[np.uint8], labels: NDArray[Any], palette: Sequence[Sequence[int]], *, share: float = 0.5
) -> NDArray[np.uint8]:
    """The image (H, W, 3) under its labels (H, W); `share` of the colour is the labels', borders between them white."""
    mixed = np.round((1 - share) * image + share * colorize(labels, palette)).astype(np.uint8)
    border = np.zeros(labels.shape, bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    mixed[border] = 255
    return mixed


def jpeg_bytes(image: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) RGB as JPEG, a tenth of a PNG's bytes for a photo."""
    done, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be a JPEG")
    return bytes(encoded)


def heat(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) from 0 to 1 as (H, W, 3): dark is 0, bright is 1."""
    levels: Any = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    colored: NDArray[np.uint8] = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.ascontiguousarray(colored)


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
