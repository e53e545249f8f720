"""How many seeds and groups of images a comparison needs, and what the one at hand could have shown.

Two variances of a difference are estimated from results at hand: that of one group of images and that of one pair of
trainings. From them follow the error of any design and its power, which is the probability that a true difference of a
stated size is shown. tests/statistics compares the power with simulated experiments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import chdtri, ndtr

from segpipe.metrics.behrens_fisher import Freedom, quantiles
from segpipe.metrics.defined import Floats
from segpipe.metrics.error import hedge
from segpipe.metrics.jackknife import FEWEST, LEVEL, MOST
from segpipe.metrics.sample import POOLED, Sample, Spread

MOST_SEEDS, MOST_GROUPS = 50, 100_000
_POINTS = (np.arange(12) + 0.5) / 12  # of the distribution of an estimated variance
_ANGLES = np.linspace(0, math.pi / 2, 33)


@dataclass(frozen=True)
class Variances:
    """Of a difference between two runs: of one group of images, and of one pair of trainings under one seed."""

    group: float
    training: float


@dataclass(frozen=True)
class Design:
    """An experiment: groups of test images, seeds per run, runs, and pairs that are judged together."""

    groups: int
    seeds: int
    runs: int = 2
    pairs: int = 1


def variances(sample: Sample, metric: str) -> Variances | None:
    """The mean over all pairs of runs; None with one seed or one run.

    The variance of trainings is that which the runs share where there are four or more.
    """
    spread = Spread.of(sample, metric)
    found: list[Variances] = []
    for first, second in combinations(sample.scores, 2):
        sides = [sample.scores[run].get(metric) for run in (first, second)]
        named = sample.networks[first], sample.networks[second]
        if (
            any(s is None or np.isnan(s).any() for s in sides)
            or len(sample.seeds[first]) < 2
            or "" in named
            or named[0] == named[1]
        ):
            continue
        each = sample.scores[first][metric] - sample.scores[second][metric]
        of_groups = float((sample.units.deviations(each[:, 1:].mean(0)) ** 2).sum()) * sample.units.number
        own = float(each[:, 0].var(ddof=1))
        found.append(Variances(of_groups, own if math.isnan(spread.value) else 2 * spread.value))
    if not found:
        return None
    return Variances(*(float(np.mean([getattr(v, name) for v in found])) for name in ("group", "training")))


def power(difference: float, of: Variances, design: Design, *, level: float = LEVEL) -> float:
    """Probability that a true difference is shown by a comparison of methods; 0 with one seed or too few groups."""
    if design.seeds < 2 or design.groups < FEWEST:
        return 0.0
    own = design.seeds - 1
    shared = (design.runs - 1) * own if design.runs >= POOLED else 0
    true = of.group / design.groups, of.training / design.seeds
    freedom = Freedom(min(design.groups, MOST) - 1, shared or own)
    images = true[0] * _scaled(freedom.images)
    seeds = true[1] * _scaled(own)
    if shared:
        seeds = np.maximum(hedge(own, shared) ** 2 * seeds[:, None], true[1] * _scaled(shared)).ravel()
    estimated = np.sqrt(images[:, None] + seeds)
    angles = np.arctan2(np.sqrt(seeds)[None].repeat(len(images), 0), np.sqrt(images)[:, None])
    table = quantiles(_ANGLES, freedom, (1 - level) / design.pairs)
    needed = estimated * np.interp(angles, _ANGLES, table)
    error = math.sqrt(sum(true)) or 1e-12
    return float((ndtr((difference - needed) / error) + ndtr((-difference - needed) / error)).mean())


def smallest(of: Variances, design: Design, wanted: float, *, level: float = LEVEL) -> float:
    """The smallest true difference that is shown with probability `wanted`; infinite where none is."""
    if design.seeds < 2 or design.groups < FEWEST:
        return math.inf
    low, high = 0.0, 1e-6
    while power(high, of, design, level=level) < wanted:
        low, high = high, 2 * high
        if high > 1e9:
            return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, of, design, level=level) < wanted else (low, middle)
    return high


def seeds_for(difference: float, of: Variances, design: Design, wanted: float) -> int | None:
    """The fewest seeds that reach the power on the groups of the design; None where 50 do not."""
    return _fewest(lambda n: power(difference, of, _with(design, seeds=n)) >= wanted, 2, MOST_SEEDS)


def groups_for(difference: float, of: Variances, design: Design, wanted: float) -> int | None:
    """The fewest groups of test images that reach the power with the seeds of the design; None where no number does."""
    return _fewest(lambda n: power(difference, of, _with(design, groups=n)) >= wanted, FEWEST, MOST_GROUPS)


def _fewest(reached: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest number from `least` to `most` that is enough, where more is never worse; None where none is."""
    if not reached(most):
        return None
    low, high = least - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def designs(difference: float, of: Variances, design: Design, wanted: float) -> Iterator[tuple[int, int | None]]:
    """(seeds, groups that they need) for 2, 3, 5, 10 seeds and as many as the design has."""
    for seeds in sorted({2, 3, 5, 10, max(2, design.seeds)}):
        yield seeds, groups_for(difference, of, _with(design, seeds=seeds), wanted)


def _with(design: Design, *, groups: int | None = None, seeds: int | None = None) -> Design:
    return Design(groups or design.groups, seeds or design.seeds, design.runs, design.pairs)


def _scaled(freedom: float) -> Floats:
    """Estimates of a variance of 1 with so many degrees of freedom, at evenly spaced probabilities."""
    found: Floats = chdtri(freedom, _POINTS) / freedom
    return found
