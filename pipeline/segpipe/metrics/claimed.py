"""What a paper's table is worth: the probability that its best method is not the better one.

With nothing known before, the true difference of two means lies around the stated one like a t variable (Welch 1947),
and the share of it at or below 0 is the probability of a false claim of outperformance (Christodoulou et al. 2025,
arXiv:2505.04720, asks the same with spreads that are modelled where a paper states none; here they must be stated).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.special import stdtr

from segpipe.core.errors import DataError
from segpipe.metrics.elsewhere import lines_of
from segpipe.metrics.naming import foreign, lower_is_better

COLUMNS = ("method", "mean", "spread", "n")


@dataclass(frozen=True)
class Claimed:
    """A line of a table: the mean of `n` trainings or images, and their standard deviation."""

    method: str
    mean: float
    spread: float
    n: int


@dataclass(frozen=True)
class Doubt:
    """The best method beside another: difference and its standard error, and the probability that it is not better."""

    best: str
    other: str
    difference: float
    error: float
    probability: float


def read_claims(path: Path) -> list[Claimed]:
    """The lines of a table in CSV with columns method, mean, spread, n.

    Raises:
        DataError: a column is missing, a cell is no number, or there are fewer than two lines.
    """
    lines = lines_of(path)
    missing = [name for name in COLUMNS if not lines or name not in lines[0]]
    if len(lines) < 2 or missing:
        raise DataError(f"{path}: wanted two lines or more with columns {', '.join(COLUMNS)}")
    found = []
    for number, line in enumerate(lines, 2):
        try:
            one = Claimed(line["method"], float(line["mean"]), float(line["spread"]), int(line["n"]))
        except (TypeError, ValueError):
            raise DataError(f"{path}, line {number}: mean and spread must be numbers, n a whole one") from None
        if not (math.isfinite(one.mean) and math.isfinite(one.spread) and one.spread >= 0 and one.n >= 2):
            raise DataError(f"{path}, line {number}: wanted a spread of 0 or more and n of 2 or more")
        found.append(one)
    return found


def doubts(claimed: Sequence[Claimed], correlation: float = 0.0, *, metric: str = "") -> list[Doubt]:
    """The best of the table beside every other method, in its order.

    Args:
        claimed: two lines or more.
        correlation: between the scores of two methods on the same images or seeds, 0 where unknown.
        metric: its name says whether lower is better.

    >>> [round(doubt.probability, 3) for doubt in doubts([Claimed("a", 2.0, 1.0, 5), Claimed("b", 1.0, 1.0, 5)])]
    [0.076]
    """
    sign = -1 if lower_is_better(metric) or lower_is_better(foreign(metric)) else 1
    best = max(claimed, key=lambda one: sign * one.mean)
    return [_doubt(best, other, correlation, sign) for other in claimed if other is not best]


def _doubt(best: Claimed, other: Claimed, correlation: float, sign: int) -> Doubt:
    parts = [one.spread**2 / one.n for one in (best, other)]
    error = math.sqrt(max(0.0, sum(parts) - 2 * correlation * math.sqrt(parts[0] * parts[1])))
    difference = best.mean - other.mean
    if not error:
        return Doubt(best.method, other.method, difference, 0.0, 0.0 if difference else 0.5)
    weights = [part**2 / (one.n - 1) for part, one in zip(parts, (best, other), strict=True)]
    freedom = sum(parts) ** 2 / sum(weights)
    probability = float(stdtr(freedom, -sign * difference / error))
    return Doubt(best.method, other.method, difference, error, probability)
