"""Cross-validated comparisons of equal learners are rarely called different; see crossed.py."""

import math

import numpy as np
import pytest
from crossed import crossed

from segpipe.metrics.comparison import differences
from segpipe.metrics.sample import measure


@pytest.mark.parametrize("images, folds", [(6, 6), (12, 4), (40, 5)])
def test_equal_learners_are_called_different_as_rarely_as_said(images, folds):
    random, wrong, experiments = np.random.default_rng(images), 0, 200
    for _ in range(experiments):
        tables, groups = crossed(images, folds, random)
        pair = differences(measure(tables, groups, ["miou_dataset"], folds=folds))[0]
        wrong += not pair.low <= 0 <= pair.high
    assert wrong / experiments <= 0.06 + 3 * math.sqrt(0.05 * 0.95 / experiments)


def test_the_variance_is_larger_by_what_the_folds_share():
    tables, groups = crossed(20, 5, np.random.default_rng(0))
    plain, corrected = (differences(measure(tables, groups, ["acc"], folds=folds))[0] for folds in (1, 5))
    assert corrected.value == plain.value
    ratio = (corrected.high - corrected.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(math.sqrt(1 + 5 / 4))
