"""Which of the evaluated runs differ: their stored tables, resampled together, as tables and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from segpipe.core.errors import ConfigError, DataError, suggestion
from segpipe.core.spreadsheet import csv_text
from segpipe.metrics.bootstrap import Resampling, Tables, interval
from segpipe.metrics.comparison import (
    Difference,
    Ranking,
    differences,
    digits,
    draw,
    lower_is_better,
    pretty,
    rank,
    scale,
)
from segpipe.metrics.defined import Floats
from segpipe.metrics.scores import names as known
from segpipe.metrics.tables import Stored, read_tables
from segpipe.report.tables import Table

PAIRS_HEADER = (
    "metric", "first", "second", "difference", "low", "high", "p", "p_holm", "p_wilcoxon_image_iou", "shown", "unit",
    "units",
)  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """The best run of a metric and, best first, the others: with its numbers in every resample (by losses that agree
    on these labels, say), not shown to differ, shown to be worse, with a difference that is undefined.
    """

    best: str
    same: list[str]
    ties: list[str]
    worse: list[str]
    undefined: list[str]


@dataclass(frozen=True)
class Judgement:
    """By run: score, interval and resamples of every metric; all paired differences; by metric, the ranking of
    the runs over units.
    """

    scores: dict[str, dict[str, float]]
    bounds: dict[str, dict[str, tuple[float, float] | None]]
    drawn: dict[str, dict[str, Floats]]
    seeds: dict[str, int]
    differences: list[Difference]
    rankings: dict[str, Ranking]
    unit: str
    units: int
    resamples: int
    caution: str

    def order(self, metric: str) -> list[str]:
        """Runs that define the metric, best first."""
        sign = 1 if lower_is_better(metric) else -1
        defined = [name for name in self.scores if not np.isnan(self.scores[name].get(metric, np.nan))]
        return sorted(defined, key=lambda name: sign * self.scores[name][metric])

    @cached_property
    def _pairs(self) -> dict[tuple[str, frozenset[str]], Difference]:
        return {(d.metric, frozenset((d.first, d.second))): d for d in self.differences}

    def between(self, first: str, second: str, metric: str) -> Difference:
        """The comparison of two runs, in the order in which it was made."""
        return self._pairs[metric, frozenset((first, second))]

    def standing(self, metric: str) -> Standing:
        """How all runs that define the metric stand to the best of them."""
        best, *others = self.order(metric) or [""]
        found, twins = Standing(best, [], [], [], []), (self.twins(metric) or [[]])[0]
        for name in others:
            pair = self.between(best, name, metric)
            if pair.low is None:
                found.undefined.append(name)
            elif name in twins:
                found.same.append(name)
            else:
                (found.worse if pair.shown else found.ties).append(name)
        return found

    def twins(self, metric: str) -> list[list[str]]:
        """The runs that define the metric, best first, those with the same numbers in every resample together."""
        found: dict[bytes, list[str]] = {}
        for name in self.order(metric):
            found.setdefault(self.drawn[name][metric].tobytes(), []).append(name)
        return list(found.values())


def read_runs(folders: Mapping[str, Sequence[Path]], split: str) -> tuple[dict[str, list[Tables]], list[str]]:
    """The tables of every run's seeds, and the group of each image.

    Raises:
        DataError: folders differ in their images, groups or classes.
    """
    runs: dict[str, list[Tables]] = {}
    first: tuple[Path, Stored] | None = None
    for name, seeds in folders.items():
        runs[name] = []
        for folder in seeds:
            stored = read_tables(folder, split)
            first = first or (folder, stored)
            for what in ("images", "groups", "classes"):
                ours, theirs = getattr(stored, what), getattr(first[1], what)
                if ours != theirs:
                    raise DataError(
                        f"{folder} has other {what} than {first[0]} ({len(ours)} and {len(theirs)}); "
                        "compare results of one dataset and one evaluation"
                    )
            runs[name].append(stored.tables)
    return runs, first[1].groups if first else []


def judge(
    folders: Mapping[str, Sequence[Path]], metrics: Sequence[str], *, resamples: int = 1000, split: str = "test"
) -> Judgement:
    """Read and compare all runs under every metric.

    Raises:
        ConfigError: a metric that no run has. DataError: as `read_runs`.
    """
    runs, groups = read_runs(folders, split)
    draws = draw(runs, groups, metrics, resamples=resamples)
    resampling, drawn = draws.resampling, draws.resamples
    for metric in metrics:
        if not any(metric in scores for scores in drawn.values()):
            raise ConfigError(
                f"no run has the score '{metric}', or it does not follow from what is stored of each image"
                f"{suggestion(metric, known())}; scores from counts, ece_, nll_ and brier_ do"
            )
    scores = {
        name: {m: draws.point(name, m) for m in metrics if all(m in s for s in seeds)}
        for name, seeds in draws.points.items()
    }
    bounds = {name: {m: interval(found[m]) for m in metrics if m in found} for name, found in drawn.items()}
    return Judgement(
        scores,
        bounds,
        drawn,
        {name: len(seeds) for name, seeds in runs.items()},
        differences(draws),
        _rankings(runs, resampling, metrics),
        resampling.unit,
        resampling.units,
        len(resampling.weights),
        resampling.caution,
    )


def _rankings(
    runs: Mapping[str, Sequence[Tables]], resampling: Resampling, metrics: Sequence[str]
) -> dict[str, Ranking]:
    """By metric, the ranking of the runs that define it by the score of each unit alone, averaged over seeds."""
    alone = (resampling.members == np.arange(resampling.units)[:, None]).astype(np.uint16)  # (units, N)
    each = {name: [tables.scores(alone, metrics) for tables in seeds] for name, seeds in runs.items()}
    found = {}
    for metric in metrics:
        sign = -1.0 if lower_is_better(metric) else 1.0
        values = {
            name: sign * np.mean([scores[metric] for scores in seeds], axis=0)
            for name, seeds in each.items()
            if all(metric in scores for scores in seeds)
        }
        if len(values) > 1 and (~np.isnan(np.stack(list(values.values()))).any(0)).any():
            found[metric] = rank(values)
    return found


def ranking_table(found: Judgement, metric: str) -> Table:
    """Score, interval, difference to the best and verdict of every run; ties share a rank."""
    order, standing = found.order(metric), found.standing(metric)
    alike = [standing.best, *standing.same, *standing.ties]
    rows = []
    for place, name in enumerate(order, 1):
        bounds = found.bounds[name].get(metric)
        shown = "–" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"
        mark = f"1{'=' if len(alike) > 1 else ''}" if name in alike else str(place)
        score = f"{found.scores[name][metric]:.4f}"
        rows.append([name, mark, score, shown, *_against_best(found, standing, name, metric)])
    header = ["what", "rank", pretty(metric), "95 % interval", "behind the best", "p (Holm)", "verdict"]
    return Table(header, rows)


def _against_best(found: Judgement, standing: Standing, name: str, metric: str) -> list[str]:
    if name == standing.best:
        return ["–", "–", "best"]
    difference = found.between(standing.best, name, metric)
    if difference.value is None or difference.low is None or difference.high is None:
        return ["–", "–", "undefined"]
    factor, _ = scale(metric)
    value, *bounds = (
        factor * _behind(difference, standing.best, v) for v in (difference.value, difference.low, difference.high)
    )
    low, high = sorted(bounds)
    p = difference.p if difference.p_holm is None else difference.p_holm
    return [
        f"{value:.{digits(factor)}f} ({low:.{digits(factor)}f} to {high:.{digits(factor)}f})",
        "–" if p is None else f"{p:.3f}",
        "the same numbers" if name in standing.same else "worse" if difference.shown else "tie: no difference shown",
    ]


def _behind(difference: Difference, best: str, value: float) -> float:
    """The value with the sign that makes `best` ahead positive."""
    ahead = 1 if difference.first == best else -1
    return ahead * value * (-1 if lower_is_better(difference.metric) else 1)


def pairs_csv(found: Judgement) -> str:
    """All pairs and metrics, a line each."""
    return csv_text(
        PAIRS_HEADER,
        [
            [d.metric, d.first, d.second, d.value, d.low, d.high, d.p, d.p_holm, d.p_wilcoxon, d.shown, d.unit, d.units]
            for d in found.differences
        ],
    )


def sentence(found: Judgement, metric: str) -> str:
    """Which runs tie with the best, in words."""
    if len(found.order(metric)) < 2:
        return ""
    if found.caution:
        return f"Note: {found.caution}."
    seeds = " and the seeds" if any(max(d.seeds) > 1 for d in found.differences) else ""
    how, title = f"Resampling {found.units} {found.unit}s{seeds}", pretty(metric)
    standing, told = found.standing(metric), []
    if standing.ties:
        told.append(f"{how} shows no difference in {title} between {standing.best} and {listed(standing.ties)}: a tie.")
    elif standing.worse:
        told.append(f"{how} shows that {standing.best} is better than {beaten(standing)}.")
    if standing.same:
        told.append(f"The same {title} as {standing.best} in every resample: {listed(standing.same)}.")
    if standing.undefined:
        told.append(f"The difference to {listed(standing.undefined)} is undefined in most resamples.")
    return " ".join(told)


def beaten(standing: Standing) -> str:
    """Those that are shown to be worse, where none ties."""
    if standing.undefined:
        return listed(standing.worse)
    return "all the rest" if standing.same else "all others"


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
