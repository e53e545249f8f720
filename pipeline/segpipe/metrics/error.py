"""How far a difference, or a score, may be off: the variances over images and over trainings together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from segpipe.metrics.behrens_fisher import Freedom, p_values, quantiles
from segpipe.metrics.defined import Floats
from segpipe.metrics.jackknife import LEVEL, bounded
from segpipe.metrics.sample import Sample, Spread


@dataclass(frozen=True)
class Error:
    """Variances of a mean over images and over seeds, with their degrees of freedom."""

    images: float
    seeds: float
    freedom: Freedom

    def freedom_with(self, seeds: float) -> Freedom:
        """The same of images, and that of seeds."""
        return Freedom(self.freedom.images, seeds)

    def at_least(self, seeds: float, freedom: float) -> Error:
        """With the variance over seeds that many runs share, unless its own is far larger.

        The larger of the two, the own one scaled by `hedge`: a pair that is noisier than the other runs would else be
        judged by their calm, and the pair's own alone has one degree of freedom with two seeds.
        """
        if math.isnan(seeds):
            return self
        own = self.seeds * hedge(self.freedom.seeds, freedom) ** 2
        return Error(self.images, max(seeds, own), self.freedom_with(freedom))

    @property
    def standard(self) -> float:
        """The standard error."""
        return math.sqrt(self.images + self.seeds)

    @property
    def _angle(self) -> Floats:
        return np.array([math.atan2(math.sqrt(self.seeds), math.sqrt(self.images))])

    def p(self, value: float) -> float:
        """Two-sided p of a value against 0."""
        if not self.standard:
            return float(value == 0)
        return float(p_values(np.array([value / self.standard]), self._angle, self.freedom)[0])

    def around(self, value: float, alpha: float) -> tuple[float, float]:
        """The interval that misses with probability `alpha`."""
        half = self.standard * float(quantiles(self._angle, self.freedom, alpha)[0])
        return value - half, value + half


def hedge(own: float, shared: float) -> float:
    """By how much the pair's own standard error counts more where few seeds make it uncertain.

    The factor between the t quantiles of its interval at error .125 and of the shared one at .05. Coverage is then .90
    or more where the pair is twice as noisy as the other runs; where it is not, up to .996 with two seeds
    (docs/statistics.md).
    """
    return max(1.0, float(stdtrit(own, 1 - 0.125 / 2) / stdtrit(shared, 0.975)))


def interval_of(sample: Sample, run: str, metric: str, *, level: float = LEVEL) -> tuple[float, float] | None:
    """The interval of a run's own score: of its networks on other images with one seed, of the method with several.

    None where the score is undefined or there are too few images.
    """
    each = sample.scores[run].get(metric)
    if each is None or np.isnan(each).any() or sample.units.number < 2:
        return None
    images = float((sample.units.deviations(each[:, 1:].mean(0)) ** 2).sum())
    error = Error(images, 0.0, Freedom(sample.support[metric].freedom))
    if len(each) > 1 and sample.networks[run]:
        spread = Spread.of(sample, metric, paired=False)
        error = Error(images, float(each[:, 0].var(ddof=1)) / len(each), error.freedom_with(len(each) - 1))
        error = error.at_least(spread.value / len(each), spread.freedom)
    return bounded(metric, *error.around(float(each[:, 0].mean()), 1 - level))
