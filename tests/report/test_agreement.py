"""Results of another machine: honest ones are refused as rarely as said, and what is said to be noticed is."""

import numpy as np
import pytest

from segpipe.report.agreement import COMPARED, LEVEL, POWER, Spread, beyond_retraining

WORLDS = 1500
KINDS = pytest.mark.parametrize(("runs", "seeds"), [(2, 2), (4, 2), (4, 3), (9, 2), (4, 10)])


def world(random, runs, seeds, common=0.5):
    """Two honest folders: the same runs, other trainings; scores share half of their noise, ensembles less of it."""
    level = random.uniform(0.2, 0.8, (runs, len(COMPARED)))
    folders = []
    for _ in range(2):
        noise = 0.02 * (
            common**0.5 * random.normal(size=(runs, seeds, 1))
            + (1 - common) ** 0.5 * random.normal(size=(runs, seeds, len(COMPARED)))
        )
        scores = {
            f"runs/r{r}-{s}": dict(zip(COMPARED, (level[r] + noise[r, s]).tolist(), strict=True))
            for r in range(runs)
            for s in range(seeds)
        }
        scores["ensembles/average"] = dict(zip(COMPARED, (level.mean(0) + noise.mean((0, 1))).tolist(), strict=True))
        folders.append(scores)
    return folders


@KINDS
def test_honest_retraining_is_refused_in_one_of_twenty_worlds_at_most(runs, seeds):
    random = np.random.default_rng(runs * 100 + seeds)
    refused = sum(bool(beyond_retraining(*world(random, runs, seeds))[0]) for _ in range(WORLDS))
    assert refused / WORLDS <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / WORLDS) ** 0.5


@KINDS
def test_a_result_that_is_off_by_what_is_said_to_be_noticed_is_refused(runs, seeds):
    random = np.random.default_rng(runs * 10 + seeds)
    comparisons = len(COMPARED) * (runs * seeds + 1)
    # At the true spread; the seeds of the folders estimate it anew in each world.
    off = Spread(0.02, 2 * runs * (seeds - 1)).noticed(comparisons)
    noticed = 0
    for _ in range(WORLDS):
        ours, theirs = world(random, runs, seeds)
        theirs["ensembles/average"]["miou_dataset"] = ours["ensembles/average"]["miou_dataset"] + off + (
            0.02 * 2**0.5 * random.normal()
        )  # fmt: skip
        noticed += any(
            line.startswith("ensembles/average: miou_dataset") for line in beyond_retraining(ours, theirs)[0]
        )
    assert noticed / WORLDS >= POWER - 0.02


def test_the_spread_is_pooled_within_runs():
    # (1, 3) has squares 2 around 2, (5, 5, 8) has 6 around 6: 8 / (1 + 2).
    spread = Spread.pooled([(1.0, 3.0), (5.0, 5.0, 8.0)])
    assert spread == Spread((8 / 3) ** 0.5, 3)
    assert Spread.pooled([(1.0,), (2.0,)]) is None


def test_without_two_seeds_any_difference_is_refused_and_equal_scores_agree():
    one = {"runs/a-0": {"acc": 0.5}, "crf/a-0": {"acc": 0.6}}
    assert beyond_retraining(one, {name: dict(held) for name, held in one.items()}) == ([], {})
    problems, noticed = beyond_retraining(one, {"runs/a-0": {"acc": 0.5}, "crf/a-0": {"acc": 0.61}})
    assert (problems, noticed) == (
        ["acc differs, and no run has two seeds that would say how much retraining moves"],
        {},
    )


def test_a_score_that_one_side_lacks_is_named():
    ours = {f"runs/a-{s}": {"acc": 0.5 + s / 10, "miou_dataset": 0.3} for s in (0, 1)}
    theirs = {name: {**held, "miou_dataset": None} for name, held in ours.items()}
    problems, _ = beyond_retraining(ours, theirs)
    assert problems == [f"runs/a-{s}: miou_dataset is undefined on one side" for s in (0, 1)]
