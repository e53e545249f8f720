"""Is the difference real? Paired comparisons of runs whose error rates are measured in tests/statistics.

Two claims are kept apart. About *these networks*: would they differ on other images? Groups of images vary, seeds are
fixed, one seed is enough. About *these methods*: would new trainings differ? Images and trainings vary, which takes two
seeds or more. The variance over images is the jackknife's at fixed seeds, that over trainings comes from differences
paired by seed, and both meet in `behrens_fisher`. docs/statistics.md has the derivation and the measured rates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from segpipe.metrics.behrens_fisher import Freedom
from segpipe.metrics.defined import Floats
from segpipe.metrics.error import Error
from segpipe.metrics.jackknife import LEVEL, Units
from segpipe.metrics.naming import digits, lower_is_better, pretty, scale
from segpipe.metrics.sample import Sample, Seeds, Spread, measure

FEWEST_WORST = 16  # images that a mean of the worst is of: of 8, intervals of one network cover .91 instead of .95
EQUIVALENCE = 0.01  # a difference within this of zero does not matter: one point


@dataclass(frozen=True)
class Difference:
    """first - second of one score: value, and the interval and p that the verdict is drawn from.

    claim: "methods" (images and trainings vary) or "networks" (images vary). low, high: simultaneous over the `pairs`
    that were compared together, by Bonferroni. Plain intervals of this pair: `alone`; `own`, of its own seeds without
    the spread of other runs; `fixed`, of these networks on other images. p: of this pair alone; p_holm: after Holm over
    all pairs. caution: why nothing is claimed. None is undefined.
    """

    first: str
    second: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    unit: str
    units: int
    seeds: tuple[int, int]
    level: float = LEVEL
    claim: str = "networks"
    pairs: int = 1
    alone: tuple[float, float] | None = None
    own: tuple[float, float] | None = None
    fixed: tuple[float, float] | None = None
    equivalence: float = EQUIVALENCE
    identical: bool = False
    caution: str = ""

    @property
    def word(self) -> str:
        """better, practically equal, undecided; the same where all numbers are, undefined without a value."""
        if self.value is None or self.low is None or self.high is None:
            return "undefined"
        if self.identical:
            return "the same"
        if self.caution:
            return "undecided"
        return word_of(self.low, self.high, self.equivalence)

    @property
    def shown(self) -> bool:
        """True when one is better: the interval leaves out 0 and is not within the region of equivalence."""
        return self.word == "better"

    @property
    def verdict(self) -> str:
        """The answer in words."""
        title = f"{pretty(self.metric)}, these {self.claim}"
        if self.value is None or self.low is None or self.high is None:
            return f"{title}: undefined for {self.first} or {self.second}{_because(self.caution)}"
        if self.word == "the same":
            return f"{title}: {self.first} and {self.second} have the same numbers"
        factor, unit = scale(self.metric)
        sign = -factor if lower_is_better(self.metric) else factor
        ahead, low, high = (sign * value for value in (self.value, self.low, self.high))
        low, high = sorted((low, high))
        first, second = (
            self._named(name, number) for name, number in zip((self.first, self.second), self.seeds, strict=True)
        )
        decimals = digits(factor)
        if ahead < 0:
            first, second, ahead, low, high = second, first, -ahead, -high, -low
        together = f" over {self.pairs} pairs" if self.pairs > 1 else ""
        interval = f"{100 * self.level:g} % interval{together} {low:+.{decimals}f} to {high:+.{decimals}f}"
        if self.shown:
            return f"{title}: {first} is better than {second} by {ahead:.{decimals}f}{unit}, {interval}"
        said = f"{title}: {self.word}, {first} ahead of {second} by {ahead:.{decimals}f}{unit}, {interval}"
        return said + _because(self.caution)

    def _named(self, name: str, seeds: int) -> str:
        """A result as what is compared with another of fewer networks: the mean of its own."""
        return f"{name} (mean of {seeds} networks)" if seeds > min(self.seeds) else name


def word_of(low: float, high: float, equivalence: float) -> str:
    """better, practically equal or undecided, from an interval and the region in which differences do not matter.

    >>> [word_of(low, high, 0.01) for low, high in ((0.002, 0.03), (0.002, 0.008), (-0.02, 0.03))]
    ['better', 'practically equal', 'undecided']
    """
    if max(abs(low), abs(high)) <= equivalence:
        return "practically equal"
    return "better" if low > 0 or high < 0 else "undecided"


def _because(caution: str) -> str:
    return f"; {caution}" if caution else ""


def compare(
    runs: Mapping[str, Seeds],
    groups: Sequence[str],
    metrics: Sequence[str],
    *,
    resamples: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
    networks: Mapping[str, str] | None = None,
    equivalence: float = EQUIVALENCE,
) -> list[Difference]:
    """Every pair of runs under every metric; the other arguments are those of `measure`.

    Args:
        resamples, seed: of the bootstrap of earlier versions; nothing is drawn any more.
        level: of the intervals and verdicts, over all pairs of a metric together.
        equivalence: largest difference that does not matter, as a fraction (NLL and Brier: as it is).

    Raises:
        ValueError: as `measure`; fewer than two runs.
    """
    del resamples, seed
    if len(runs) < 2:
        raise ValueError(f"found {len(runs)} run, wanted at least two to compare")
    sample = measure(runs, groups, metrics, networks=networks)
    return differences(sample, level=level, equivalence=equivalence)


def differences(sample: Sample, *, level: float = LEVEL, equivalence: float = EQUIVALENCE) -> list[Difference]:
    """Every pair of runs under every metric; none of one run."""
    found: list[Difference] = []
    for metric in sample.metrics:
        spread = Spread.of(sample, metric)
        pairs = [_Pair.of(sample, metric, *names) for names in combinations(sample.scores, 2)]
        tested = max(1, sum(not (pair.undefined or pair.identical) for pair in pairs))
        rows = [pair.difference(spread, tested, level, equivalence) for pair in pairs]
        found += [replace(row, p_holm=p) for row, p in zip(rows, holm([row.p for row in rows]), strict=True)]
    return found


@dataclass(frozen=True)
class _Pair:
    """Two runs under one metric: (pairs of seeds, 1 + blocks) of their difference, and what may be claimed of it."""

    names: tuple[str, str]
    metric: str
    each: Floats
    claim: str
    caution: str
    units: Units
    freedom: float  # of the variance over images
    seeds: tuple[int, int]

    @staticmethod
    def of(sample: Sample, metric: str, first: str, second: str) -> _Pair:
        """Paired by seed; means over all seeds where one result is made once."""
        sides = [sample.scores[run].get(metric) for run in (first, second)]
        made_of = sample.networks[first], sample.networks[second]
        support = sample.support[metric]
        if sides[0] is None or sides[1] is None:
            each = np.full((1, 2), np.nan)
        elif "" in made_of:
            each = sides[0].mean(0, keepdims=True) - sides[1].mean(0, keepdims=True)
        else:
            each = sides[0] - sides[1]
        methods = "" not in made_of and len(each) > 1 and made_of[0] != made_of[1]
        return _Pair(
            (first, second), metric, each, "methods" if methods else "networks",
            support.caution or few_worst(metric, sample.images), sample.units, support.freedom,
            (len(sample.seeds[first]), len(sample.seeds[second])),
        )  # fmt: skip

    @property
    def undefined(self) -> bool:
        return bool(np.isnan(self.each).any())

    @property
    def identical(self) -> bool:
        return not self.undefined and not self.each.any()

    def difference(self, spread: Spread, pairs: int, level: float, equivalence: float) -> Difference:
        """The difference with its interval over `pairs` pairs."""
        common = Difference(
            *self.names, self.metric, None, None, None, None, None, self.units.unit, self.units.number, self.seeds,
            level, self.claim, pairs, equivalence=equivalence, identical=self.identical, caution=self.caution,
        )  # fmt: skip
        if self.undefined:
            return common
        value = float(self.each[:, 0].mean())
        images = float((self.units.deviations(self.each[:, 1:].mean(0)) ** 2).sum())
        own = fixed = Error(images, 0.0, Freedom(self.freedom))
        if self.claim == "methods":
            own = Error(
                images, float(self.each[:, 0].var(ddof=1)) / len(self.each), own.freedom_with(len(self.each) - 1)
            )
        error = own.at_least(2 * spread.value / len(self.each), spread.freedom) if self.claim == "methods" else own
        alpha = 1 - level
        low, high = error.around(value, alpha / pairs)
        return replace(
            common, value=value, low=low, high=high, p=error.p(value), alone=error.around(value, alpha),
            own=own.around(value, alpha), fixed=fixed.around(value, alpha),
        )  # fmt: skip


def few_worst(metric: str, images: int) -> str:
    """Why a mean of the worst q % of so few images shows nothing; empty otherwise.

    >>> few_worst("miou_image_q5", 80), few_worst("miou_image_q5", 400)
    ('the worst 5 % of 80 images are 4, wanted 16 or more to compare them', '')
    """
    match = re.search(r"_q([0-9.]+)\Z", metric)
    number = int(images * float(match[1]) / 100) if match else FEWEST_WORST
    if number >= FEWEST_WORST or match is None:
        return ""
    return (
        f"the worst {match[1]} % of {images} images are {max(1, number)}, wanted {FEWEST_WORST} or more to compare them"
    )


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
