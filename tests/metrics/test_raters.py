"""Several annotators: energy distance and thresholded Dice by hand and by property."""

import numpy as np
import pytest

from segpipe import metrics
from segpipe.metrics import raters


def strip(*ids):
    return np.array([ids], np.uint8)


def test_ged_by_hand():
    # d between 0011 and 0111: class 0 IoU 1/2, class 1 IoU 2/3; d = 1 - 7/12 = 5/12.
    a, b = strip(0, 0, 1, 1), strip(0, 1, 1, 1)
    assert metrics.ged([a], [b], 2) == pytest.approx(2 * 5 / 12)
    # Two annotators a and b, one sample a: 2 (0 + 5/12) / 2 - 0 - (0 + 5/12 + 5/12 + 0) / 4.
    assert metrics.ged([a], [a, b], 2) == pytest.approx(5 / 12 - 5 / 24)


def test_ged_of_equal_sets_is_zero_and_it_is_never_negative():
    random = np.random.default_rng(0)
    for _ in range(20):
        sets = [[random.integers(0, 3, (4, 5)) for _ in range(random.integers(1, 4))] for _ in range(2)]
        assert metrics.ged(sets[0], sets[0], 3) == pytest.approx(0, abs=1e-12)
        assert metrics.ged(*sets, 3) >= -1e-12
        assert metrics.ged(*sets, 3) == pytest.approx(metrics.ged(*sets[::-1], 3))


def test_ged_leaves_void_out_and_nothing_in_common_is_no_distance():
    a, b = strip(0, 0, 1, 1), strip(0, 0, 1, 255)
    assert metrics.ged([a], [b], 2) == 0
    assert metrics.ged([strip(0, 1)], [strip(255, 255)], 2) == 0


def test_thresholded_dice_by_hand():
    # Annotators agree 1, 1/2 and 0; the prediction says .95, .35 and .05.
    masks = [strip(1, 1, 0), strip(1, 0, 0)]
    prob = np.array([[0.95, 0.35, 0.05]])
    # Thresholds .1 to .3: both hold pixels 1, 2: Dice 1. .4 and .5: ours 1, theirs 2: 2/3. .6 to .9: Dice 1.
    assert metrics.thresholded_dice(prob, masks) == pytest.approx((3 * 1 + 2 * 2 / 3 + 4 * 1) / 9)


def test_three_of_ten_annotators_reach_three_tenths():
    masks = [strip(int(k < 3)) for k in range(10)]
    assert metrics.thresholded_dice(np.array([[0.3]]), masks, thresholds=(0.1 * 3,)) == 1


def test_thresholded_dice_leaves_out_who_has_no_opinion():
    # The second annotator is void on pixel 2, both on pixel 3: pixel 2 follows the first alone.
    masks, void = [strip(1, 1, 1), strip(1, 0, 0)], [strip(0, 0, 1) > 0, strip(0, 1, 1) > 0]
    for under in (0.0, 1.0):
        assert metrics.thresholded_dice(np.array([[0.95, 0.95, under]]), masks, void=void) == 1


def test_rejecting_pixels_does_not_buy_a_better_distance():
    wrong, rejected, rater = strip(1, 1, 1, 0), strip(255, 255, 255, 0), strip(0, 0, 0, 0)
    # Wrong: class 0 has IoU 1/4, class 1 none. Rejected: class 0 alone, IoU 1/4.
    assert metrics.ged([wrong], [rater], 2) == pytest.approx(2 * (1 - 1 / 8))
    assert metrics.ged([rejected], [rater], 2) == pytest.approx(2 * (1 - 1 / 4))
    assert metrics.ged([strip(255, 255)], [strip(0, 0)], 2) == pytest.approx(2)


def test_both_empty_is_a_full_score_and_shapes_must_agree():
    assert metrics.thresholded_dice(np.zeros((1, 2)), [strip(0, 0)]) == 1
    with pytest.raises(ValueError, match="wanted"):
        metrics.thresholded_dice(np.zeros((1, 2)), [strip(0, 0, 0)])
    with pytest.raises(ValueError, match="wanted"):
        metrics.ged([], [strip(0)], 2)
    assert len(raters.THRESHOLDS) == 9
