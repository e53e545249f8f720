"""Scores from counts. The averaging is in the name: `dataset` (mIoU^D), `image` (^I), `class` (^C).

Definitions follow Wang et al. 2023, "Revisiting Evaluation Metrics for Semantic Segmentation",
arXiv:2310.19252. A class absent from an image's label is left out of that image, never 0 or 1.

One function serves the scores and their jackknife: every score is taken under weights of the
images, (R, N) whole numbers; the scores of the table itself are those under one row of ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics import measures as registered
from segpipe.metrics.counts import Counts
from segpipe.metrics.defined import Floats, divide, mean, number
from segpipe.metrics.measures import DEFAULT, dice, iou

TENS = tuple(range(10, 101, 10))  # the percentages that `qbar` averages over
CALIBRATED = ("ece", "sce", "nll", "brier")  # scores of probabilities, in `dataset` and `image`
# Scores that do not follow from what is stored of each image, so that none can be left out.
NOT_BY_IMAGE = ("sce_dataset", "sce_image", "ace", "aurc")
_ROWS = 500  # weightings at a time: memory stays flat in their number


def summarize(
    counts: Counts,
    *,
    quantiles: Sequence[float] = (1, 5),
    thresholds: Sequence[float] = (0.5, 0.7),
    presence: str = "label",
    measures: Sequence[str] = DEFAULT,
) -> dict[str, Any]:
    """Every score of a table as a flat dict of fractions, lists under `per_class`; undefined is None.

    Args:
        counts: one row per image.
        quantiles: worst-case percentages q: the mean of the max(1, floor(n q / 100)) lowest values.
        thresholds: IoU thresholds of `share_iou_ge_{t}`, over all (image, class) pairs and, with
            `_class`, as the mean over classes of the share in each.
        presence: "label": a class counts in an image when its label holds it; "union": also
            when it was only predicted there.
        measures: of `segpipe.metrics.measures`.
    """
    ones = np.ones((1, len(counts)))
    scores = weighted(
        counts, ones, quantiles=quantiles, thresholds=thresholds, presence=presence, measures=measures
    )  # fmt: skip
    found: dict[str, Any] = {key: number(values[0]) for key, values in scores.items()}
    of_class: dict[str, Any] = {}
    for metric in measures:
        table = per_pair(counts, metric, presence=presence)
        pooled = registered.load(metric)(*(part.sum(0) for part in (counts.tp, counts.fp, counts.fn)))
        of_class[f"{metric}_dataset"] = [number(value) for value in pooled]
        of_class[f"{metric}_class"] = [number(value) for value in mean(table, 0)]
    of_class["images"] = [int(n) for n in _active(counts, presence).sum(0)]
    return {**found, "per_class": of_class}


def names(
    quantiles: Sequence[float] = (1, 5), thresholds: Sequence[float] = (0.5, 0.7), measures: Sequence[str] = DEFAULT
) -> tuple[str, ...]:
    """The keys of all scores that are one number, calibration included.

    >>> "miou_dataset" in names() and "ece_image" in names()
    True
    """
    calibrated = (f"{name}_{average}" for name in CALIBRATED for average in ("dataset", "image"))
    return (*counted_names(quantiles, thresholds, measures), *calibrated, "ace", "aurc")


def counted_names(
    quantiles: Sequence[float] = (1, 5), thresholds: Sequence[float] = (0.5, 0.7), measures: Sequence[str] = DEFAULT
) -> tuple[str, ...]:
    """The keys of the scores that are one number and follow from counts."""
    nothing = np.zeros((0, 1), np.int64)
    counts = Counts(nothing, nothing, nothing, nothing[:, 0], nothing[:, 0])
    keys = summarize(counts, quantiles=quantiles, thresholds=thresholds, measures=measures)
    return tuple(key for key in keys if key != "per_class")


def per_pair(counts: Counts, metric: str = "iou", *, presence: str = "label") -> Floats:
    """(N, C) a measure of each image and class; NaN where the class is absent."""
    table = registered.load(metric)(counts.tp, counts.fp, counts.fn)
    return np.where(_active(counts, presence), table, np.nan)


def per_image(counts: Counts, metric: str = "iou", *, presence: str = "label") -> Floats:
    """(N,) mean over the classes in each image's label; NaN for a fully void image."""
    means: Floats = mean(per_pair(counts, metric, presence=presence), 1)
    return means


def miou_dataset(counts: Counts) -> float | None:
    """mIoU^D alone: it chooses the best epoch and the best member, which other scores do not concern."""
    pooled = iou(*(part.sum(0) for part in (counts.tp, counts.fp, counts.fn)))
    return number(mean(pooled))


def accuracy(counts: Counts) -> float | None:
    """Acc alone: the share of all valid pixels that are right."""
    return number(divide(counts.tp.sum(), (counts.tp + counts.fn).sum()))


def foreground(counts: Counts, *, empty: str = "one") -> dict[str, float | None]:
    """The binary view: class 1 alone, as medical challenges score it.

    Args:
        counts: of two classes, 1 being the foreground.
        empty: what an image without foreground in label and prediction scores: "one", "zero" or
            "skip". A false alarm on an image without foreground scores 0 under each.
    """
    if counts.num_classes != 2:
        raise ValueError(f"counts have {counts.num_classes} classes, wanted 2: background and foreground")
    if empty not in ("one", "zero", "skip"):
        raise ValueError(f"empty must be 'one', 'zero' or 'skip', found {empty!r}")
    found: dict[str, float | None] = {}
    for metric, measure in (("iou", iou), ("dice", dice)):
        pooled = measure(*(part[:, 1].sum() for part in (counts.tp, counts.fp, counts.fn)))
        values = measure(counts.tp[:, 1], counts.fp[:, 1], counts.fn[:, 1])
        if empty != "skip":
            values = np.where(np.isnan(values) & (counts.valid > 0), float(empty == "one"), values)
        found |= {f"{metric}_dataset": number(pooled), f"{metric}_image": number(mean(values))}
    return found


def weighted(
    counts: Counts,
    weights: Floats,
    *,
    quantiles: Sequence[float] = (1, 5),
    thresholds: Sequence[float] = (0.5, 0.7),
    presence: str = "label",
    names: Collection[str] | None = None,
    measures: Sequence[str] = DEFAULT,
) -> dict[str, Floats]:
    """Every score under each of R weightings of the images, (R,) each; undefined is NaN.

    A weight k stands for k copies of the image, 0 for none of it. `dataset` scores pool the weighted counts.

    Args:
        counts: one row per image.
        weights: (R, N) whole numbers.
        quantiles: as `summarize`.
        thresholds: as `summarize`.
        presence: as `summarize`.
        names: compute these scores alone, of whichever measures; a name that is no score costs nothing.
        measures: as `summarize`.

    Raises:
        ValueError: `weights` is not (R, N), or a percentage or threshold is out of its range.
    """
    if weights.ndim != 2 or weights.shape[1] != len(counts):
        raise ValueError(f"weights are {weights.shape}, wanted (R, {len(counts)})")
    if not all(0 < q <= 100 for q in quantiles) or not all(0 <= t <= 1 for t in thresholds):
        raise ValueError(
            f"quantiles are {quantiles}, wanted in (0, 100]; thresholds are {thresholds}, wanted in [0, 1]"
        )
    loaded = {name: registered.load(name) for name in (measures if names is None else registered.named_in(names))}
    parts = [
        _block(
            counts,
            np.asarray(weights[first : first + _ROWS], np.float64),
            quantiles,
            thresholds,
            presence,
            names,
            loaded,
        )
        for first in range(0, len(weights), _ROWS)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def options_of(names: Collection[str]) -> dict[str, tuple[float, ...]]:
    """The quantiles and thresholds that stand in names of scores, as `weighted` takes them.

    >>> options_of(["miou_image_q10", "share_iou_ge_0.9_class", "acc", "mdice_class_qbar"])
    {'quantiles': (10.0,), 'thresholds': (0.9,)}
    """
    found = {"quantiles": r"_q([0-9.]+)\Z", "thresholds": r"^share_iou_ge_([0-9.]+?)(?:_class)?\Z"}
    return {
        option: tuple(sorted({float(match[1]) for name in names if (match := re.search(pattern, name))}))
        for option, pattern in found.items()
    }


def _block(
    counts: Counts,
    weights: Floats,
    quantiles: Sequence[float],
    thresholds: Sequence[float],
    presence: str,
    names: Collection[str] | None,
    measures: Mapping[str, registered.Measure],
) -> dict[str, Floats]:
    active = _active(counts, presence)
    tp, fp, fn = (weights @ part for part in (counts.tp, counts.fp, counts.fn))  # (R, C), exact below 2^53
    found: dict[str, Floats] = {"acc": divide(tp.sum(1), (tp + fn).sum(1))}
    for metric, measure in measures.items():
        table = per_pair(counts, metric, presence=presence)
        images = mean(table, 1)
        found[f"m{metric}_dataset"] = mean(measure(tp, fp, fn), 1)
        found[f"m{metric}_image"] = _weighted_mean(images[:, None], weights)[:, 0]
        found[f"m{metric}_class"] = mean(_weighted_mean(table, weights), 1)
        for average, columns in (("image", images[:, None]), ("class", table)):
            start = f"m{metric}_{average}_q"
            if names is None or any(name.startswith(start) for name in names):
                found |= {start + end: values for end, values in _worst(columns, weights, quantiles).items()}
    pairs = active.astype(np.float64)
    for threshold in thresholds:
        reached = (_reaches(counts, threshold) & active).astype(np.float64)
        found[f"share_iou_ge_{threshold:g}"] = divide(weights @ reached.sum(1), weights @ pairs.sum(1))
        found[f"share_iou_ge_{threshold:g}_class"] = mean(divide(weights @ reached, weights @ pairs), 1)
    return found if names is None else {name: found[name] for name in names if name in found}


def _worst(columns: Floats, weights: Floats, quantiles: Sequence[float]) -> dict[str, Floats]:
    """By "5" or "bar": (R,) mean over columns of the mean of the lowest values of each."""
    values = mean(_tails(columns, weights, (*quantiles, *TENS)), 2)  # (Q, R)
    found = {f"{q:g}": value for q, value in zip(quantiles, values, strict=False)}
    return found | {"bar": mean(values[len(quantiles) :], 0)}


def _tails(table: Floats, weights: Floats, percentages: Sequence[float]) -> Floats:
    """(Q, R, columns): mean of the max(1, floor(n q / 100)) lowest values of each column under weights.

    The rows of a column are sorted once; the weights up to each row are its cumulative count.
    """
    transposed = np.ascontiguousarray(weights.T)  # rows of images: sums over them run along memory
    found = np.full((len(percentages), len(weights), table.shape[1]), np.nan)
    places = np.arange(len(weights))[None]
    for j, column in enumerate(table.T):
        order = np.argsort(column, kind="stable")[: (~np.isnan(column)).sum()]
        if not len(order):
            continue
        values, copies = column[order], transposed[order]
        reached, sums = np.cumsum(copies, axis=0), np.cumsum(copies * values[:, None], axis=0)
        number = reached[-1].astype(np.int64)
        wanted = np.stack([np.maximum(1, _percent(number, q)) for q in percentages]).astype(np.float64)
        last = _first_reaching(reached, wanted)  # (Q, R)
        surplus = reached[last, places] - wanted
        means = (sums[last, places] - surplus * values[last]) / wanted
        found[:, :, j] = np.where(number > 0, means, np.nan)
    return found


def _percent(number: NDArray[np.int64], q: float) -> NDArray[np.int64]:
    """floor(number q / 100), in integers."""
    share = Fraction(str(q)) / 100
    return number * share.numerator // share.denominator


def _first_reaching(reached: Floats, wanted: Floats) -> NDArray[np.int64]:
    """(Q, R) first row of the non-decreasing `reached` (n, R) that is at least `wanted` (Q, R), by bisection."""
    low = np.zeros(wanted.shape, np.int64)
    high = np.full(wanted.shape, len(reached) - 1)
    columns = np.arange(wanted.shape[1])[None]
    for _ in range(len(reached).bit_length()):
        middle = (low + high) // 2
        enough = reached[middle, columns] >= wanted
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return high


def _active(counts: Counts, presence: str) -> NDArray[np.bool_]:
    """(N, C): does the class count in the image?"""
    if presence not in ("label", "union"):
        raise ValueError(f"presence must be 'label' or 'union', found {presence!r}")
    present: NDArray[np.bool_] = counts.tp + counts.fn + (counts.fp if presence == "union" else 0) > 0
    return present


def _reaches(counts: Counts, threshold: float) -> NDArray[np.bool_]:
    """(N, C): IoU >= threshold, compared in integers so that equality counts."""
    exact = Fraction(str(threshold))
    reached: NDArray[np.bool_] = counts.tp * exact.denominator >= (counts.tp + counts.fp + counts.fn) * exact.numerator
    return reached


def _weighted_mean(table: Floats, weights: Floats) -> Floats:
    """(R, columns): mean of the defined values of each column."""
    defined = ~np.isnan(table)
    return divide(weights @ np.where(defined, table, 0.0), weights @ defined.astype(np.float64))
