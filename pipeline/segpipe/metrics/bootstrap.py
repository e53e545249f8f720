"""Intervals by resampling images, or groups of images that belong together, and seeds.

Every score is recomputed on the resampled table; `dataset` scores pool the resampled counts. Runs that
are resampled with the same `Resampling` see the same images, so their differences are paired.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.confidence import Bins
from segpipe.metrics.counts import Counts
from segpipe.metrics.defined import Floats
from segpipe.metrics.scores import options_of, weighted

FEWEST_GROUPS = 10  # with fewer, images are resampled: a handful of groups says nothing about their spread
FEWEST_UNITS = 6  # of fewer, no sign test could reach 0.05: nothing is said about differences
LEVEL = 0.95


@dataclass(frozen=True)
class Resampling:
    """R resamples of N images as (R, N) counts; `unit` says what was drawn: "group" or "image"."""

    weights: NDArray[np.uint16]
    unit: str
    units: int
    members: NDArray[np.int64]  # (N,) the unit of each image
    groups: int
    seed: int

    @staticmethod
    def of(groups: Sequence[str], resamples: int = 1000, seed: int = 0) -> Resampling:
        """Draw with replacement from the groups, or from the images when there are fewer than ten groups.

        Raises:
            ValueError: no image.
        """
        if not groups:
            raise ValueError("there is no image to resample; evaluate some first")
        members = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
        number = int(members.max()) + 1
        unit = "group" if number >= FEWEST_GROUPS else "image"
        if unit == "image":
            members = np.arange(len(groups))
        units = int(members.max()) + 1
        if units == len(groups):
            unit = "image"
        drawn = np.random.default_rng(seed).integers(0, units, (resamples, units))
        drawn += np.arange(resamples)[:, None] * units
        weights = np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units)
        return Resampling(weights.astype(np.uint16)[:, members], unit, units, members, number, seed)

    @property
    def caution(self) -> str:
        """What a reader of the intervals must know; empty when there is nothing."""
        if self.units < FEWEST_UNITS:
            return f"{self.units} {self.unit}s are too few to tell a difference from chance"
        if self.unit == "image" and self.groups < self.units:
            return (
                f"{self.groups} groups are too few to resample, so images are: those of one group resemble each other, "
                "and the intervals are too narrow"
            )
        return ""

    def seeds(self, number: int) -> NDArray[np.int64]:
        """(R, number) seeds drawn with replacement: equal for runs with equally many seeds."""
        draws = np.random.default_rng((self.seed, number)).integers(0, number, (len(self.weights), number))
        return draws.astype(np.int64)

    def unit_means(self, values: Floats) -> Floats:
        """(units,) mean of the defined per-image values of each unit; NaN without one."""
        defined = ~np.isnan(values)
        sums = np.bincount(self.members[defined], values[defined], self.units)
        numbers = np.bincount(self.members[defined], minlength=self.units)
        return np.where(numbers > 0, sums / np.maximum(numbers, 1), np.nan)


@dataclass(frozen=True)
class Tables:
    """What is resampled of one seed: its counts and, where there are probabilities, its calibration."""

    counts: Counts
    bins: Bins | None = None

    def scores(self, weights: NDArray[Any], names: Collection[str]) -> dict[str, Floats]:
        """The named scores under (R, N) weights; names that these tables do not define are left out."""
        options: dict[str, Any] = options_of(names)
        found = weighted(self.counts, weights, names=names, **options)
        calibrated = self.bins.weighted(weights) if self.bins is not None else {}
        return found | {name: values for name, values in calibrated.items() if name in names}


def resampled(seeds: Sequence[Tables], resampling: Resampling, names: Collection[str]) -> dict[str, Floats]:
    """(R,) of every named score of a run: the mean over its seeds, which are drawn anew in every resample."""
    each = [tables.scores(resampling.weights, names) for tables in seeds]
    chosen, rows = resampling.seeds(len(seeds)), np.arange(len(resampling.weights))[:, None]
    found = {}
    for name in each[0]:
        if all(name in scores for scores in each):
            stacked = np.stack([scores[name] for scores in each], 1)  # (R, S)
            found[name] = stacked[rows, chosen].mean(1)
    return found


def interval(values: Floats, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of the defined resamples, None when most are undefined."""
    defined = values[~np.isnan(values)]
    if len(defined) < len(values) / 2:
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def intervals(
    scores: Mapping[str, Floats], names: Sequence[str], level: float = LEVEL
) -> dict[str, dict[str, float | int] | None]:
    """low, high and the number of undefined resamples of each named score; None when it is undefined."""
    found: dict[str, dict[str, float | int] | None] = {}
    for name in names:
        if name in scores:
            bounds = interval(scores[name], level)
            missing = int(np.isnan(scores[name]).sum())
            found[name] = None if bounds is None else {"low": bounds[0], "high": bounds[1], "undefined": missing}
    return found
