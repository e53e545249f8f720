"""What is known of runs before they are compared: their scores with and without each block of images, and the spread of
their trainings.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segpipe.metrics.defined import Floats
from segpipe.metrics.jackknife import Scored, Support, Units

POOLED = 4  # runs of which the spread between seeds is taken together; of fewer, the pair's own alone
Seeds = Sequence[Scored] | Mapping[str, Scored]


@dataclass(frozen=True)
class Sample:
    """By run, the named scores of each seed, of all images and without each block of units: (seeds, 1 + blocks).

    seeds: those that all trained runs have, by run; left_out: those that not all have. networks: by run, what it is
    made of. Results of the same networks differ by no training; "" marks a result that is made once, of several
    networks: an ensemble. support: by metric, what its variance over images rests on.
    """

    scores: dict[str, dict[str, Floats]]
    seeds: dict[str, tuple[str, ...]]
    left_out: dict[str, tuple[str, ...]]
    networks: dict[str, str]
    metrics: tuple[str, ...]
    units: Units
    images: int
    support: dict[str, Support]

    def point(self, run: str, metric: str) -> float:
        """Mean over seeds; NaN when a seed does not define it."""
        found = self.scores[run].get(metric)
        return math.nan if found is None else float(found[:, 0].mean())

    def only(self, runs: Collection[str]) -> Sample:
        """Some runs alone, in their order here."""
        kept = [run for run in self.scores if run in runs]
        return replace(
            self,
            scores={run: self.scores[run] for run in kept},
            seeds={run: self.seeds[run] for run in kept},
            left_out={run: self.left_out[run] for run in kept},
            networks={run: self.networks[run] for run in kept},
        )


def measure(
    runs: Mapping[str, Seeds],
    groups: Sequence[str],
    metrics: Sequence[str],
    *,
    networks: Mapping[str, str] | None = None,
    folds: int = 1,
) -> Sample:
    """Score all runs on all images and without each block of them, under the seeds that all trained runs have.

    Args:
        runs: by name, the tables of each seed, in order or by the seed's name.
        groups: (N,) group of each image.
        metrics: scores of `summarize`, with any quantile or threshold, or of `Bins.weighted`.
        networks: see `Sample`; by default each run has its own.
        folds: of a cross-validation that scored the images.

    Raises:
        ValueError: tables of another number of images or classes, a metric of no run, runs without a seed in common.
    """
    by_seed = {
        run: dict(seeds) if isinstance(seeds, Mapping) else {str(i): t for i, t in enumerate(seeds)}
        for run, seeds in runs.items()
    }
    _refuse_unequal(by_seed, len(groups))
    named = {run: (networks or {}).get(run, run) for run in runs}
    chosen = _common(by_seed, named)
    units = Units.of(groups, folds)
    weights = units.weights()
    scores: dict[str, dict[str, Floats]] = {}
    for run, seeds in chosen.items():
        each = [tables.scores(weights, metrics) for tables in seeds.values()]
        common = [metric for metric in metrics if all(metric in found for found in each)]
        scores[run] = {metric: np.stack([found[metric] for found in each]) for metric in common}
    support: dict[str, Support] = {}
    for metric in metrics:
        having = [run for run, found in scores.items() if metric in found]
        if not having:
            raise ValueError(f"no run has the score '{metric}'")
        support[metric] = Support.of(units, next(iter(chosen[having[0]].values())).support(units.members, metric))
    left_out = {run: tuple(seed for seed in seeds if seed not in chosen[run]) for run, seeds in by_seed.items()}
    kept = {run: tuple(seeds) for run, seeds in chosen.items()}
    return Sample(scores, kept, left_out, named, tuple(metrics), units, len(groups), support)


def _common(
    runs: Mapping[str, Mapping[str, Scored]], networks: Mapping[str, str]
) -> dict[str, dict[str, Scored]]:  # fmt: skip
    """The seeds that all trained runs have; each its own where all have one, which are compared as networks."""
    trained = [seeds for run, seeds in runs.items() if networks[run]]
    if all(len(seeds) == 1 for seeds in trained):
        return {run: dict(seeds) for run, seeds in runs.items()}
    common = [seed for seed in trained[0] if all(seed in seeds for seeds in trained)]
    if not common:
        told = ", ".join(f"{run} {' '.join(seeds)}" for run, seeds in runs.items() if networks[run])
        raise ValueError(f"the runs have no seed in common ({told}); train all under the same seeds")
    return {
        run: {seed: seeds[seed] for seed in common} if networks[run] else dict(seeds) for run, seeds in runs.items()
    }


@dataclass(frozen=True)
class Spread:
    """Variance of a training's score that many runs share: `runs` of them; of fewer than four value is NaN."""

    value: float
    freedom: int
    runs: int

    @staticmethod
    def of(sample: Sample, metric: str, *, paired: bool = True, fewest: int = POOLED) -> Spread:
        """Over runs with two seeds or more; results of the same networks count once, so do equal ones.

        paired: what is neither the run's nor the seed's (the residual of runs x seeds), which differences of runs under
        the same seeds vary by; else all that is not the run's, which a single run's mean varies by.
        """
        table = _runs_by_seeds(sample, metric)
        runs, seeds = table.shape
        if runs < fewest:
            return Spread(math.nan, 0, runs)
        residual = table - table.mean(1, keepdims=True)
        if paired:
            residual = residual - residual.mean(0)
        freedom = (runs - paired) * (seeds - 1)
        return Spread(float((residual**2).sum() / freedom), freedom, runs)


def _runs_by_seeds(sample: Sample, metric: str) -> Floats:
    """(runs, seeds) scores of different trainings."""
    rows: dict[str, str] = {}
    for run, networks in sample.networks.items():
        if networks and metric in sample.scores[run] and len(sample.seeds[run]) > 1:
            rows.setdefault(networks, run)
    if not rows:
        return np.empty((0, 2))
    table = np.unique(np.stack([sample.scores[run][metric][:, 0] for run in rows.values()]), axis=0)
    defined: Floats = table[~np.isnan(table).any(1)]
    return defined


def _refuse_unequal(runs: Mapping[str, Mapping[str, Scored]], images: int) -> None:
    for name, seeds in runs.items():
        if not seeds:
            raise ValueError(f"{name} has no seed, wanted one or more")
        for tables in seeds.values():
            if tables.images != images:
                raise ValueError(f"{name} has {tables.images} images, wanted the {images} of the others")
    widths = {name: sorted({t.classes for t in seeds.values()}) for name, seeds in runs.items()}
    if len({width for found in widths.values() for width in found}) > 1:
        raise ValueError(f"numbers of classes differ: {widths}; compare tables of one class list")
