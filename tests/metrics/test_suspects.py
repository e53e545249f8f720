"""Label suspects, agreement of members, duplicates and folds."""

import hashlib
import math

import numpy as np
import pytest

from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import ConfigError
from segpipe.data import duplicates, folds
from segpipe.metrics.suspects import confusion_of, regions, unanimity


def sure(labels, classes=3, p=0.9):
    """Probabilities that put p on these labels."""
    probs = np.full((classes, *labels.shape), (1 - p) / (classes - 1))
    np.put_along_axis(probs, labels[None], p, 0)
    return probs


def test_a_planted_square_is_found_with_its_box_surprise_and_score():
    seen = np.zeros((10, 12), int)
    seen[2:7, 3:8] = 1  # what the network sees and the label lacks
    (found,) = regions(sure(seen), np.zeros((10, 12), int))
    assert (found.label, found.predicted, found.area, found.core) == (0, 1, 25, 9)
    assert found.box == (2, 3, 7, 8)
    assert found.surprise == pytest.approx(-math.log(0.05))
    assert found.score == pytest.approx(math.log(1 + 9) * -math.log(0.05))


def test_thin_small_and_void_regions_are_no_suspects_or_come_last():
    seen = np.zeros((12, 12), int)
    seen[1] = 1  # one pixel thick: no core
    seen[5:10, 5:10] = 2
    target = np.zeros((12, 12), int)
    first, second = regions(sure(seen), target)
    assert (first.predicted, second.predicted, second.core, second.score) == (2, 1, 0, 0)
    assert len(regions(sure(seen), target, smallest=13)) == 1
    assert regions(sure(seen), np.where(seen > 0, 255, target)) == []
    broken = np.where(seen == 1, np.nan, sure(seen))  # a network may say anything under void
    assert len(regions(broken, np.where(seen == 1, 255, target))) == 1


def test_regions_of_different_pairs_are_not_joined():
    target = np.zeros((8, 8), int)
    target[:, 4:] = 1
    (a, b) = regions(sure(np.full((8, 8), 2)), target)
    assert [(a.label, a.predicted), (b.label, b.predicted)] == [(0, 2), (1, 2)]
    assert confusion_of([a, b, a]) == [(0, 2, 2, 64), (1, 2, 1, 32)]


def test_members_that_err_alike_are_unanimous_and_scattered_ones_are_not():
    target = np.zeros((4, 4), int)
    assert unanimity([target + 1] * 4, target) == 1
    assert unanimity([target + k for k in (1, 2, 3, 4)], target) == 0
    assert unanimity([target] * 4, target) is None
    assert unanimity([target + 1] * 3 + [target], target) == 1  # all but one
    assert unanimity([target + 1] * 4, np.full((4, 4), 255)) is None
    assert unanimity([target + 1, target + 2], target) == 0  # one vote is no agreement
    assert unanimity([target + 1, target + 1], target) == 1
    assert unanimity([target + 1], target) is None


def test_the_same_picture_smaller_is_a_duplicate_and_noise_is_not():
    random = np.random.default_rng(0)
    picture = np.kron(random.integers(0, 255, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    other = np.kron(random.integers(0, 255, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    flat = np.full_like(picture, 9)
    splits = {
        "train": (["a", "b"], duplicates.thumbnails([picture, other])),
        "test": (["c", "d"], duplicates.thumbnails([picture[::2, ::2], flat])),
    }
    (found,) = duplicates.across(splits)
    assert found[:4] == ("train", "a", "test", "c")
    assert found[4] > 0.98


def test_folds_keep_groups_whole_fill_evenly_and_forget_the_order():
    groups = [f"g{i // 4}" for i in range(40)]
    found = folds.assign(groups, 3)
    assert all(len({found[i] for i in range(40) if groups[i] == g}) == 1 for g in set(groups))
    assert sorted(found.count(k) for k in range(3)) == [12, 12, 16]
    assert folds.assign(groups[::-1], 3) == found[::-1]
    with pytest.raises(ConfigError, match="10 groups"):
        folds.assign(groups, 11)


@pytest.mark.parametrize("classes, dtype", [(3, np.float32), (5, np.float16), (300, np.float64), (1, np.float32)])
def test_label_and_confidence_equal_argmax_and_max(classes, dtype):
    random = np.random.default_rng(classes)
    scores = random.integers(0, 9, (classes, 37, 41)).astype(dtype)  # many ties
    labels, confidence = label_and_confidence(scores)
    assert (labels == scores.argmax(0)).all()
    assert (confidence == scores.max(0)).all()


def test_label_and_confidence_refuse_nan_and_wrong_shapes():
    scores = np.zeros((3, 4, 4), np.float32)
    scores[2, 1, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        label_and_confidence(scores)
    with pytest.raises(ValueError, match="wanted"):
        label_and_confidence(scores[0])


def test_folds_hold_even_numbers_of_images_though_one_group_is_large():
    """The large group comes first in the order of digests; all others together are as many images."""
    names = sorted((f"g{i}" for i in range(13)), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    found = folds.assign([names[0]] * 12 + names[1:], 2)
    assert (found.count(0), found.count(1)) == (12, 12)


def test_duplicates_of_later_blocks_are_named(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 2)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    first, second = duplicates.thumbnails(images), duplicates.thumbnails(images[[4]])
    (found,) = duplicates.across({"train": (list("abcde"), first), "test": (["x"], second)})
    assert found[:4] == ("train", "e", "test", "x")
