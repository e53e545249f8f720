"""The embedded dataset: the same pixels everywhere, and the difficulty it was designed with."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from segpipe.data import annotators, scenes
from segpipe.data.catalog import majority

# Of the first eight train samples; another one changes every result.
FINGERPRINT = "8abe099c30444363b20ec8edd5dc07458448b40e198ea045eb9780e9eb6dbf2f"


@pytest.fixture(scope="module")
def train():
    return list(scenes.generate("train"))


def test_pixels_are_the_same_on_any_platform():
    digest = hashlib.sha256()
    for item in scenes.generate("train", 8):
        for array in (item.image, *item.annotators):
            assert array.dtype == np.uint8
            digest.update(repr(array.shape).encode() + array.tobytes())
    assert digest.hexdigest() == FINGERPRINT


def test_only_whole_numbers_are_used():
    for module in ("paint.py", "scenes.py", "annotators.py"):
        source = Path(scenes.__file__).with_name(module).read_text()
        code = [line for line in source.splitlines() if not line.strip().startswith("#")]
        assert not any(word in line for line in code for word in ("float", "math.", " / ", "np.sqrt", "random."))


def test_the_tail_is_long_and_void_is_small(train):
    pixels, images = np.zeros(256, int), np.zeros(8, int)
    for item in train:
        labels = majority(item.annotators)
        pixels += np.bincount(labels.ravel(), minlength=256)
        images += np.array([(labels == k).any() for k in range(8)])
    share = pixels / pixels.sum()
    assert share[:8].min() < 0.005
    assert images[share[:8].argmin()] < 0.3 * len(train)
    assert 0 < share[255] < 0.06
    assert (pixels[:8] > 0).all()


def test_sizes_vary_and_sequences_stay_in_one_split(train):
    assert len({item.image.shape for item in train}) > 5
    groups = {item.group for item in train}
    assert len(groups) == len(train) / scenes.FRAMES
    others = {item.group for split in ("val", "test") for item in scenes.generate(split, 8)}
    assert not groups & others


def test_annotators_differ_by_habit(train):
    careful, generous, hasty = (np.mean([(item.annotators[k] == 6).mean() for item in train[:40]]) for k in range(3))
    assert generous > careful > hasty > 0  # poles: drawn fat, as they are, and lost between blocks


def test_planted_errors_are_recorded_where_they_are(train):
    planted = [(item, error) for item in train for error in item.planted]
    things = len(planted) * 100 // annotators.PLANTED_PERCENT
    assert 500 < things < 10_000
    for item, error in planted[:40]:
        top, left, bottom, right = error["box"]
        assert error["true"] != error["planted"]
        found = (item.annotators[0][top:bottom, left:right] == error["planted"]).sum()
        assert found >= error["pixels"]
    assert not any(item.planted for item in scenes.generate("val", 8))


def test_majority_is_what_two_of_three_say():
    first, second, third = (
        np.array([row], np.uint8) for row in ([0, 0, 1, 0, 255], [0, 1, 1, 1, 255], [1, 0, 1, 2, 0])
    )
    assert majority((first, second, third)).tolist() == [[0, 0, 1, 255, 255]]
