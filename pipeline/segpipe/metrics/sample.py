"""What is known of runs before they are compared: their scores with and without each block of images, and the spread of
their trainings.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.metrics.defined import Floats
from segpipe.metrics.jackknife import Scored, Units

POOLED = 4  # runs of which the spread between seeds is taken together; of fewer, the pair's own alone
Seeds = Sequence[Scored] | Mapping[str, Scored]


@dataclass(frozen=True)
class Sample:
    """By run, the named scores of each seed, of all images and without each block of units: (seeds, 1 + blocks).

    networks: by run, what it is made of. Results of the same networks differ by no training; "" marks a result that is
    made once, of several networks: an ensemble.
    """

    scores: dict[str, dict[str, Floats]]
    seeds: dict[str, tuple[str, ...]]
    networks: dict[str, str]
    metrics: tuple[str, ...]
    units: Units
    images: int

    def point(self, run: str, metric: str) -> float:
        """Mean over seeds; NaN when a seed does not define it."""
        found = self.scores[run].get(metric)
        return math.nan if found is None else float(found[:, 0].mean())

    def only(self, runs: Collection[str]) -> Sample:
        """Some runs alone, in their order here."""
        kept = [run for run in self.scores if run in runs]
        return Sample(
            {run: self.scores[run] for run in kept},
            {run: self.seeds[run] for run in kept},
            {run: self.networks[run] for run in kept},
            self.metrics,
            self.units,
            self.images,
        )

    def of(self, run: str, metric: str, seeds: Sequence[str]) -> Floats:
        """(seeds, 1 + blocks) of some seeds of a run."""
        return self.scores[run][metric][[self.seeds[run].index(seed) for seed in seeds]]


def measure(
    runs: Mapping[str, Seeds],
    groups: Sequence[str],
    metrics: Sequence[str],
    *,
    networks: Mapping[str, str] | None = None,
    folds: int = 1,
) -> Sample:
    """Score all runs on all images and without each block of them.

    Args:
        runs: by name, the tables of each seed, in order or by the seed's name.
        groups: (N,) group of each image.
        metrics: scores of `summarize`, with any quantile or threshold, or of `Bins.weighted`.
        networks: see `Sample`; by default each run has its own.
        folds: of a cross-validation that scored the images.

    Raises:
        ValueError: tables of another number of images or classes, a metric of no run.
    """
    by_seed = {
        run: dict(seeds) if isinstance(seeds, Mapping) else {str(i): t for i, t in enumerate(seeds)}
        for run, seeds in runs.items()
    }
    _refuse_unequal(by_seed, len(groups))
    units = Units.of(groups, folds)
    weights = units.weights()
    scores: dict[str, dict[str, Floats]] = {}
    for run, seeds in by_seed.items():
        each = [tables.scores(weights, metrics) for tables in seeds.values()]
        common = [metric for metric in metrics if all(metric in found for found in each)]
        scores[run] = {metric: np.stack([found[metric] for found in each]) for metric in common}
    for metric in metrics:
        if not any(metric in found for found in scores.values()):
            raise ValueError(f"no run has the score '{metric}'")
    named = {run: (networks or {}).get(run, run) for run in runs}
    return Sample(scores, {r: tuple(s) for r, s in by_seed.items()}, named, tuple(metrics), units, len(groups))


@dataclass(frozen=True)
class Spread:
    """Variance of a training's score that many runs share: `runs` of them; of fewer than four value is NaN."""

    value: float
    freedom: int
    runs: int

    @staticmethod
    def of(sample: Sample, metric: str, *, paired: bool = True) -> Spread:
        """Over runs that share their seeds, two or more; results of the same networks count once, so do equal ones.

        paired: what is neither the run's nor the seed's (the residual of runs x seeds), which differences of runs under
        the same seeds vary by; else all that is not the run's, which a single run's mean varies by.
        """
        table = _runs_by_seeds(sample, metric)
        runs, seeds = table.shape
        if runs < POOLED:
            return Spread(math.nan, 0, runs)
        residual = table - table.mean(1, keepdims=True)
        if paired:
            residual = residual - residual.mean(0)
        freedom = (runs - paired) * (seeds - 1)
        return Spread(float((residual**2).sum() / freedom), freedom, runs)


def _runs_by_seeds(sample: Sample, metric: str) -> Floats:
    """(runs, seeds) scores of different trainings under the seeds that all of them have."""
    rows: dict[str, str] = {}
    for run, networks in sample.networks.items():
        if networks and metric in sample.scores[run] and len(sample.seeds[run]) > 1:
            rows.setdefault(networks, run)
    first = next(iter(rows.values()), None)
    seeds = [s for s in sample.seeds[first] if all(s in sample.seeds[r] for r in rows.values())] if first else []
    if len(seeds) < 2:
        return np.empty((0, 2))
    table = np.unique(np.stack([sample.of(run, metric, seeds)[:, 0] for run in rows.values()]), axis=0)
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
