"""How often a comparison is wrong, counted in worlds whose truth is known.

The whole grid, an hour on two cores (worlds that the file holds are kept):

    python tests/statistics/rates.py --experiments 1000 --to results/statistics/rates.csv

`test_rates.py` counts a small part of it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
from worlds import World, draw, trained

from segpipe import metrics
from segpipe.metrics.comparison import Difference

SCORES = ("miou_dataset", "miou_image", "miou_class", "miou_image_q10", "nll_dataset", "ece_dataset")
LARGE = 1500  # groups of the images on which a network's true score is taken


@dataclass
class Rates:
    """Of one score in one world, as shares of the experiments; of the first two runs unless said otherwise.

    false: alone, one would be called better that is not (where both are equal: any). family: some pair of all that were
    compared is called better, though all are equal. covered: the plain interval holds the truth; own: that of the
    pair's own seeds. equal: called practically equal. shown: called better. width, own_width: mean length, in points.
    """

    score: str
    experiments: int = 0
    false: float = 0.0
    family: float = 0.0
    covered: float = 0.0
    own: float = 0.0
    equal: float = 0.0
    shown: float = 0.0
    width: float = 0.0
    own_width: float = 0.0

    def add(self, pairs: Sequence[Difference], truth: float) -> None:
        """One experiment's pairs under this score."""
        first = pairs[0]
        assert first.alone is not None
        assert first.own is not None
        self.experiments += 1
        low, high = first.alone
        self.false += (low > 0 and truth <= 0) or (high < 0 and truth >= 0)
        self.family += any(pair.shown for pair in pairs)
        self.covered += first.alone[0] <= truth <= first.alone[1]
        self.own += first.own[0] <= truth <= first.own[1]
        self.equal += first.word == "practically equal"
        self.shown += first.shown
        self.width += 100 * (first.alone[1] - first.alone[0])
        self.own_width += 100 * (first.own[1] - first.own[0])

    def shares(self) -> dict[str, str | int | float]:
        """All as shares of the experiments."""
        counted = {k: v for k, v in asdict(self).items() if k not in ("score", "experiments")}
        return {
            "score": self.score,
            "experiments": self.experiments,
            **{k: round(v / self.experiments, 4) for k, v in counted.items()},
        }


def count(world: World, experiments: int, scores: Sequence[str] = SCORES) -> dict[str, Rates]:
    """Compare all runs of `experiments` draws of a world through the public function."""
    found = {score: Rates(score) for score in scores}
    random = np.random.default_rng(crc32(repr(world).encode()))
    truth = true_differences(world, random, scores)
    for _ in range(experiments):
        drawn = draw(world, random)
        if world.seeds == 1:  # the claim is about these networks
            truth = true_differences(world, random, scores, drawn.skill[:2])
        pairs = metrics.compare(drawn.tables, drawn.groups, scores)
        for score in scores:
            found[score].add([pair for pair in pairs if pair.metric == score], truth[score])
    return found


def true_differences(
    world: World, random: np.random.Generator, scores: Sequence[str], skill: np.ndarray | None = None
) -> dict[str, float]:
    """Of the first two runs, of given skills or over many trainings, on very many images."""
    if skill is None and not any(world.run):
        return dict.fromkeys(scores, 0.0)
    if skill is None:
        skill = trained(replace(world, runs=2, seeds=40, run=()), random)
        skill = skill[:1] + world.effects()[:2, None]  # the same noise on both sides
    many = draw(replace(world, runs=2, groups=LARGE, seeds=skill.shape[1]), random, skill)
    ones = np.ones((1, LARGE * world.size))
    each = [[tables.scores(ones, scores) for tables in seeds] for seeds in many.tables.values()]
    means = [{score: np.mean([found[score][0] for found in seeds]) for score in scores} for seeds in each]
    return {score: float(means[0][score] - means[1][score]) for score in scores}


def grid() -> Iterator[World]:
    """Equal spread over groups, seeds and runs; other spreads; pairs twice as noisy; runs that differ."""
    for seeds in (2, 3, 5, 10):
        for groups in (5, 10, 20, 80):
            for runs in (2, 4, 10):
                yield World(groups=groups, seeds=seeds, runs=runs)
    for seeds in (2, 5):
        for training in (0.05, 0.2):
            yield from (World(seeds=seeds, runs=runs, training=training) for runs in (2, 4, 10))
        yield from (World(seeds=seeds, runs=runs, noisy=2.0) for runs in (2, 4, 10))
        yield from (World(groups=80, seeds=seeds, runs=runs, noisy=2.0) for runs in (4, 10))
        yield from (World(seeds=seeds, runs=10, run=(0.1, 0.0)), World(seeds=seeds, runs=2, run=(0.1, 0.0)))
        yield World(seeds=seeds, runs=27)
        yield World(groups=80, size=1, seeds=seeds, runs=4)
    yield from (World(groups=groups, seeds=1) for groups in (5, 10, 20, 40, 80))
    yield from (World(groups=40, seeds=seeds, runs=runs) for seeds in (2, 5) for runs in (2, 4))


def main() -> None:
    """Count the cells of the grid that the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    given = parser.parse_args()
    done = set()
    if given.to.exists():
        with given.to.open() as lines:
            done = {row["world"] for row in csv.DictReader(lines)}
    for number, world in enumerate(grid()):
        if number % given.parts != given.part or repr(world) in done:
            continue
        experiments = given.experiments if world.runs < 27 else given.experiments // 4
        rows = [rates.shares() for rates in count(world, experiments).values()]
        fresh = not given.to.exists()
        with given.to.open("a", newline="") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            if fresh:
                writer.writerow(["groups", "size", "runs", "seeds", "training", "noisy", *rows[0], "world"])
            for row in rows:
                told = (world.groups, world.size, world.runs, world.seeds, world.training, world.noisy)
                writer.writerow([*told, *row.values(), repr(world)])
        print(world, flush=True)


if __name__ == "__main__":
    main()
