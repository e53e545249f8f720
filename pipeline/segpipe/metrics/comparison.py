"""Is the difference real? Paired tests between runs, with the answer in words.

The paired bootstrap resamples images (or groups) and seeds of both runs together; Wilcoxon's test
looks at the signs and sizes of per-image differences; Holm's step-down keeps the chance of a single
false alarm over all pairs; Friedman and Nemenyi rank many runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from segpipe.metrics.bootstrap import FEWEST_UNITS, LEVEL, Resampling, Tables, interval, resampled
from segpipe.metrics.defined import Floats, mean
from segpipe.metrics.scores import per_image

EXACT_PAIRS = 50  # Wilcoxon: exact up to here when no two differences tie
LOWER_IS_BETTER = ("ece", "sce", "nll", "brier", "ace", "aurc")  # scores that begin so


@dataclass(frozen=True)
class Difference:
    """first - second of one score: value, interval, p of the paired bootstrap and of Wilcoxon's test.

    `p_holm` is p after Holm over all pairs that were compared together. None is undefined.
    """

    first: str
    second: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    p_wilcoxon: float | None  # over the mean IoU of the units, whatever the metric
    unit: str
    units: int
    seeds: tuple[int, int]
    level: float = LEVEL

    @property
    def shown(self) -> bool:
        """True when the interval leaves out 0, p, corrected where there were several pairs, is small, and
        there are units enough for that to mean something.
        """
        bounded = self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)
        p = self.p if self.p_holm is None else self.p_holm
        return bool(bounded and p is not None and p <= 1 - self.level and self.units >= FEWEST_UNITS)

    @property
    def verdict(self) -> str:
        """The answer in words."""
        title, share = pretty(self.metric), f"{100 * self.level:g} % interval"
        if self.value is None or self.low is None or self.high is None:
            return f"{title}: undefined for {self.first} or {self.second}"
        factor, unit = scale(self.metric)
        sign = -factor if lower_is_better(self.metric) else factor
        ahead, low, high = (sign * value for value in (self.value, self.low, self.high))
        low, high = sorted((low, high))
        if self.units < FEWEST_UNITS:
            return f"{title}: {self.units} {self.unit}s are too few to tell {self.first} and {self.second} apart"
        if not self.shown:
            return (
                f"{title}: no difference shown between {self.first} and {self.second} "
                f"({ahead:+.{digits(factor)}f}{unit}, {share} {low:+.{digits(factor)}f} to {high:+.{digits(factor)}f})"
            )
        better, other = (self.first, self.second) if ahead > 0 else (self.second, self.first)
        low, high = (low, high) if ahead > 0 else (-high, -low)
        return (
            f"{title}: {better} is better than {other} by {abs(ahead):.{digits(factor)}f}{unit}, "
            f"{share} {low:.{digits(factor)}f} to {high:.{digits(factor)}f}"
        )


def scale(metric: str) -> tuple[float, str]:
    """Factor and unit in which a difference is told: points of 100, but NLL and Brier as they are."""
    return (1.0, "") if metric.startswith(("nll", "brier")) else (100.0, " points")


def digits(factor: float) -> int:
    """Decimals of a told difference."""
    return 1 if factor == 100 else 4


def lower_is_better(metric: str) -> bool:
    """True for calibration errors."""
    return metric.startswith(LOWER_IS_BETTER)


def pretty(metric: str) -> str:
    """A score's name as papers write it.

    >>> pretty("miou_dataset"), pretty("mdice_class_q5"), pretty("nll_image"), pretty("acc")
    ('mIoU^D', 'mDice^C worst 5 %', 'NLL^I', 'Acc')
    >>> pretty("miou_image_qbar"), pretty("share_iou_ge_0.5")
    ('mIoU^I mean of worst 10..100 %', 'share of IoU >= 0.5')
    """
    if metric.startswith("share_iou_ge_"):
        share, _, of_class = metric.removeprefix("share_iou_ge_").partition("_")
        return f"share of IoU >= {share}{', mean over classes' if of_class else ''}"
    name, *rest = metric.split("_")
    shown = {"miou": "mIoU", "macc": "mAcc", "mdice": "mDice", "acc": "Acc", "brier": "Brier"}.get(name, name.upper())
    for part in rest:
        if part in ("dataset", "image", "class"):
            shown += "^" + {"dataset": "D", "image": "I", "class": "C"}[part]
        elif part == "qbar":
            shown += " mean of worst 10..100 %"
        elif part.startswith("q"):
            shown += f" worst {part[1:]} %"
    return shown


@dataclass(frozen=True)
class Draws:
    """By run, the named scores of each seed as measured and, seeds together, on resamples that all runs share."""

    runs: Mapping[str, Sequence[Tables]]
    metrics: tuple[str, ...]
    resampling: Resampling
    level: float
    points: dict[str, list[dict[str, Floats]]]
    resamples: dict[str, dict[str, Floats]]

    def point(self, run: str, metric: str) -> float:
        """Mean over seeds; NaN when a seed does not define it."""
        found = [float(scores[metric][0]) for scores in self.points[run] if metric in scores]
        return float(np.mean(found)) if len(found) == len(self.points[run]) else math.nan


def draw(
    runs: Mapping[str, Sequence[Tables]],
    groups: Sequence[str],
    metrics: Sequence[str],
    *,
    resamples: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
) -> Draws:
    """Resample all runs together, on the same images in the same order.

    Args:
        runs: by name, the tables of each seed.
        groups: (N,) group of each image; see `Resampling.of`.
        metrics: scores of `summarize`, with any quantile or threshold, or of `Bins.weighted`.
        resamples: at least; more are drawn where many pairs need a smaller p than 2 / (resamples + 1).

    Raises:
        ValueError: tables of another number of images or classes.
    """
    _refuse_unequal(runs, len(groups))
    resampling = Resampling.of(groups, enough(resamples, len(runs), level), seed)
    ones = np.ones((1, len(groups)))
    points = {name: [tables.scores(ones, metrics) for tables in seeds] for name, seeds in runs.items()}
    drawn = {name: resampled(seeds, resampling, metrics) for name, seeds in runs.items()}
    return Draws(runs, tuple(metrics), resampling, level, points, drawn)


def compare(
    runs: Mapping[str, Sequence[Tables]],
    groups: Sequence[str],
    metrics: Sequence[str],
    *,
    resamples: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
) -> list[Difference]:
    """Every pair of runs under every metric; the arguments are those of `draw`.

    Raises:
        ValueError: as `draw`; fewer than two runs, a metric of no run.
    """
    if len(runs) < 2:
        raise ValueError(f"found {len(runs)} run, wanted at least two to compare")
    return differences(draw(runs, groups, metrics, resamples=resamples, level=level, seed=seed))


def differences(draws: Draws) -> list[Difference]:
    """Every pair of runs under every metric; none of one run.

    Raises:
        ValueError: a metric of no run.
    """
    runs, resampling = draws.runs, draws.resampling
    for metric in draws.metrics:
        if not any(metric in scores for scores in draws.resamples.values()):
            raise ValueError(f"no run has the score '{metric}'")
    per_unit = {name: resampling.unit_means(_image_means(seeds)) for name, seeds in runs.items()}
    p_units = {pair: wilcoxon(per_unit[pair[0]], per_unit[pair[1]]) for pair in combinations(runs, 2)}
    found: list[Difference] = []
    for metric in draws.metrics:
        rows = []
        for pair in combinations(runs, 2):
            sides = [draws.resamples[name].get(metric) for name in pair]
            points = [draws.point(name, metric) for name in pair]
            seeds = len(runs[pair[0]]), len(runs[pair[1]])
            common = {"first": pair[0], "second": pair[1], "metric": metric, "seeds": seeds, "level": draws.level}
            rows.append(_difference(sides, points, resampling, p_units[pair], common))
        adjusted = [None] if len(rows) == 1 else holm([row.p for row in rows])
        found += [replace(row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]
    return found


def enough(resamples: int, runs: int, level: float = LEVEL) -> int:
    """Resamples so many that the smallest p, times the number of pairs, stays below half of 1 - level."""
    pairs = runs * (runs - 1) // 2
    return max(resamples, math.ceil(4 * pairs / (1 - level)))


def _difference(
    sides: Sequence[Floats | None],
    points: Sequence[float],
    resampling: Resampling,
    p_units: float | None,
    common: dict[str, Any],
) -> Difference:
    value = points[0] - points[1]
    bounds, p = None, None
    if sides[0] is not None and sides[1] is not None and not math.isnan(value):
        difference = sides[0] - sides[1]
        bounds, p = interval(difference, common["level"]), bootstrap_p(difference)
    return Difference(
        value=None if math.isnan(value) else value,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        p=p,
        p_holm=None,
        p_wilcoxon=p_units,
        unit=resampling.unit,
        units=resampling.units,
        **common,
    )


def bootstrap_p(differences: Floats) -> float | None:
    """min(1, 2 min(#(d <= 0) + 1, #(d >= 0) + 1) / (R + 1)) over the defined resamples."""
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return None
    side = min(int((defined <= 0).sum()), int((defined >= 0).sum())) + 1
    return min(1.0, 2 * side / (len(defined) + 1))


def wilcoxon(first: Floats, second: Floats) -> float | None:
    """Two-sided p of the signed-rank test on paired values; pairs with an undefined value are left out.

    Zero differences are dropped. Exact up to 50 pairs without ties, otherwise normal with the tie
    correction. None without a pair that differs.
    """
    from scipy import stats

    difference = (first - second)[~np.isnan(first - second)]
    difference = difference[difference != 0]
    if not len(difference):
        return None
    tied = len(np.unique(np.abs(difference))) < len(difference)
    exact = len(difference) <= EXACT_PAIRS and not tied
    found = stats.wilcoxon(difference, method="exact" if exact else "asymptotic")
    return None if math.isnan(found.pvalue) else float(found.pvalue)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979): the i-th smallest of m times m - i + 1, never decreasing.

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    defined = sorted((value, i) for i, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, i) in enumerate(defined):
        largest = max(largest, min(1.0, value * (len(defined) - rank)))
        adjusted[i] = largest
    return adjusted


@dataclass(frozen=True)
class Ranking:
    """Friedman's test and Nemenyi's critical difference of average ranks (rank 1 is best)."""

    ranks: dict[str, float]
    p: float | None
    critical_difference: float
    units: int

    def cliques(self) -> list[tuple[str, ...]]:
        """Largest sets of runs, best first, whose average ranks lie within the critical difference."""
        order = sorted(self.ranks, key=lambda name: self.ranks[name])
        found: list[tuple[str, ...]] = []
        for start in range(len(order)):
            within = [n for n in order[start:] if self.ranks[n] - self.ranks[order[start]] <= self.critical_difference]
            if len(within) > 1 and not (found and set(within) <= set(found[-1])):
                found.append(tuple(within))
        return found


def rank(values: Mapping[str, Floats], *, level: float = LEVEL) -> Ranking:
    """Rank runs on every unit (higher is better, ties share their ranks), units with an undefined value left out.

    p is Friedman's with tie correction (three runs or more); the critical difference is
    q sqrt(k (k + 1) / (6 N)), q the studentised range over sqrt 2 (Demsar 2006, JMLR 7, section 3.2.2).

    Raises:
        ValueError: fewer than two runs, or no unit that all define.
    """
    from scipy import stats

    table = np.stack(list(values.values()), 1)  # (units, k)
    table = table[~np.isnan(table).any(1)]
    if table.shape[1] < 2 or not len(table):
        raise ValueError(f"found {table.shape[1]} runs on {len(table)} common units, wanted two runs and one unit")
    k, n = table.shape[1], len(table)
    ranks = stats.rankdata(-table, axis=1).mean(0)
    differ = bool((table != table[:, :1]).any())
    p = float(stats.friedmanchisquare(*table.T).pvalue) if k > 2 and n > 1 and differ else None
    q = float(stats.studentized_range.ppf(level, k, np.inf)) / math.sqrt(2)
    critical = q * math.sqrt(k * (k + 1) / (6 * n))
    shown = None if p is None or math.isnan(p) else p
    return Ranking({name: float(r) for name, r in zip(values, ranks, strict=True)}, shown, critical, n)


def _image_means(seeds: Sequence[Tables]) -> Floats:
    """(N,) mean IoU of each image, averaged over seeds."""
    values: Floats = mean(np.stack([per_image(tables.counts) for tables in seeds]), 0)
    return values


def _refuse_unequal(runs: Mapping[str, Sequence[Tables]], images: int) -> None:
    for name, seeds in runs.items():
        for tables in seeds:
            if len(tables.counts) != images:
                raise ValueError(f"{name} has {len(tables.counts)} images, wanted the {images} of the others")
    widths = {name: sorted({tables.counts.num_classes for tables in seeds}) for name, seeds in runs.items()}
    if len({width for found in widths.values() for width in found}) > 1:
        raise ValueError(f"numbers of classes differ: {widths}; compare tables of one class list")
