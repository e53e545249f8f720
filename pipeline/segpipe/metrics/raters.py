"""Scores against several annotators: each of them, their consensus, and their disagreement as a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(k / 10 for k in range(1, 10))
_SLACK = 1e-12  # 3 of 10 annotators reach the threshold 0.3 although 0.1 * 3 > 0.3


def ged(samples: Sequence[NDArray[Any]], raters: Sequence[NDArray[Any]], num_classes: int) -> float:
    """Generalised energy distance of predicted label maps to the annotators' (H, W).

    2 E d(S, Y) - E d(S, S') - E d(Y, Y') with pairs of an element with itself included (a V-statistic;
    without them it can fall below 0), d = 1 - mean IoU over the classes in either map (Kohl et al.
    2018, arXiv:1806.05034, eq. 3). 255 is void in an annotator's map and rejected, so never right, in a
    sample. Two maps without a common valid pixel have d = 0.

    Raises:
        ValueError: no sample or annotator, or shapes differ.
    """
    shapes = {np.shape(item) for item in (*samples, *raters)}
    if not samples or not raters or len(shapes) != 1:
        raise ValueError(
            f"{len(samples)} samples and {len(raters)} annotators of shapes {sorted(shapes)}, wanted equal"
        )
    ours = [np.where(sample == 255, num_classes, sample).astype(np.int64) for sample in samples]
    theirs = [np.where(rater == 255, -1, rater.astype(np.int64)) for rater in raters]

    def mean(first: Sequence[NDArray[Any]], second: Sequence[NDArray[Any]]) -> float:
        return float(np.mean([_distance(a, b, num_classes) for a, b in product(first, second)]))

    return 2 * mean(ours, theirs) - mean(ours, ours) - mean(theirs, theirs)


def _distance(a: NDArray[Any], b: NDArray[Any], num_classes: int) -> float:
    """1 - mean IoU over the classes in either map, on pixels that are -1 in neither; `num_classes` is no class."""
    valid = (a >= 0) & (b >= 0)
    a, b = a[valid], b[valid]
    shared, first, second = (np.bincount(ids, minlength=num_classes)[:num_classes] for ids in (a[a == b], a, b))
    union = first + second - shared
    seen = union > 0
    return float(1 - (shared[seen] / union[seen]).mean()) if seen.any() else 0.0


def thresholded_dice(
    prob: NDArray[Any],
    raters: Sequence[NDArray[Any]],
    thresholds: Sequence[float] = THRESHOLDS,
    void: Sequence[NDArray[np.bool_]] | None = None,
) -> float:
    """Dice of prediction and annotators' mean, both binarised (>=) at each threshold, then the mean (QUBIQ 2020).

    prob: probability of one class (H, W); raters: its masks (H, W) of 0 and 1; void: where each annotator
    has no opinion, and the mean is that of the others. Both empty score 1.
    """
    if not raters or any(np.shape(rater) != prob.shape for rater in raters):
        raise ValueError(f"prob is {prob.shape}, wanted annotators' masks of that shape")
    opinions = np.ones((len(raters), *prob.shape)) if void is None else 1.0 - np.stack(void)
    seen = opinions.sum(0) > 0
    masks = np.stack([np.asarray(rater, np.float64) for rater in raters])
    agreed = (masks * opinions).sum(0)[seen] / opinions.sum(0)[seen]
    prob = prob[seen]
    scores = []
    for threshold in thresholds:
        ours, true = (values >= threshold - _SLACK for values in (prob, agreed))
        total = np.count_nonzero(ours) + np.count_nonzero(true)
        scores.append(2 * np.count_nonzero(ours & true) / total if total else 1.0)
    return float(np.mean(scores))
