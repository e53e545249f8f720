"""Worlds whose truth is known: tables of counts and calibration of runs that differ as much as the world says.

Images come in groups of a size; classes are absent from some. How well a network does on a class of an image is, on
the scale of logits, the sum of: its run, its seed (common to all runs), its training (run x seed), the group, the
image, the run on the group, the training on the image. All are normal but the first, which is the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segpipe.metrics import Bins, Counts, Tables

CLASSES = 4
PIXELS = 4000
BINS = 15


@dataclass(frozen=True)
class World:
    """Standard deviations on the scale of logits, in which .1 is about 2 points of IoU in the middle."""

    groups: int = 20
    size: int = 4  # images of a group
    runs: int = 2
    seeds: int = 2
    run: tuple[float, ...] = ()  # effect of each run, the truth; shorter: the rest is 0
    training: float = 0.1  # run x seed
    noisy: float = 1.0  # times that of the first two runs
    seed: float = 0.1  # common to all runs
    group: float = 0.5
    image: float = 0.4
    run_group: float = 0.08
    residual: float = 0.1  # of one network on one class of an image

    def effects(self) -> np.ndarray:
        """(runs,) the truth."""
        return np.array([*self.run, *[0.0] * self.runs])[: self.runs]


@dataclass(frozen=True)
class Drawn:
    """What one experiment saw, and the networks that it trained: `skill` (runs, seeds)."""

    tables: dict[str, list[Tables]]
    groups: list[str]
    skill: np.ndarray


def trained(world: World, random: np.random.Generator) -> np.ndarray:
    """(runs, seeds) skills of new trainings."""
    noise = np.full(world.runs, float(world.training))
    noise[:2] *= world.noisy
    common = random.normal(0, world.seed, world.seeds) if world.seed else np.zeros(world.seeds)
    return world.effects()[:, None] + common + noise[:, None] * random.standard_normal((world.runs, world.seeds))


def draw(world: World, random: np.random.Generator, skill: np.ndarray | None = None) -> Drawn:
    """New trainings, unless their skills are given, on new images."""
    skill = trained(world, random) if skill is None else skill
    runs, seeds = skill.shape
    number = world.groups * world.size
    group = np.repeat(np.arange(world.groups), world.size)
    easy = random.normal(0, world.group, world.groups)[group] + random.normal(0, world.image, number)
    of_class = np.linspace(1.2, -0.2, CLASSES)
    share = random.dirichlet([4, 3, 2, 1], number) * (random.random((number, CLASSES)) < [1, 1, 0.8, 0.4])
    pixels = np.rint(PIXELS * share / np.maximum(share.sum(1, keepdims=True), 1e-9)).astype(np.int64)
    tables: dict[str, list[Tables]] = {}
    for r in range(runs):
        on_group = random.normal(0, world.run_group, (world.groups, 1))[group]
        tables[f"r{r}"] = []
        for s in range(seeds):
            noise = random.normal(0, world.residual, (number, CLASSES))
            logit = of_class + easy[:, None] + on_group + skill[r, s] + noise
            tables[f"r{r}"].append(_tables(pixels, 1 / (1 + np.exp(-logit)), random))
    return Drawn(tables, [f"g{i}" for i in group], skill)


def _tables(pixels: np.ndarray, right: np.ndarray, random: np.random.Generator) -> Tables:
    """Counts where a class is right on a share of its pixels, the rest of which the next class takes; calibration of a
    network that is as sure whatever it does.
    """
    tp = np.rint(pixels * right).astype(np.int64)
    fn = pixels - tp
    fp = np.roll(fn, 1, axis=1)
    valid = pixels.sum(1)
    accuracy = tp.sum(1) / np.maximum(valid, 1)
    sure = (np.arange(BINS) + 0.5) / BINS
    shape = np.exp(-(((sure - 0.75) / 0.15) ** 2))
    in_bin = np.floor(valid[:, None] * shape / shape.sum()).astype(np.int64)
    gap = (accuracy - (sure * shape).sum() / shape.sum())[:, None]
    correct = np.rint(in_bin * np.clip(sure + gap, 0, 1)).astype(np.int64)
    nll = valid * -np.log(np.clip(accuracy, 0.01, 1))
    unused = np.zeros(len(valid))
    bins = Bins(in_bin, in_bin * sure, correct, nll, valid * (1 - accuracy) ** 2, unused, unused)
    return Tables(Counts(tp, fp, fn, valid, np.zeros(len(valid), np.int64)), bins)
