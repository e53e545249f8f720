"""How far a score would move with other images: the jackknife, which leaves out one unit after the other.

A unit is a group of images that belong together (a patient, a drive), or an image where each is its own group. Every
score is computed again without each unit; `dataset` scores pool what is left. Runs that are scored under the same
`Units` see the same images left out, so that their differences are paired. Nothing is drawn: the same tables give the
same numbers.
Source: Efron and Stein 1981, Annals of Statistics 9(3); Shao and Tu 1995, The Jackknife and Bootstrap, section 2.3.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from segpipe.metrics.confidence import Bins
from segpipe.metrics.counts import Counts
from segpipe.metrics.defined import Floats
from segpipe.metrics.naming import limits
from segpipe.metrics.scores import options_of, weighted

FEWEST = 5  # units; coverage was measured down to here, docs/statistics.md
MOST = 200  # of more units several are left out at once: the time stays linear in the images
LEVEL = 0.95


@dataclass(frozen=True)
class Units:
    """What is left out together: `members` (N,) holds the unit of each image, 0 to `number` - 1.

    unit is "group" or "image"; groups is their number, whatever the unit. folds: where the images were scored by
    cross-validation, how many networks scored them; 1 otherwise.
    """

    unit: str
    number: int
    members: NDArray[np.int64]
    groups: int
    folds: int = 1

    @staticmethod
    def of(groups: Sequence[str], folds: int = 1) -> Units:
        """Groups as they are named; images where each is a group of its own, or all are one.

        Raises:
            ValueError: no image.
        """
        if not groups:
            raise ValueError("no images to compare; evaluate some first")
        members = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
        number = int(members.max()) + 1
        if number < 2 or number == len(groups):
            return Units("image", len(groups), np.arange(len(groups)), number, folds)
        return Units("group", number, members, number, folds)

    @property
    def blocks(self) -> int:
        """How many times something is left out: the units, or 200 blocks of them."""
        return min(self.number, MOST)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a variance over the blocks."""
        return max(1, self.blocks - 1)

    def weights(self) -> NDArray[np.uint8]:
        """(1 + blocks, N): all images, then all but those of each block."""
        block = self.members % MOST
        left = np.ones((1 + self.blocks, len(block)), np.uint8)
        left[1:] = block != np.arange(self.blocks)[:, None]
        return left

    def deviations(self, left: Floats) -> Floats:
        """What each block does to a score, from (..., blocks) scores without each.

        Scaled so that the sum of squares is the jackknife's variance, and the sum of products of two its covariance.
        Under cross-validation with J folds the variance is 1 + J / (J - 1) times as large, since the networks of all
        folds share most of their training images (Nadeau and Bengio 2003, Machine Learning 52).
        """
        blocks = left.shape[-1]
        shared = 1 + self.folds / (self.folds - 1) if self.folds > 1 else 1.0
        scaled: Floats = np.sqrt(shared * (blocks - 1) / blocks) * (left - left.mean(-1, keepdims=True))
        return scaled

    @property
    def caution(self) -> str:
        """Why these images can show nothing; empty where they can."""
        if self.groups < FEWEST:
            what = "group" if self.unit == "group" or self.groups < self.number else "image"
            several = f"{self.groups} {what}s are" if self.groups != 1 else f"1 {what} is"
            return f"{several} too few to tell a difference from chance, wanted {FEWEST} {what}s or more"
        return ""


@dataclass(frozen=True)
class Support:
    """What the variance of a score over images rests on: degrees of freedom, and why they are too few."""

    freedom: float
    caution: str

    @staticmethod
    def of(units: Units, carrying: Sequence[int]) -> Support:
        """From the number of units that carry each part of the score (a class of a mean over classes; one: no parts).

        A part that k units carry has a variance like 1 / k known to k - 1 degrees of freedom; the mean over parts has
        those of Welch and Satterthwaite. So one class in two images costs a mean over two classes nearly all of them,
        and one of 150 hardly any.
        """
        if units.caution:
            return Support(units.freedom, units.caution)
        known = np.array([k for k in carrying if k > 0], float)
        if not len(known):
            return Support(units.freedom, "")
        freedom = float((1 / known).sum() ** 2 / (1 / known**2 / np.maximum(known - 1, 0.5)).sum())
        if freedom < FEWEST - 1:
            few = int(known.min())
            what = (
                f"{few} {units.unit}{'s' if few != 1 else ''} of images" if units.unit == "group" else f"{few} images"
            )
            part = "a class that counts is in" if len(known) > 1 else "it is defined in"
            return Support(freedom, f"{part} {what} only, too few to tell a difference from chance")
        return Support(min(float(units.freedom), round(freedom, 1)), "")


class Scored(Protocol):
    """What can be scored under weights of its images: `Tables`, or values of a table from elsewhere."""

    @property
    def images(self) -> int:
        """N."""

    @property
    def classes(self) -> int:
        """C."""

    def scores(self, weights: NDArray[Any], names: Collection[str]) -> dict[str, Floats]:
        """(R,) of the named scores under (R, N) weights; names that it does not define are left out."""

    def support(self, members: NDArray[np.int64], metric: str) -> list[int]:
        """How many units carry each part of a score; `members` (N,) holds the unit of each image."""


@dataclass(frozen=True)
class Tables:
    """What is known of one seed: its counts and, where there are probabilities, its calibration."""

    counts: Counts
    bins: Bins | None = None

    @property
    def images(self) -> int:
        """N."""
        return len(self.counts)

    @property
    def classes(self) -> int:
        """C."""
        return self.counts.num_classes

    def scores(self, weights: NDArray[Any], names: Collection[str]) -> dict[str, Floats]:
        """The named scores under (R, N) weights; names that these tables do not define are left out."""
        options: dict[str, Any] = options_of(names)
        found = weighted(self.counts, weights, names=names, **options)
        calibrated = self.bins.weighted(weights) if self.bins is not None else {}
        return found | {name: values for name, values in calibrated.items() if name in names}

    def support(self, members: NDArray[np.int64], metric: str) -> list[int]:
        """Units whose labels hold each class, for means over classes; else units with a valid pixel."""
        present = self.counts.tp + self.counts.fn > 0
        of_classes = metric.endswith("_class") or (metric.startswith("m") and "_image" not in metric)
        columns = list(present.T) if of_classes else [present.any(1)]
        return [len(np.unique(members[column])) for column in columns]


def intervals(
    tables: Tables, groups: Sequence[str], names: Sequence[str], level: float = LEVEL, folds: int = 1
) -> dict[str, dict[str, float] | None]:
    """low and high of each named score of one network on other images; None where it is undefined.

    The score plus and minus t standard errors, t with the degrees of freedom of `Support`, cut to the score's range.
    """
    units = Units.of(groups, folds)
    if units.number < 2:
        return {}
    found: dict[str, dict[str, float] | None] = {}
    for name, values in tables.scores(units.weights(), names).items():
        freedom = Support.of(units, tables.support(units.members, name)).freedom
        half = stdtrit(freedom, (1 + level) / 2) * np.sqrt((units.deviations(values[1:]) ** 2).sum())
        low, high = bounded(name, values[0] - half, values[0] + half)
        found[name] = None if np.isnan(half + values[0]) else {"low": low, "high": high}
    return found


def bounded(name: str, low: float, high: float) -> tuple[float, float]:
    """An interval cut to the values that the score can take, where segpipe knows them."""
    least, most = limits(name)
    return max(least, float(low)), min(most, float(high))
