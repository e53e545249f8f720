"""Error rates, coverage, probabilities and power, counted where the truth is known; docs/statistics.md has the grid."""

import math
from dataclasses import replace

import numpy as np
import pytest
from rates import count, true_differences
from worlds import World, draw

from segpipe.metrics import planning
from segpipe.metrics.chances import chances
from segpipe.metrics.sample import measure

EXPERIMENTS = 200
NOISE = 3 * math.sqrt(0.05 * 0.95 / EXPERIMENTS)  # three standard errors of a counted share of .05


@pytest.mark.parametrize(
    "world",
    [
        World(seeds=2),
        World(groups=5, seeds=5),
        World(groups=80, size=1, seeds=3, runs=4),
        World(seeds=2, runs=6),
        World(seeds=5, runs=4, run=(0.1,)),
        World(seeds=1),
        World(seeds=1, groups=10),
    ],
    ids=lambda world: f"{world.groups} groups, {world.runs} runs, {world.seeds} seeds",
)
def test_claims_are_false_as_rarely_as_they_say_and_intervals_hold_the_truth(world):
    for score, rates in count(world, EXPERIMENTS).items():
        found = rates.shares()
        assert found["false"] <= 0.06 + NOISE, (score, found)
        assert found["covered"] >= 0.93 - NOISE, (score, found)
        if world.seeds > 1 and not world.run:
            assert found["family"] <= 0.06 + NOISE, (score, found)


@pytest.mark.parametrize("seeds", [2, 5])
def test_a_pair_that_is_twice_as_noisy_as_the_rest_is_still_covered(seeds):
    rates = count(World(seeds=seeds, runs=8, noisy=2.0), EXPERIMENTS, ["miou_dataset", "nll_dataset"])
    for score, found in rates.items():
        assert found.shares()["covered"] >= 0.90 - NOISE, (score, found)


def test_a_difference_at_the_edge_of_what_matters_is_rarely_called_equal():
    # Little spread between trainings and many images: enough power to call two runs equal.
    world = World(groups=80, seeds=5, training=0.02, run_group=0.02, run=(0.055,))
    truth = true_differences(world, np.random.default_rng(0), ["miou_dataset"])["miou_dataset"]
    assert truth == pytest.approx(0.01, abs=0.0015)
    rates = count(world, EXPERIMENTS, ["miou_dataset"])["miou_dataset"].shares()
    assert rates["equal"] <= 0.06 + NOISE
    same = count(replace(world, run=()), 50, ["miou_dataset"])["miou_dataset"].shares()
    assert same["equal"] > 0.6


def test_a_stated_probability_of_being_the_best_is_right_so_often():
    random = np.random.default_rng(11)
    stated, right = [], []
    for number in range(400):
        runs, seeds = ((4, 3), (8, 2), (8, 5), (2, 4))[number % 4]
        world = World(runs=runs, seeds=seeds, groups=12, run=tuple(random.normal(0, 0.1, runs)))
        drawn = draw(world, random)
        best = chances(measure(drawn.tables, drawn.groups, ["miou_dataset"]), "miou_dataset", draws=1000).best
        stated += best.values()
        right += [place == np.argmax(world.run) for place in range(runs)]
    places = np.minimum((10 * np.array(stated)).astype(int), 9)
    for tenth in range(10):
        inside = places == tenth
        share, wanted = np.mean(np.array(right)[inside]), np.mean(np.array(stated)[inside])
        noise = 2.5 * math.sqrt(wanted * (1 - wanted) / inside.sum())
        assert abs(share - wanted) <= 0.05 + noise, (tenth, wanted, share, inside.sum())


def test_the_leader_loses_what_its_choice_is_said_to_cost():
    random, lost, told = np.random.default_rng(12), [], []
    unit = true_differences(World(run=(0.1,)), random, ["miou_dataset"])["miou_dataset"] / 0.1  # IoU a unit of logits
    for _ in range(200):
        world = World(runs=8, seeds=2, groups=12, run=tuple(random.normal(0, 0.05, 8)))
        drawn = draw(world, random)
        sample = measure(drawn.tables, drawn.groups, ["miou_dataset"])
        values = [sample.point(run, "miou_dataset") for run in drawn.tables]
        found = chances(sample, "miou_dataset", draws=500)
        told.append(found.shrinkage(values, max(values)))
        ahead = world.run[int(np.argmax(values))] - np.mean(world.run)
        lost.append(max(values) - np.mean(values) - unit * ahead)
    assert np.mean(told) == pytest.approx(np.mean(lost), abs=0.004)


@pytest.mark.parametrize("runs, seeds, groups, effect", [(2, 3, 20, 0.3), (2, 5, 20, 0.2), (6, 5, 20, 0.25)])
def test_planned_power_is_the_share_of_experiments_that_show_the_difference(runs, seeds, groups, effect):
    random = np.random.default_rng(3)
    pilot = draw(World(runs=12, seeds=20, groups=100), random)
    of = planning.variances(measure(pilot.tables, pilot.groups, ["miou_dataset"]), "miou_dataset")
    world = World(runs=runs, seeds=seeds, groups=groups, run=(effect,))
    truth = true_differences(world, random, ["miou_dataset"])["miou_dataset"]
    planned = planning.power(truth, of, planning.Design(groups, seeds, runs, runs * (runs - 1) // 2))
    shown = count(world, EXPERIMENTS, ["miou_dataset"])["miou_dataset"].shares()["shown"]
    assert planned == pytest.approx(shown, abs=0.12)
    least = planning.smallest(of, planning.Design(groups, seeds, runs), 0.8)
    assert planning.power(least, of, planning.Design(groups, seeds, runs)) == pytest.approx(0.8, abs=0.01)
