"""The search: its budget, its steps, and that no CRF competes."""

import math

import numpy as np
import pytest
from test_dense import case

from segpipe.core.argmax import label_and_confidence
from segpipe.crf import dense_crf
from segpipe.refine.crf import CRF
from segpipe.refine.search import tune

GRID = {
    "unary_scale": [1.0], "pos_w": [1.0, 4.0], "pos_xy_std": [1.0], "bi_w": [1.0, 4.0], "bi_xy_std": [8.0, 30.0],
    "bi_rgb_std": [13.0],
}  # fmt: skip


def bowl(**best):
    """A score with its top, 1, at `best`, falling with the squared logarithms of the distances."""

    def evaluate(points):
        return [1 - sum(math.log(point[name] / value) ** 2 for name, value in best.items()) for point in points]

    return evaluate


def test_the_search_goes_from_coarse_to_fine():
    evaluate = bowl(pos_w=2.3, bi_w=5.5, bi_xy_std=14.0)
    coarse = tune(evaluate, GRID, -100.0, points=8)
    fine = tune(evaluate, GRID, -100.0, points=80)
    assert len(coarse.candidates) == 8
    assert fine.score > coarse.score
    for name, value in {"pos_w": 2.3, "bi_w": 5.5, "bi_xy_std": 14.0}.items():
        assert abs(math.log(fine.parameters[name] / value)) < math.log(1.15)


def test_one_value_holds_a_parameter_fixed():
    choice = tune(bowl(pos_w=2.0, bi_rgb_std=3.0), GRID, -100.0, points=60)
    assert {row["bi_rgb_std"] for row in choice.candidates} == {13.0}
    assert {row["unary_scale"] for row in choice.candidates} == {1.0}


@pytest.mark.parametrize("points", [8, 9, 13, 40, 200])
def test_the_budget_is_kept_and_no_point_is_tried_twice(points):
    choice = tune(bowl(pos_w=2.3, bi_w=50.0), GRID, -100.0, points=points)
    assert 8 <= len(choice.candidates) <= points
    tried = [tuple(row[name] for name in GRID) for row in choice.candidates]
    assert len(set(tried)) == len(tried)
    assert choice.score == max(row["score"] for row in choice.candidates)


def test_a_grid_beyond_the_budget_is_refused():
    with pytest.raises(ValueError, match="8 points, the budget is 7"):
        tune(bowl(pos_w=1.0), GRID, 0.0, points=7)


def test_no_crf_wins_a_tie():
    choice = tune(lambda points: [0.5] * len(points), GRID, 0.5, points=20)
    assert choice.parameters is None
    assert choice.score == choice.score_without == 0.5


def test_a_weight_of_zero_stays_zero():
    grid = {**GRID, "pos_w": [0.0, 1.0]}
    choice = tune(lambda points: [-point["pos_w"] for point in points], grid, -100.0, points=40)
    assert choice.parameters["pos_w"] == 0.0


def test_shared_lattices_change_no_label():
    image, probs, _ = case((20, 24))
    points = [
        {"unary_scale": u, "pos_w": 1.0, "pos_xy_std": s, "bi_w": w, "bi_xy_std": xy, "bi_rgb_std": 30.0}
        for u in (0.5, 1.0)
        for s in (1.0, 2.0)
        for w in (0.0, 4.0)
        for xy in (10.0, 5.0)
    ]
    found = dict(CRF.label_maps(image, probs, points, {"iterations": 3}))
    assert sorted(found) == list(range(len(points)))
    for i, point in enumerate(points):
        alone = label_and_confidence(dense_crf(image, probs, iterations=3, **point))[0]
        np.testing.assert_array_equal(found[i], alone)
