"""Which of the evaluated runs differ: their stored tables, compared together, as tables and words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from segpipe.core.errors import ConfigError, suggestion
from segpipe.metrics.chances import Chances, chances
from segpipe.metrics.comparison import EQUIVALENCE, Difference, differences
from segpipe.metrics.error import interval_of
from segpipe.metrics.jackknife import Scored
from segpipe.metrics.naming import digits, lower_is_better, pretty, scale
from segpipe.metrics.sample import Sample, measure
from segpipe.metrics.scores import NOT_BY_IMAGE
from segpipe.metrics.scores import names as known
from segpipe.report.runs import fixed_networks, networks_of, read_runs
from segpipe.report.tables import Table


@dataclass(frozen=True)
class Standing:
    """The best run of a metric and, best first, the others: with its numbers, practically equal to it, undecided,
    worse, with a difference that is undefined.
    """

    best: str
    same: list[str]
    equal: list[str]
    undecided: list[str]
    worse: list[str]
    undefined: list[str]

    @property
    def ties(self) -> list[str]:
        """All that the best is not shown to be better than, but those with its numbers."""
        return [*self.equal, *self.undecided]

    @property
    def leaders(self) -> list[str]:
        """The best and all that cannot be told from it."""
        return [self.best, *self.same, *self.ties] if self.best else []


@dataclass(frozen=True)
class Judgement:
    """All results scored and compared: by run and metric its interval, by metric who is how probably the best."""

    sample: Sample
    bounds: dict[str, dict[str, tuple[float, float] | None]]
    differences: list[Difference]
    chances: dict[str, Chances]

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """By run, the mean over seeds of every metric that it has."""
        return {run: {m: self.sample.point(run, m) for m in found} for run, found in self.sample.scores.items()}

    @property
    def seeds(self) -> dict[str, int]:
        """How many each run has."""
        return {run: len(seeds) for run, seeds in self.sample.seeds.items()}

    @property
    def unit(self) -> str:
        """What is left out: "group" or "image"."""
        return self.sample.units.unit

    @property
    def units(self) -> int:
        """How many there are."""
        return self.sample.units.number

    @property
    def caution(self) -> str:
        """Why nothing can be shown, whatever the metric; empty where it can."""
        return self.sample.units.caution

    @property
    def notes(self) -> list[str]:
        """What was left out of all comparisons: seeds that not all runs have."""
        cut = {run: seeds for run, seeds in self.sample.left_out.items() if seeds}
        if not cut:
            return []
        told = ", ".join(f"{' '.join(seeds)} of {run}" for run, seeds in cut.items())
        kept = next(" ".join(seeds) for run, seeds in self.sample.seeds.items() if self.sample.networks[run])
        return [f"compared on the seeds that all runs have ({kept}); left out: {told}"]

    def caution_of(self, metric: str) -> str:
        """Why nothing can be claimed under a metric; empty where something can."""
        pairs = (d.caution for d in self.differences if d.metric == metric and d.value is not None)
        return self.caution or next((caution for caution in pairs if caution), "")

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
        found = Standing(best, [], [], [], [], [])
        lists = {
            "the same": found.same, "practically equal": found.equal, "undecided": found.undecided,
            "better": found.worse, "undefined": found.undefined,
        }  # fmt: skip
        for name in others:
            lists[self.between(best, name, metric).word].append(name)
        return found

    def twins(self, metric: str) -> list[list[str]]:
        """The runs that define the metric, best first, those with the same numbers together."""
        found: dict[bytes, list[str]] = {}
        for name in self.order(metric):
            found.setdefault(self.sample.scores[name][metric].mean(0).tobytes(), []).append(name)
        return list(found.values())

    def only(self, names: Sequence[str]) -> Judgement:
        """The same comparison of some runs among themselves, as if the others had not been looked at."""
        sample = self.sample.only(names)
        return _judged(sample, region_of(self))

    def claim(self, metric: str, names: Sequence[str] | None = None) -> str:
        """What the comparisons of the best with `names`, or all, are about: "methods", "networks" or both."""
        best, *others = self.order(metric) or [""]
        claims = {self.between(best, name, metric).claim for name in (others if names is None else names)}
        return " and ".join(sorted(claims))


def judge(
    folders: Mapping[str, Sequence[Path]],
    metrics: Sequence[str],
    *,
    split: str = "test",
    equivalence: float = EQUIVALENCE,
    folds: int = 1,
    imported: Collection[str] = (),
) -> Judgement:
    """Read and compare all runs under every metric.

    imported: runs that are not trained here. One that lacks seeds of the others is compared by the mean of its
    networks, as an ensemble is, so that no seed of the others is left out for its sake.

    Raises:
        ConfigError: a metric that no run has. DataError: as `read_runs`.
    """
    runs, groups = read_runs(folders, split)
    made_of = {name: networks_of(name) for name in runs}
    fixed = fixed_networks({name: set(seeds) for name, seeds in runs.items()}, made_of, imported)
    made_of = {name: "" if name in fixed else made for name, made in made_of.items()}
    return judge_tables(runs, groups, metrics, networks=made_of, equivalence=equivalence, folds=folds)


def judge_tables(
    runs: Mapping[str, Mapping[str, Scored]],
    groups: Sequence[str],
    metrics: Sequence[str],
    *,
    networks: Mapping[str, str] | None = None,
    equivalence: float = EQUIVALENCE,
    folds: int = 1,
) -> Judgement:
    """Compare the tables of runs by seed under every metric; `networks` as in `metrics.sample.Sample`.

    Raises:
        ConfigError: a metric that no run has.
    """
    try:
        sample = measure(runs, groups, metrics, networks=networks, folds=folds)
    except ValueError as error:
        missing = next((metric for metric in metrics if f"'{metric}'" in str(error)), None)
        if missing is None:
            raise ConfigError(str(error)) from None
        if missing in NOT_BY_IMAGE:
            raise ConfigError(
                f"'{missing}' does not follow from what is stored of each image; take another score"
            ) from None
        near = "; it needs probabilities" if missing in known() else suggestion(missing, known())
        raise ConfigError(f"no run has the score '{missing}'{near}; see docs/metrics.md") from None
    return _judged(sample, equivalence)


def region_of(judged: Judgement) -> float:
    """Within which differences do not matter."""
    return next((d.equivalence for d in judged.differences), EQUIVALENCE)


def _judged(sample: Sample, equivalence: float) -> Judgement:
    bounds = {run: {m: interval_of(sample, run, m) for m in found} for run, found in sample.scores.items()}
    found = {metric: chances(sample, metric) for metric in sample.metrics}
    return Judgement(sample, bounds, differences(sample, equivalence=equivalence), found)


def ranking_table(found: Judgement, metric: str) -> Table:
    """Score, interval, difference to the best and verdict of every run; ties share a rank."""
    order, standing = found.order(metric), found.standing(metric)
    leaders, caution = standing.leaders, found.caution_of(metric)
    rows = []
    for place, name in enumerate(order, 1):
        bounds = found.bounds[name].get(metric)
        shown = "–" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"
        mark = f"1{'=' if len(leaders) > 1 else ''}" if name in leaders else str(place)
        score = f"{found.scores[name][metric]:.4f}"
        against = _against_best(found, standing, name, metric)
        rows.append(
            [name, "–", score, shown, *against[:2], "not judged"] if caution else [name, mark, score, shown, *against]
        )
    pairs = max((d.pairs for d in found.differences if d.metric == metric), default=1)
    behind_of = f"behind the best (over {pairs} pairs)" if pairs > 1 else "behind the best"
    return Table(["what", "rank", pretty(metric), "95 % interval", behind_of, "claim", "verdict"], rows)


def _against_best(found: Judgement, standing: Standing, name: str, metric: str) -> list[str]:
    if name == standing.best:
        return ["–", "–", "best"]
    difference = found.between(standing.best, name, metric)
    bounds = behind(difference, standing.best)
    if bounds is None:
        return ["–", "–", "undefined"]
    factor, _ = scale(metric)
    value, low, high = (f"{factor * bound:.{digits(factor)}f}" for bound in bounds)
    word = {"better": "worse", "the same": "the same numbers"}.get(difference.word, difference.word)
    return [f"{value} ({low} to {high})", f"these {difference.claim}", word]


def behind(difference: Difference, best: str) -> tuple[float, float, float] | None:
    """How far the other one is behind `best`, and the interval of that; None where it is undefined."""
    if difference.value is None or difference.low is None or difference.high is None:
        return None
    ahead = 1 if difference.first == best else -1
    sign = ahead * (-1 if lower_is_better(difference.metric) else 1)
    low, high = sorted((sign * difference.low, sign * difference.high))
    return sign * difference.value, low, high


def sentence(found: Judgement, metric: str) -> str:
    """Which runs lead and cannot be told apart, in words."""
    if len(found.order(metric)) < 2:
        return ""
    standing, title = found.standing(metric), pretty(metric)
    if found.caution_of(metric):
        return f"Nothing is claimed in {title}: {found.caution_of(metric)}."
    told = [leading(found, metric)] if standing.ties else []
    if not standing.ties and standing.worse:
        told.append(
            f"{title}, these {found.claim(metric, standing.worse)}: {standing.best} is better than {beaten(standing)}."
        )
    if standing.same:
        told.append(f"The same {title} as {standing.best}: {listed(standing.same)}.")
    if standing.undefined:
        told.append(f"The difference to {listed(standing.undefined)} is undefined.")
    return " ".join(told)


def leading(found: Judgement, metric: str) -> str:
    """How many lead and cannot be told apart, and by what to choose."""
    standing = found.standing(metric)
    number, equal = len(standing.leaders), standing.equal
    words = f"{_NUMBERS.get(number, number)} results lead in {pretty(metric)}"
    behind = (
        f" {standing.best} is better than {listed(standing.worse)}, these {found.claim(metric, standing.worse)}."
        if standing.worse
        else ""
    )
    if equal and not standing.undecided:
        return f"{words} and are practically equal: {listed(standing.leaders)}{_OTHERWISE}{behind}"
    some = f" ({listed(equal)} practically equal to {standing.best})" if equal else ""
    return f"{words} and cannot be told apart: {listed(standing.leaders)}{some}{_OTHERWISE}{behind}"


_OTHERWISE = ". Choose by something else, such as cost."
_NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six", 7: "Seven", 8: "Eight", 9: "Nine", 10: "Ten"}


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
