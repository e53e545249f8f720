"""Scores near borders: boundary IoU, trimap IoU, boundary F score, and distances of surfaces.

Void is neutral: it neither makes nor hides a border. For the shape of a class it counts as belonging
to it, in the label and in the prediction alike, and it is left out of what is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.opencv import cv2
from segpipe.metrics.counts import Counts, count

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
_SQUARE = np.ones((3, 3), np.uint8)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def boundary_counts(
    labels: NDArray[Any], target: NDArray[Any], num_classes: int, *, share: float = 0.02, ignore_index: int = 255
) -> Counts:
    """Counts of one image (H, W) within the bands along the inside of each class's border.

    The band of a mask is the mask less its erosion by d steps of a 3 x 3 square, the image's edge
    counting as border, d = max(1, round(share * diagonal)). `iou` of these counts is the boundary IoU
    of Cheng et al. 2021, arXiv:2103.16562, eq. 1; D, I and C follow by `summarize`.
    """
    _check(labels, target)
    void = target == ignore_index
    steps = max(1, round(share * math.hypot(*target.shape)))
    tp, fp, fn = (np.zeros((1, num_classes), np.int64) for _ in range(3))
    for k in _present(labels, target, num_classes, void):
        ours, true = (_band(ids == k, void, steps) for ids in (labels, target))
        tp[0, k] = np.count_nonzero(ours & true)
        fp[0, k] = np.count_nonzero(ours) - tp[0, k]
        fn[0, k] = np.count_nonzero(true) - tp[0, k]
    return Counts(tp, fp, fn, (tp + fn).sum(1), np.zeros(1, np.int64))


def trimap(target: NDArray[Any], width: int, *, ignore_index: int = 255) -> Mask:
    """(H, W): pixels within `width` pixels on either side of a border between two labels.

    Pixels beside a border have distance 0, the band is distance < width (Euclidean). Borders to void
    are none. The customary measure of a CRF (Krahenbuhl and Koltun 2011, section 5.1): score with all
    other pixels void, as `trimap_counts`.
    """
    near: Mask = (_border_distance(target, ignore_index) < width) & (target != ignore_index)
    return near


def trimap_counts(
    labels: NDArray[Any],
    target: NDArray[Any],
    num_classes: int,
    widths: Sequence[int] = (1, 2, 4, 8, 16),
    *,
    ignore_index: int = 255,
    reject: int | None = 255,
) -> dict[int, Counts]:
    """Counts of one image (H, W) within the trimap of each width."""
    _check(labels, target)
    distance = _border_distance(target, ignore_index)
    found = {}
    for width in widths:
        near = np.where(distance < width, target.astype(np.int64), ignore_index)
        found[width] = count(labels[None], near[None], num_classes, ignore_index=ignore_index, reject=reject)
    return found


def bf_scores(
    labels: NDArray[Any], target: NDArray[Any], num_classes: int, *, share: float = 0.0075, ignore_index: int = 255
) -> Floats:
    """(C,) boundary F score of one image; NaN where the class has no contour in the label.

    Precision is the share of the prediction's contour pixels within share * diagonal of the label's
    contour, recall the reverse (Csurka et al. 2013, BMVC, section 3). Contours are mask pixels with a
    4-neighbour outside of the mask; the image's edge is none.
    """
    _check(labels, target)
    void = target == ignore_index
    reach = share * math.hypot(*target.shape)
    found = np.full(num_classes, np.nan)
    for k in _present(target, target, num_classes, void):
        ours, true = (_contour(ids == k, void) for ids in (labels, target))
        if not true.any():
            continue
        if not ours.any():
            found[k] = 0.0
            continue
        precision = np.mean(_distance_to(true)[ours] <= reach)
        recall = np.mean(_distance_to(ours)[true] <= reach)
        found[k] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return found


def surface_distances(ours: Mask, true: Mask, void: Mask | None = None) -> dict[str, float | None]:
    """Distances in pixels between the contours of two masks (H, W), the image's edge counting as border.

    hd: the larger of both directed maxima; hd95: the larger of both directed 95th percentiles (as
    MONAI); assd: mean over all contour pixels of both. None when a mask is empty. For medical use: one
    stray pixel decides hd.
    """
    _check(ours, true)
    neutral = np.zeros(true.shape, bool) if void is None else void.astype(bool)
    contours = [_band(mask.astype(bool), neutral, 1, _CROSS) for mask in (ours, true)]
    if not all(contour.any() for contour in contours):
        return {"hd": None, "hd95": None, "assd": None}
    there, back = (_distance_to(b)[a] for a, b in (contours, contours[::-1]))
    return {
        "hd": float(max(there.max(), back.max())),
        "hd95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "assd": float((there.sum() + back.sum()) / (len(there) + len(back))),
    }


def _check(labels: NDArray[Any], target: NDArray[Any]) -> None:
    if labels.shape != target.shape or target.ndim != 2:
        raise ValueError(f"labels are {labels.shape} and target is {target.shape}, wanted equal (H, W)")


def _present(labels: NDArray[Any], target: NDArray[Any], num_classes: int, void: Mask) -> list[int]:
    """Classes in label or prediction on valid pixels."""
    seen = np.union1d(labels[~void], target[~void])
    return [int(k) for k in seen if 0 <= k < num_classes]


def _band(mask: Mask, void: Mask, steps: int, element: Any = _SQUARE) -> Mask:
    """The mask within `steps` of its outside or the image's edge, void being inside."""
    filled = (mask | void).astype(np.uint8)
    eroded = cv2.erode(filled, element, iterations=steps, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    band: Mask = mask & (eroded == 0) & ~void
    return band


def _contour(mask: Mask, void: Mask) -> Mask:
    """Mask pixels with a 4-neighbour outside; neither void nor the image's edge is outside."""
    filled = (mask | void).astype(np.uint8)
    eroded = cv2.erode(filled, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    contour: Mask = mask & (eroded == 0) & ~void
    return contour


def _distance_to(mask: Mask) -> NDArray[np.float32]:
    """Euclidean distance of each pixel to the nearest one of the mask."""
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance, np.float32)


def _border_distance(target: NDArray[Any], ignore_index: int) -> NDArray[np.float32]:
    """Distance to the nearest pixel that has a valid 4-neighbour of another label; large without a border."""
    beside = np.zeros(target.shape, bool)
    for a, b in (((slice(1, None), slice(None)), (slice(-1), slice(None))),
                 ((slice(None), slice(1, None)), (slice(None), slice(-1)))):  # fmt: skip
        differ = (target[a] != target[b]) & (target[a] != ignore_index) & (target[b] != ignore_index)
        beside[a] |= differ
        beside[b] |= differ
    if not beside.any():
        return np.full(target.shape, np.inf, np.float32)
    return _distance_to(beside)
