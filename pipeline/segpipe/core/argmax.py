"""Label and confidence of every pixel from scores, in one pass that stays in the processor's cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.opencv import cv2

_BLOCK = 2**15  # pixels: best, labels and one plane of them fit into the second-level cache


def label_and_confidence(
    scores: NDArray[Any], weights: NDArray[np.float32] | None = None
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Arg max (lowest class on ties) and max over the first axis of scores (C, H, W), computed in float32.

    weights: (C,) that the scores are multiplied by.

    Returns:
        labels (H, W), uint8 up to 256 classes, otherwise int64; confidence (H, W) float32.

    Raises:
        ValueError: not three axes, no class, or a NaN.
    """
    if scores.ndim != 3 or not len(scores):
        raise ValueError(f"scores are {scores.shape}, wanted (C, H, W) with at least one class")
    planes = scores.reshape(len(scores), 1, -1)
    labels = np.zeros(planes.shape[1:], np.uint8 if len(scores) <= 256 else np.int64)
    best = np.empty(planes.shape[1:], np.float32)
    for first in range(0, best.size, _BLOCK):
        block = (slice(None), slice(first, first + _BLOCK))
        _block(planes[:, *block], labels[block], best[block], weights)
    if np.isnan(best).any():
        raise ValueError("scores hold NaN; find where they come from before scoring them")
    return labels.reshape(scores.shape[1:]), best.reshape(scores.shape[1:])


def _block(
    planes: NDArray[Any], labels: NDArray[Any], best: NDArray[np.float32], weights: NDArray[np.float32] | None
) -> None:
    best[:] = planes[0]
    if weights is not None:
        best *= weights[0]
        weighted = np.empty_like(best)
    if labels.dtype != np.uint8:
        scaled = planes if weights is None else planes * weights[:, None, None]
        labels[:], best[:] = scaled.argmax(0), scaled.max(0)
        return
    for k in range(1, len(planes)):
        plane = np.asarray(planes[k], np.float32)
        if weights is not None:
            plane = np.multiply(plane, weights[k], out=weighted)
        larger = cv2.compare(plane, best, cv2.CMP_GT)  # 255 where this class wins
        np.maximum(labels, np.bitwise_and(larger, np.uint8(k), out=larger), out=labels)  # k exceeds all labels so far
        np.maximum(best, plane, out=best)  # keeps NaN
