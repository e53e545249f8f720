"""Counts and scores: against plain loops, by hand, and by property."""

import numpy as np
import pytest
import torch

from segpipe import metrics

import plain

C = 4


def case(seed, images=23):
    """Labels with rejected pixels, targets with void, absent classes and one void image."""
    random = np.random.default_rng(seed)
    target = random.integers(0, C, (images, 5, 6))
    target[target == 2] = random.choice([0, 2], 1)[0]
    labels = np.where(random.random(target.shape) < 0.6, target, random.integers(0, C, target.shape))
    labels[random.random(target.shape) < 0.05] = 255
    target[random.random(target.shape) < 0.1] = 255
    target[3] = 255
    return labels, target


@pytest.mark.parametrize("seed", range(4))
def test_counts_equal_plain_loops(seed):
    labels, target = case(seed)
    found = metrics.count(labels, target, C)
    table, totals = plain.counts(labels, target, C)
    assert np.stack([found.tp, found.fp, found.fn], 2).tolist() == [[list(cell) for cell in row] for row in table]
    assert list(zip(found.valid.tolist(), found.rejected.tolist(), strict=True)) == totals


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("metric", ["iou", "dice", "acc"])
def test_scores_equal_plain_loops(seed, metric):
    labels, target = case(seed)
    found = metrics.summarize(metrics.count(labels, target, C), quantiles=(5, 40))
    table, _ = plain.counts(labels, target, C)
    for q in (5, 40):
        for name, value in plain.summarize(table, metric, q).items():
            assert found[f"m{metric}_{name}"] == pytest.approx(value, abs=1e-12), name


def test_torch_and_numpy_count_alike():
    labels, target = case(0)
    a = metrics.count(labels, target, C)
    b = metrics.count(torch.from_numpy(labels), torch.from_numpy(target), C)
    assert (a.tp == b.tp).all()
    assert (a.fp == b.fp).all()


def table_of(*cells):
    """Counts from [image][class] = (tp, fp, fn)."""
    numbers = np.array(cells, np.int64)
    tp, fp, fn = numbers[..., 0], numbers[..., 1], numbers[..., 2]
    return metrics.Counts(tp, fp, fn, (tp + fn).sum(1), np.zeros(len(tp), np.int64))


#          class 0     class 1
# image 0   4 / 4       1 / 1
# image 1   3 / 4       0 / 1
# image 2   2 / 2         -
HAND = table_of([(4, 0, 0), (1, 0, 0)], [(3, 1, 0), (0, 0, 1)], [(2, 0, 0), (0, 0, 0)])


def test_dataset_image_and_class_means_differ_as_their_names_say():
    scores = metrics.summarize(HAND, quantiles=(50,))
    assert scores["miou_dataset"] == pytest.approx((9 / 10 + 1 / 2) / 2)
    assert scores["miou_image"] == pytest.approx((1 + 3 / 8 + 1) / 3)
    assert scores["miou_class"] == pytest.approx(((1 + 3 / 4 + 1) / 3 + 1 / 2) / 2)
    assert scores["acc"] == pytest.approx(10 / 11)
    assert scores["miou_image_q50"] == pytest.approx(3 / 8)  # floor(3 * 50 / 100) = 1 image
    assert scores["share_iou_ge_0.5"] == pytest.approx(4 / 5)
    assert scores["per_class"]["images"] == [3, 2]


def test_a_share_threshold_is_reached_by_equality():
    assert metrics.summarize(table_of([(1, 1, 0)]), thresholds=(0.5,))["share_iou_ge_0.5"] == 1


def test_a_class_only_predicted_is_zero_in_dataset_and_left_out_elsewhere():
    scores = metrics.summarize(table_of([(3, 0, 1), (0, 1, 0)]))
    assert scores["miou_dataset"] == pytest.approx((3 / 4 + 0) / 2)
    assert scores["miou_image"] == scores["miou_class"] == pytest.approx(3 / 4)
    assert scores["macc_dataset"] == pytest.approx(3 / 4)
    union = metrics.summarize(table_of([(3, 0, 1), (0, 1, 0)]), presence="union")
    assert union["miou_image"] == pytest.approx((3 / 4 + 0) / 2)


def test_nothing_valid_is_none_not_a_number():
    scores = metrics.summarize(table_of([(0, 0, 0), (0, 0, 0)]))
    assert scores["acc"] is None
    assert scores["miou_dataset"] is None
    assert scores["miou_image_q5"] is None


def test_merged_shards_equal_the_whole():
    labels, target = case(1)
    whole = metrics.summarize(metrics.count(labels, target, C))
    parts = [metrics.count(labels[i : i + 7], target[i : i + 7], C) for i in range(0, len(labels), 7)]
    assert metrics.summarize(metrics.Counts.concat(parts)) == whole


def test_the_worst_quantile_grows_to_the_mean():
    counts = metrics.count(*case(2), C)
    values = [metrics.summarize(counts, quantiles=(q,))[f"miou_image_q{q}"] for q in (1, 10, 30, 60, 100)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(metrics.summarize(counts)["miou_image"])


def test_predictions_under_void_change_nothing():
    labels, target = case(3)
    other = np.where(target == 255, 77, labels)  # not even a class
    assert metrics.summarize(metrics.count(other, target, C)) == metrics.summarize(metrics.count(labels, target, C))


def test_a_label_outside_the_classes_is_an_error():
    target = np.zeros((1, 2, 2), int)
    with pytest.raises(ValueError, match="labels hold 9"):
        metrics.count(np.full((1, 2, 2), 9), target, C)
    with pytest.raises(ValueError, match="target hold 200"):
        metrics.count(target, np.full((1, 2, 2), 200), C)
    with pytest.raises(ValueError, match="equal"):
        metrics.count(target, target[0], C)
    with pytest.raises(ValueError, match="integers"):
        metrics.count(target * 1.0, target, C)
    with pytest.raises(ValueError, match="class list"):
        metrics.Counts.concat([metrics.count(target, target, 2), metrics.count(target, target, 3)])


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_equals_plain_loops(bins):
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(C) * 0.5, (5, 4, 6)).transpose(0, 3, 1, 2)
    target = random.integers(0, C, (5, 4, 6))
    target[random.random(target.shape) < 0.2] = 255
    target[2] = 255
    found = metrics.calibration(probs, target, bins=bins)
    for name, value in plain.calibration(probs, target, bins).items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


def test_probabilities_that_do_not_sum_to_one_are_refused():
    for wrong in (0.4, np.nan):
        with pytest.raises(ValueError, match="sum to one"):
            metrics.calibration(np.full((1, 2, 2, 2), wrong), np.zeros((1, 2, 2), int))
