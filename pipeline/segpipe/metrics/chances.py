"""How probable it is that a result is the best of many, and how much of its lead will be left on other data.

The scores of all results are taken as draws around their true values, which are themselves draws around a common mean
(empirical Bayes; Efron and Morris 1973, JASA 68). What was best by luck among many is thereby drawn back, which is the
winner's curse told in advance. Noise is that of `comparison`: the jackknife over images, which all results share, and
the spread of trainings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtr, chdtri

from segpipe.metrics.defined import Floats
from segpipe.metrics.naming import lower_is_better
from segpipe.metrics.sample import Sample, Spread

DRAWS = 4000
_SHRUNK = 4  # results of which a common mean and spread can be estimated


@dataclass(frozen=True)
class Chances:
    """best: by result, the probability that it is the best. kept: share of a lead that is expected to last, 0 to 1."""

    best: dict[str, float]
    kept: float
    trainings: bool  # whether the spread of trainings is in it

    def shrinkage(self, values: Sequence[float], best: float) -> float:
        """What the score `best` of one of `values` is expected to lose on other data, by having been chosen."""
        return (1 - self.kept) * abs(best - float(np.mean(values)))


def chances(sample: Sample, metric: str, *, draws: int = DRAWS, seed: int = 0) -> Chances:
    """Of all results that define the metric. Results with equal numbers are one, and each is given its probability.

    Args:
        draws: from the distribution of true scores; a probability is within 2 sqrt(1 / (4 draws)) of its limit.
        seed: of the draws.
    """
    names = [run for run in sample.scores if not np.isnan(sample.scores[run].get(metric, np.full(1, np.nan))).any()]
    if not names:
        return Chances({}, 1.0, False)
    twins: dict[bytes, list[str]] = {}  # results with equal numbers
    for name in names:
        twins.setdefault(sample.scores[name][metric].mean(0).tobytes(), []).append(name)
    names = [group[0] for group in twins.values()]
    means = np.stack([sample.scores[run][metric].mean(0) for run in names])  # (K, 1 + blocks)
    random = np.random.default_rng(seed)
    images, spread = sample.units.deviations(means[:, 1:]), Spread.of(sample, metric, fewest=2)
    variance = _of_trainings(sample, names, metric, spread)
    freedom = spread.freedom or sum(len(sample.seeds[name]) - 1 for name in names)
    stretch = _stretch(random, draws, freedom)
    centred = means[:, 0] - means[:, 0].mean()
    within = ((images - images.mean(0)) ** 2).sum() / max(1, len(names) - 1)
    noise = within + stretch * variance.mean()
    kept = _kept(random, centred, noise)
    owners = {networks: place for place, networks in enumerate(dict.fromkeys(sample.networks[n] for n in names))}
    owner = np.array([owners[sample.networks[name]] for name in names])
    of_images = random.standard_normal((draws, images.shape[1])) @ images.T
    of_trainings = random.standard_normal((draws, len(owners)))[:, owner] * np.sqrt(variance)
    moved = (
        np.sqrt(_stretch(random, draws, sample.support[metric].freedom)) * of_images + np.sqrt(stretch) * of_trainings
    )
    true = kept * centred + np.sqrt(kept) * moved
    if lower_is_better(metric):
        true = -true
    first = true >= true.max(1, keepdims=True) - 1e-12
    share = (first / first.sum(1, keepdims=True)).mean(0)
    best = {name: float(p) for group, p in zip(twins.values(), share, strict=True) for name in group}
    return Chances(best, _expected(centred, within + variance.mean()), bool(variance.any()))


def _kept(random: np.random.Generator, centred: Floats, noise: Floats) -> Floats:
    """(draws, 1) of the share of the observed variance that is of true scores, given that it is 0 or more."""
    number, observed = len(centred), max(float((centred**2).sum()), 1e-30)
    if number < _SHRUNK:
        return np.ones_like(noise)
    most = chdtr(number - 1, observed / np.maximum(noise, 1e-30))
    chi = chdtri(number - 1, 1 - most * random.random(noise.shape))
    found: Floats = np.clip(1 - noise * chi / observed, 0.0, 1.0)
    return found


def _expected(centred: Floats, noise: float) -> float:
    """The share of a lead that is expected to last: true variance over observed variance, 0 or more."""
    number, observed = len(centred), float((centred**2).sum())
    return max(0.0, 1 - (number - 1) * noise / observed) if number >= _SHRUNK and observed else 1.0


def _of_trainings(sample: Sample, names: Sequence[str], metric: str, spread: Spread) -> Floats:
    """(K,) variance of each result's mean over its seeds; 0 of one seed and of what is made once."""
    found = np.zeros(len(names))
    for place, name in enumerate(names):
        seeds = sample.scores[name][metric][:, 0]
        if len(seeds) > 1 and sample.networks[name]:
            own = float(seeds.var(ddof=1))
            found[place] = (own if np.isnan(spread.value) else spread.value) / len(seeds)
    return found


def _stretch(random: np.random.Generator, draws: int, freedom: float) -> Floats:
    """(draws, 1) factors of a variance that is known to so many degrees of freedom; 1 where there are none."""
    found: Floats = freedom / random.chisquare(freedom, (draws, 1)) if freedom > 0 else np.ones((draws, 1))
    return found
