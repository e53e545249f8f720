"""Scores from counts. The averaging is in the name: `dataset` (mIoU^D), `image` (^I), `class` (^C).

Definitions follow Wang et al. 2023, "Revisiting Evaluation Metrics for Semantic Segmentation",
arXiv:2310.19252. A class absent from an image's label is left out of that image, never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.counts import Counts

Floats = NDArray[np.float64]
METRICS = ("acc", "iou", "dice")


def summarize(
    counts: Counts,
    *,
    quantiles: Sequence[float] = (1, 5),
    thresholds: Sequence[float] = (0.5, 0.7),
    presence: str = "label",
) -> dict[str, Any]:
    """Every score of a table as a flat dict of fractions; undefined is None.

    Args:
        counts: one row per image.
        quantiles: worst-case percentages q: the mean of the max(1, floor(n q / 100)) lowest values.
        thresholds: IoU thresholds of `share_iou_ge_{t}` over (image, class) pairs.
        presence: "label": a class counts in an image when its label holds it; "union": also
            when it was only predicted there.
    """
    if presence not in ("label", "union"):
        raise ValueError(f"presence must be 'label' or 'union', found {presence!r}")
    active = counts.tp + counts.fn + (counts.fp if presence == "union" else 0) > 0  # (N, C)
    found: dict[str, Any] = {"acc": _ratio(counts.tp.sum(), (counts.tp + counts.fn).sum())}
    per_class: dict[str, list[float | None]] = {}
    for metric in METRICS:
        pooled = _values(metric, *(part.sum(0, keepdims=True) for part in (counts.tp, counts.fp, counts.fn)))[0]
        table = np.where(active, _values(metric, counts.tp, counts.fp, counts.fn), np.nan)
        images, classes = _mean(table, 1), _columns(table)
        found[f"m{metric}_dataset"] = _number(_mean(pooled))
        found[f"m{metric}_image"] = _number(_mean(images))
        found[f"m{metric}_class"] = _number(_mean(np.array([_mean(column) for column in classes])))
        for q in quantiles:
            found[f"m{metric}_image_q{q:g}"] = _number(_worst(images, q))
            found[f"m{metric}_class_q{q:g}"] = _number(_mean(np.array([_worst(c, q) for c in classes])))
        tens = range(10, 101, 10)
        found[f"m{metric}_image_qbar"] = _number(_mean(np.array([_worst(images, q) for q in tens])))
        found[f"m{metric}_class_qbar"] = _number(
            _mean(np.array([_mean(np.array([_worst(c, q) for c in classes])) for q in tens]))
        )
        per_class[f"{metric}_dataset"] = [_number(value) for value in pooled]
        per_class[f"{metric}_class"] = [_number(_mean(column)) for column in classes]
    for threshold in thresholds:
        found[f"share_iou_ge_{threshold:g}"] = _share(counts, active, threshold)
    per_class["images"] = [int(n) for n in active.sum(0)]
    return {**found, "per_class": per_class}


def names(quantiles: Sequence[float] = (1, 5), thresholds: Sequence[float] = (0.5, 0.7)) -> tuple[str, ...]:
    """The keys of all scores that are one number, calibration included.

    >>> "miou_dataset" in names() and "ece_image" in names()
    True
    """
    nothing = np.zeros((0, 1), np.int64)
    counts = Counts(nothing, nothing, nothing, nothing[:, 0], nothing[:, 0])
    keys = summarize(counts, quantiles=quantiles, thresholds=thresholds)
    calibrated = (f"{name}_{average}" for name in ("ece", "nll", "brier") for average in ("dataset", "image"))
    return (*(key for key in keys if key != "per_class"), *calibrated)


def per_image_iou(counts: Counts) -> Floats:
    """(N,) mean IoU of each image over the classes in its label; NaN for a fully void image."""
    active = counts.tp + counts.fn > 0
    means: Floats = _mean(np.where(active, _values("iou", counts.tp, counts.fp, counts.fn), np.nan), 1)
    return means


def _values(metric: str, tp: Any, fp: Any, fn: Any) -> Floats:
    """Accuracy (recall), IoU or Dice elementwise; 0 / 0 is NaN."""
    if metric == "acc":
        numerator, denominator = tp, tp + fn
    elif metric == "iou":
        numerator, denominator = tp, tp + fp + fn
    else:
        numerator, denominator = 2 * tp, 2 * tp + fp + fn
    result: Floats = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


def _mean(values: Floats, axis: int | None = None) -> Any:
    """Mean of the defined values, NaN when there are none (without numpy's warning)."""
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0.0).sum(axis)
    number = defined.sum(axis)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _columns(table: Floats) -> list[Floats]:
    """The defined values of each class."""
    return [column[~np.isnan(column)] for column in table.T]


def _worst(values: Floats, q: float) -> float:
    """Mean of the worst q %: the max(1, floor(n q / 100)) lowest, with an exact floor."""
    defined = np.sort(values[~np.isnan(values)])
    if not len(defined):
        return float("nan")
    number = max(1, len(defined) * Fraction(str(q)) // 100)
    return float(defined[: int(number)].mean())


def _share(counts: Counts, active: NDArray[np.bool_], threshold: float) -> float | None:
    """Share of active (image, class) pairs with IoU >= threshold, compared in integers."""
    exact = Fraction(str(threshold))
    union = counts.tp + counts.fp + counts.fn
    reached = counts.tp * exact.denominator >= union * exact.numerator
    return _ratio((reached & active).sum(), active.sum())


def _ratio(numerator: Any, denominator: Any) -> float | None:
    return float(numerator) / float(denominator) if denominator else None


def _number(value: Any) -> float | None:
    """A plain float, None for NaN."""
    return None if np.isnan(value) else float(value)
