"""Counts and scores: against plain loops, by hand, and by property."""

from fractions import Fraction

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


@pytest.mark.parametrize(
    "dtype, ignore_index, reject",
    [(t, *pair) for t in (np.uint8, np.int16, np.int64) for pair in ((255, 255), (None, None), (0, 255), (7, 9))]
    + [(np.int16, -1, -1), (np.int64, -1, 300)],
)
def test_counts_of_every_width_and_void_equal_plain_loops(dtype, ignore_index, reject):
    random = np.random.default_rng(0)
    target = random.integers(0, C, (3, 5, 6)).astype(dtype)
    labels = random.integers(0, C, target.shape).astype(dtype)
    if ignore_index is not None:
        target[random.random(target.shape) < 0.2] = ignore_index
        labels[random.random(target.shape) < 0.2] = reject
    found = metrics.count(labels, target, C, ignore_index=ignore_index, reject=reject)
    table, totals = plain.counts(labels, target, C, ignore_index, reject)
    assert np.stack([found.tp, found.fp, found.fn], 2).tolist() == [[list(cell) for cell in row] for row in table]
    assert list(zip(found.valid.tolist(), found.rejected.tolist(), strict=True)) == totals


def test_counts_are_exact_beyond_what_a_float_holds():
    side = 4200  # 17.6 million pixels of one class; float32 stops at 2^24 = 16.8 million
    target = np.zeros((1, side, side), np.uint8)
    target[0, 0, 0] = 1
    found = metrics.count(target, target, 2)
    assert found.tp.tolist() == [[side * side - 1, 1]]


def test_confusion_tells_who_is_taken_for_whom():
    table = metrics.confusion(np.array([[[0, 1, 1, 255]]]), np.array([[[0, 0, 1, 1]]]), 2)
    assert table.tolist() == [[[1, 1, 0], [0, 1, 1]]]


def test_more_than_255_classes_need_another_void():
    target = np.array([[[0, 255, 299]]])
    with pytest.raises(ValueError, match="255 is one of them"):
        metrics.count(target, target, 300)
    assert metrics.count(target, target, 300, ignore_index=None, reject=None).tp.sum() == 3


def test_dice_follows_iou_in_a_pair_but_not_in_a_mean():
    counts = metrics.count(*case(0), C)
    iou, dice = metrics.per_pair(counts, "iou"), metrics.per_pair(counts, "dice")
    assert np.allclose(dice, 2 * iou / (1 + iou), equal_nan=True)
    scores = metrics.summarize(counts)
    mean = scores["miou_image"]
    assert abs(scores["mdice_image"] - 2 * mean / (1 + mean)) > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_scores_depend_neither_on_the_order_of_images_nor_of_classes(seed):
    counts, random = metrics.count(*case(seed), C), np.random.default_rng(seed)
    images, classes = random.permutation(len(counts)), random.permutation(C)
    other = counts[images]
    other = metrics.Counts(*(part[:, classes] for part in (other.tp, other.fp, other.fn)), other.valid, other.rejected)
    ours, theirs = metrics.summarize(counts), metrics.summarize(other)
    for name, value in ours.items():
        if name != "per_class":
            assert theirs[name] == pytest.approx(value, abs=1e-12), name
    assert theirs["per_class"]["images"] == [ours["per_class"]["images"][k] for k in classes]


@pytest.mark.parametrize("threshold", ["0.5", "0.7", "0.25"])
def test_shares_equal_plain_loops(threshold):
    labels, target = case(1)
    found = metrics.summarize(metrics.count(labels, target, C), thresholds=(float(threshold),))
    table, _ = plain.counts(labels, target, C)
    pairs, of_class = plain.share_reaching(table, Fraction(threshold))
    assert found[f"share_iou_ge_{threshold}"] == pytest.approx(pairs)
    assert found[f"share_iou_ge_{threshold}_class"] == pytest.approx(of_class)


@pytest.mark.parametrize("n", [90, 170, 180, 330])
def test_the_floor_of_n_q_is_taken_in_integers(n):
    # int(0.7 * 90) is 62 in floating point.
    tp = np.arange(1, n + 1)[:, None]
    none = np.zeros_like(tp)
    counts = metrics.Counts(tp, none, n - tp, np.full(n, n), none[:, 0])
    number = 7 * n // 10
    assert int(70 / 100 * n) == number - 1
    mean = sum(range(1, number + 1)) / number / n
    assert metrics.summarize(counts, quantiles=(70,))["miou_image_q70"] == pytest.approx(mean, abs=1e-12)


#               image 0            image 1 (no foreground in both)   image 2 (a false alarm)
BINARY = table_of([(5, 1, 1), (2, 1, 1)], [(9, 0, 0), (0, 0, 0)], [(7, 0, 2), (0, 2, 0)])


@pytest.mark.parametrize(
    "empty, expected", [("one", (1 / 2 + 1 + 0) / 3), ("zero", (1 / 2) / 3), ("skip", (1 / 2) / 2)]
)
def test_the_binary_view_scores_the_foreground_alone(empty, expected):
    found = metrics.foreground(BINARY, empty=empty)
    assert found["iou_image"] == pytest.approx(expected)
    assert found["iou_dataset"] == pytest.approx(2 / (2 + 3 + 1))
    with pytest.raises(ValueError, match="wanted 2"):
        metrics.foreground(metrics.count(np.zeros((1, 1, 1), int), np.zeros((1, 1, 1), int), 3))


def test_an_evaluation_knows_rejected_pixels_borders_raters_and_void():
    from segpipe.metrics.evaluation import Evaluation, Options

    random = np.random.default_rng(0)
    collected, other = (Evaluation(C, Options(surface=True)) for _ in range(2))
    for _ in range(4):
        probs = random.dirichlet(np.ones(C), (8, 9)).transpose(2, 0, 1)
        raters = [random.integers(0, C, (8, 9)) for _ in range(3)]
        target = raters[0].copy()
        target[:2] = 255
        labels = probs.argmax(0)
        labels[4, :3] = 255
        collected.add(target, labels=labels, probs=probs, raters=raters)
        broken = np.where(target == 255, np.nan, probs)
        other.add(target, labels=np.where(target == 255, 99, labels), probs=broken)
    found, without = (e.scores(["a", "b", "c", "d"]) for e in (collected, other))
    assert found["coverage"] == pytest.approx(1 - 3 / 54)
    assert found["accepted"]["acc"] == pytest.approx(found["acc"] * 54 / 51)
    assert len(found["raters"]["miou_dataset"]) == 3
    assert found["borders"]["hd95_class"] > 0
    assert {k: v for k, v in found.items() if k != "raters"} == without
    assert len(collected.image_rows()) == 4
    with pytest.raises(ValueError, match="2 annotators, wanted the 3"):
        collected.add(target, labels=labels, raters=raters[:2])
    with pytest.raises(ValueError, match="without labels"):
        collected.add(target)
