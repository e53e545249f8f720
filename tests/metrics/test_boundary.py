"""Scores near borders: against plain loops, by hand, and without regard to void."""

import math

import numpy as np
import pytest

from segpipe import metrics

import plain

C = 3


def case(seed, size=(9, 11)):
    """Blobs of three classes with some void."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, C, (3, 4))
    target = np.kron(coarse, np.ones((3, 3), int))[: size[0], : size[1]]
    labels = np.roll(target, 1, random.integers(0, 2))
    target = np.where(random.random(target.shape) < 0.1, 255, target)
    return labels.astype(np.uint8), target.astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.02, 0.15])
def test_boundary_counts_equal_plain_loops(seed, share):
    labels, target = case(seed)
    found = metrics.boundary_counts(labels, target, C, share=share)
    steps = max(1, round(share * math.hypot(*target.shape)))
    void = target == 255
    for k in range(C):
        ours, true = (plain.band(ids == k, void, steps) for ids in (labels, target))
        assert (found.tp[0, k], found.fp[0, k], found.fn[0, k]) == (
            len(ours & true),
            len(ours - true),
            len(true - ours),
        )


def test_boundary_iou_by_hand():
    # A 4 x 4 square of class 1 in 8 x 8, moved by one column; the band of one step is its ring of 12.
    target = np.zeros((8, 8), np.uint8)
    target[2:6, 2:6] = 1
    labels = np.roll(target, 1, 1)
    found = metrics.boundary_counts(labels, target, 2, share=0.02)  # round(.02 * 11.3) = 0, at least 1
    # In common: top and bottom rows 3 each, and where the rings' columns cross none of the 2 middle rows.
    assert (found.tp[0, 1], found.fp[0, 1], found.fn[0, 1]) == (6, 6, 6)
    assert metrics.summarize(found)["per_class"]["iou_dataset"][1] == pytest.approx(6 / 18)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.0075, 0.1])
def test_bf_scores_equal_plain_loops(seed, share):
    labels, target = case(seed)
    found = metrics.bf_scores(labels, target, C, share=share)
    void, reach = target == 255, share * math.hypot(*target.shape)
    for k in range(C):
        ours, true = (plain.contour(ids == k, void) for ids in (labels, target))
        if not true:
            assert math.isnan(found[k])
            continue
        precision = sum(d <= reach for d in plain.nearest(ours, true)) / len(ours) if ours else 0
        recall = sum(d <= reach for d in plain.nearest(true, ours)) / len(true) if ours else 0
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
        assert found[k] == pytest.approx(expected)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_trimap_holds_pixels_within_its_width_of_a_border(width):
    _, target = case(5)
    height, length = target.shape
    beside = []
    for y in range(height):
        for x in range(length):
            for a, b in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if plain.inside(target, a, b) and len({255, target[y, x], target[a, b]}) == 3:
                    beside.append((y, x))
    found = metrics.trimap(target, width)
    for y in range(height):
        for x in range(length):
            near = min(math.dist((y, x), point) for point in beside) < width
            assert found[y, x] == (near and target[y, x] != 255), (y, x)


def test_trimaps_grow_to_the_whole_image_and_a_borderless_image_has_none():
    labels, target = case(6)
    counts = metrics.trimap_counts(labels, target, C, (1, 2, 4, 100))
    sizes = [int(c.valid[0]) for c in counts.values()]
    assert sizes == sorted(sizes)
    assert sizes[-1] == (target != 255).sum()
    flat = metrics.trimap_counts(labels, np.zeros_like(target), C, (4,))[4]
    assert flat.valid[0] == 0
    assert metrics.summarize(flat)["miou_dataset"] is None


@pytest.mark.parametrize("seed", range(3))
def test_predictions_under_void_change_no_border_score(seed):
    labels, target = case(seed)
    other = np.where(target == 255, 77, labels).astype(np.uint8)
    for score in (metrics.boundary_counts, metrics.bf_scores):
        a, b = score(labels, target, C), score(other, target, C)
        pairs = zip(vars(a).values(), vars(b).values(), strict=True) if hasattr(a, "tp") else [(a, b)]
        assert all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def test_void_beside_an_object_makes_no_contour():
    target = np.zeros((6, 6), np.uint8)
    target[:, 3] = 255
    labels = np.where(np.arange(6) >= 3, 0, 0)[None].repeat(6, 0).astype(np.uint8)
    assert np.isnan(metrics.bf_scores(labels, target, 1)[0])
    assert not metrics.trimap(target, 4).any()


def test_surface_distances_equal_plain_loops():
    random = np.random.default_rng(0)
    for _ in range(5):
        masks = [np.kron(random.integers(0, 2, (3, 3)), np.ones((3, 3), int)).astype(bool) for _ in range(2)]
        found = metrics.surface_distances(*masks)
        rims = []
        for mask in masks:
            padded = np.pad(mask, 1)
            rims.append([(y - 1, x - 1) for y, x in plain.contour(padded, np.zeros(padded.shape, bool))])
        if not all(rims):
            assert set(found.values()) == {None}
            continue
        there, back = plain.nearest(*rims), plain.nearest(*rims[::-1])
        assert found["hd"] == pytest.approx(max(there + back))
        assert found["hd95"] == pytest.approx(max(plain.percentile(there, 0.95), plain.percentile(back, 0.95)))
        assert found["assd"] == pytest.approx(sum(there + back) / len(there + back))


def test_void_makes_no_surface():
    true = np.zeros((12, 12), bool)
    true[2:10, 2:10] = True
    ours, void = true.copy(), np.zeros_like(true)
    ours[:, 8:] = False
    plain_distance = metrics.surface_distances(ours, true)
    void[5, 4] = True  # inside of both
    assert metrics.surface_distances(ours & ~void, true & ~void, void) == plain_distance


def test_an_empty_mask_has_no_surface():
    empty = np.zeros((4, 4), bool)
    assert metrics.surface_distances(empty, ~empty) == {"hd": None, "hd95": None, "assd": None}


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="equal"):
        metrics.boundary_counts(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)
