"""Results of another machine: honest ones are refused as rarely as said, and what is said to be noticed is."""

import numpy as np
import pytest

from segpipe.report.agreement import COMPARED, LEVEL, POWER, Spread, beyond_retraining

WORLDS = 500
KINDS = pytest.mark.parametrize(("runs", "seeds"), [(3, 2), (4, 2), (4, 3), (9, 2), (4, 10)])


def world(random, runs, seeds, common=0.5):
    """Two honest folders of other trainings; scores share half of their noise; the CRF has four times it."""
    folders, level = [], random.uniform(0.2, 0.8, (runs, len(COMPARED)))
    for _ in range(2):
        noise = 0.02 * (
            common**0.5 * random.normal(size=(runs, seeds, 1))
            + (1 - common) ** 0.5 * random.normal(size=(runs, seeds, len(COMPARED)))
        )
        places = [(r, s) for r in range(runs) for s in range(seeds)]
        scores = {f"runs/r{r}-{s}": level[r] + noise[r, s] for r, s in places}
        scores |= {f"crf/r{r}-{s}": level[r] + 4 * noise[r, s] for r, s in places}
        scores |= {f"ensembles/{name}": level[0] + 9 * noise.mean((0, 1)) for name in ("average", "majority")}
        folders.append({name: dict(zip(COMPARED, row.tolist(), strict=True)) for name, row in scores.items()})
    return folders


@KINDS
def test_honest_retraining_is_refused_in_one_of_twenty_worlds_at_most(runs, seeds):
    random = np.random.default_rng(runs * 100 + seeds)
    refused = sum(bool(beyond_retraining(*world(random, runs, seeds))[0]) for _ in range(WORLDS))
    assert refused / WORLDS <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / WORLDS) ** 0.5


@KINDS
@pytest.mark.parametrize("kind", ["runs", "crf"])
def test_a_score_that_is_wrong_by_what_is_said_to_be_noticed_is_refused(runs, seeds, kind):
    random = np.random.default_rng(runs * 10 + seeds)
    deviation, comparisons = 0.02 if kind == "runs" else 0.08, 2 * len(COMPARED) * runs * seeds
    wrong = Spread(deviation, runs * (seeds - 1)).noticed(comparisons)
    noticed = 0
    for _ in range(WORLDS):
        ours, theirs = world(random, runs, seeds)
        theirs[f"{kind}/r0-0"]["miou_dataset"] += wrong
        noticed += any(line.startswith(f"{kind}/r0-0: miou_dataset") for line in beyond_retraining(ours, theirs)[0])
    assert noticed / WORLDS >= POWER - 0.03


@pytest.mark.parametrize("name", ["runs/r1-0", "crf/r3-1"])
def test_no_score_is_so_wrong_that_it_hides_itself_or_others(name):
    ours, theirs = world(np.random.default_rng(0), 4, 2)
    theirs[name]["acc"] += 1000
    assert [line.split(",")[0].split(" ")[:2] for line in beyond_retraining(ours, theirs)[0]] == [[f"{name}:", "acc"]]
    theirs["runs/r0-0"]["miou_dataset"], theirs["runs/r0-1"]["miou_dataset"] = float("nan"), 9.0
    found = beyond_retraining(ours, theirs)[0]
    assert any("runs/r0-0: miou_dataset is" in line and "nan there" in line for line in found)
    assert any(line.startswith("runs/r0-1: miou_dataset") for line in found)


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
        ["acc differs, and too few runs have two seeds that would say how much retraining moves"],
        {},
    )


def test_a_score_that_one_side_lacks_is_named():
    ours = {f"runs/a-{s}": {"acc": 0.5 + s / 10, "miou_dataset": 0.3} for s in (0, 1)}
    theirs = {name: {**held, "miou_dataset": None} for name, held in ours.items()}
    problems, _ = beyond_retraining(ours, theirs)
    assert problems == [f"runs/a-{s}: miou_dataset is 0.3 here and None there" for s in (0, 1)]
    assert beyond_retraining({"runs/a-0": {}}, {"runs/a-0": {}})[0] == ["no result has a score in both folders"]
