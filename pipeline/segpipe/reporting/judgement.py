"""Which of the evaluated runs differ: their stored tables, resampled together, as tables and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.core.errors import ConfigError, DataError, suggestion
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
from segpipe.reporting.tables import csv_text, markdown, read_tables

PAIRS_HEADER = (
    "metric", "first", "second", "difference", "low", "high", "p", "p_holm", "p_wilcoxon_image_iou", "shown", "unit",
    "units",
)  # fmt: skip


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

    def between(self, first: str, second: str, metric: str) -> Difference:
        """The comparison of two runs, in the order in which it was made."""
        return next(d for d in self.differences if d.metric == metric and {d.first, d.second} == {first, second})

    def ties(self, metric: str) -> list[str]:
        """Runs from which the best is not shown to differ; a difference that is undefined is none."""
        best, *others = self.order(metric) or [""]
        pairs = {name: self.between(best, name, metric) for name in others}
        return [name for name, pair in pairs.items() if pair.low is not None and not pair.shown]

    def same(self, metric: str) -> list[str]:
        """Runs with the best one's numbers in every resample: by losses that agree on these labels, say."""
        best = self.drawn[(self.order(metric) or [""])[0]][metric] if self.ties(metric) else None
        return [n for n in self.ties(metric) if best is not None and np.array_equal(best, self.drawn[n][metric], True)]


def read_runs(folders: Mapping[str, Sequence[Path]], split: str) -> tuple[dict[str, list[Tables]], list[str]]:
    """The tables of every run's seeds, and the group of each image.

    Raises:
        DataError: folders differ in their images, groups or classes.
    """
    runs: dict[str, list[Tables]] = {}
    reference: tuple[Path, list[str], list[str], list[str]] | None = None
    for name, seeds in folders.items():
        runs[name] = []
        for folder in seeds:
            tables, images, groups, classes = read_tables(folder, split)
            reference = reference or (folder, images, groups, classes)
            for what, ours, theirs in zip(
                ("images", "groups", "classes"), (images, groups, classes), reference[1:], strict=True
            ):
                if ours != theirs:
                    raise DataError(
                        f"{folder} has other {what} than {reference[0]} ({len(ours)} and {len(theirs)}); "
                        "compare results of one dataset and one evaluation"
                    )
            runs[name].append(tables)
    return runs, reference[2] if reference else []


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
    several = len(runs) > 1
    return Judgement(
        scores,
        bounds,
        drawn,
        {name: len(seeds) for name, seeds in runs.items()},
        differences(draws) if several else [],
        _rankings(runs, resampling, metrics) if several else {},
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


def ranking_table(found: Judgement, metric: str) -> str:
    """Markdown: score, interval, difference to the best and verdict of every run; ties share a rank."""
    order, ties, same = found.order(metric), found.ties(metric), found.same(metric)
    rows = []
    for place, name in enumerate(order, 1):
        bounds = found.bounds[name].get(metric)
        shown = "–" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"
        tied = place == 1 or name in ties
        mark = f"{1 if tied else place}{'=' if tied and ties else ''}"
        against = _against_best(found, order, name, metric)
        if name in same:
            against[-1] = "the same numbers"
        rows.append([name, mark, f"{found.scores[name][metric]:.4f}", shown, *against])
    header = ["what", "rank", pretty(metric), "95 % interval", "behind the best", "p (Holm)", "verdict"]
    return markdown(header, rows)


def _against_best(found: Judgement, order: Sequence[str], name: str, metric: str) -> list[str]:
    if name == order[0]:
        return ["–", "–", "best"]
    difference = found.between(order[0], name, metric)
    if difference.value is None or difference.low is None or difference.high is None:
        return ["–", "–", "undefined"]
    factor, _ = scale(metric)
    value, *bounds = (
        factor * _behind(difference, order[0], v) for v in (difference.value, difference.low, difference.high)
    )
    low, high = sorted(bounds)
    p = difference.p if difference.p_holm is None else difference.p_holm
    return [
        f"{value:.{digits(factor)}f} ({low:.{digits(factor)}f} to {high:.{digits(factor)}f})",
        "–" if p is None else f"{p:.3f}",
        "worse" if difference.shown else "tie: no difference shown",
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
    order = found.order(metric)
    if len(order) < 2:
        return ""
    ties = found.ties(metric)
    if found.caution:
        return f"Note: {found.caution}."
    seeds = " and the seeds" if any(max(d.seeds) > 1 for d in found.differences) else ""
    how = f"Resampling {found.units} {found.unit}s{seeds}"
    if not ties:
        return f"{how} shows that {order[0]} is better than all others."
    return f"{how} shows no difference in {pretty(metric)} between {order[0]} and {', '.join(ties)}: a tie."
