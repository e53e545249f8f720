"""What stages store of each image: exact labels, and probabilities that mean what they meant."""

import math
import zlib

import numpy as np
import pytest

from segpipe.core.errors import DataError
from segpipe.data.geometry import softmax
from segpipe.data.maps import Maps, write_maps
from segpipe.data.packed import Packed


def smooth(random, classes, height, width, spread):
    """Scores of classes (C, H, W) that change slowly, as those of networks."""
    waves = random.normal(0, 1, (classes, 2, 1, 1))
    rows, columns = np.mgrid[:height, :width] / 20
    return (spread * np.sin(waves[:, :1] * rows + waves[:, 1:] * columns)[:, 0]).astype(np.float32)


def true_share(probs):
    """Probabilities as loops have them: exp and a sum, pixel by pixel."""
    classes, height, width = probs.shape
    found = np.empty(probs.shape)
    for y in range(height):
        for x in range(width):
            powers = [math.exp(float(probs[c, y, x])) for c in range(classes)]
            found[:, y, x] = [power / sum(powers) for power in powers]
    return found


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 48)])
def test_labels_come_back_exactly(shape):
    labels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = Packed.labels(labels).unpack()
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("spread", [0.1, 3, 40, 900])
def test_the_distance_to_the_best_class_comes_back_within_half_a_step(spread):
    scores = np.random.default_rng(1).normal(0, spread, (7, 9, 11)).astype(np.float32)
    found, wanted = Packed.scores(scores).unpack(), scores - scores.max(0)
    assert found.shape == scores.shape
    np.testing.assert_array_equal(found.argmax(0), scores.argmax(0))
    inside = wanted > -1000
    # Half of a step of 1/16 of the power of two below; below 2^-6 the next number is 0.
    assert (np.abs(found - wanted)[inside] <= np.maximum(2.0**-6 * 17 / 16, -wanted[inside] / 32) * 1.001).all()
    assert (found[~inside] < -990).all()


def test_scores_do_not_depend_on_a_constant_of_each_pixel():
    random = np.random.default_rng(2)
    scores, shift = random.integers(-90, 9, (4, 6, 8)).astype(np.float32), random.integers(-5, 5, (6, 8))
    assert Packed.scores(scores).content == Packed.scores((scores + shift).astype(np.float32)).content


@pytest.mark.parametrize("scores", [65504 * np.eye(3, dtype=np.float32)[:, :, None], np.full((3, 2, 2), -1e30, "f")])
def test_extreme_scores_stay_finite_and_keep_their_best_class(scores):
    found = Packed.scores(scores).unpack()
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found.argmax(0), scores.argmax(0))


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 5, 7), (9, 33, 30), (150, 16, 24)])
def test_probabilities_come_back_where_they_matter(shape):
    random = np.random.default_rng(3)
    probs = true_share(smooth(random, *shape, 6))
    found = true_share(Packed.probs(probs.astype(np.float32)).unpack())
    near = probs > probs.max(0) * math.exp(-9.9)
    # Half a step of a distance d is at most d / 32, and the sum over the classes moves no more.
    distance = np.log(probs.max(0) / np.maximum(probs, 1e-12))
    assert (np.abs(np.log(found / np.maximum(probs, 1e-12)))[near] <= (distance[near] / 32 + 0.12)).all()
    assert np.abs(found - probs).max() < 0.02
    np.testing.assert_allclose(found.sum(0), 1)


def test_what_is_scored_of_stored_probabilities_is_what_was_to_be_scored():
    random = np.random.default_rng(4)
    errors = {"nll": [], "brier": [], "confidence": []}
    for _ in range(12):
        probs = softmax(smooth(random, 12, 48, 64, random.uniform(1, 12)))
        found = softmax(Packed.probs(probs).unpack())
        # Labels drawn from the probabilities, so that far classes are right as rarely as they say.
        label = (probs.cumsum(0) < random.random(probs.shape[1:])).sum(0).clip(0, 11)
        at = [np.take_along_axis(p, label[None], 0).astype(np.float64) for p in (probs, found)]
        errors["nll"].append(np.log(np.maximum(at[0], 1e-12)).mean() - np.log(np.maximum(at[1], 1e-12)).mean())
        errors["brier"].append(((found**2).sum(0) - (probs**2).sum(0)).mean() - 2 * (at[1] - at[0]).mean())
        errors["confidence"].append((found.max(0) - probs.max(0)).mean())
    assert {name: abs(float(np.mean(values))) < 1e-3 for name, values in errors.items()} == dict.fromkeys(errors, True)


def test_far_classes_have_the_mean_distance_of_the_far_pixels_of_their_cell():
    random = np.random.default_rng(6)
    distance = random.uniform(6, 26, (2, 8, 12))  # below 10: near
    probs = np.concatenate([np.ones((1, 8, 12)), np.exp(-distance)]).astype(np.float32)
    found = Packed.probs(probs).unpack()
    assert (found[0] == 0).all()
    for c, y, x in np.ndindex(2, 8, 12):
        cell = distance[c, y // 4 * 4 : y // 4 * 4 + 4, x // 4 * 4 : x // 4 * 4 + 4]
        wanted = distance[c, y, x] if distance[c, y, x] < 10 else cell[cell >= 10].mean()
        assert -found[c + 1, y, x] == pytest.approx(wanted, rel=1 / 31)


def test_a_map_is_kept_as_values_or_as_differences_whichever_repeats_more():
    slope = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    noise = (np.random.default_rng(7).random((64, 64)) < 0.1).astype(np.uint8)
    flags = [Packed.labels(labels).content[0] for labels in (slope, noise)]
    assert flags == [128, 0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(value):
    scores = np.zeros((3, 4, 4), np.float32)
    scores[1, 2, 2] = value
    for pack in (Packed.scores, Packed.probs):
        with pytest.raises(ValueError, match="must be finite"):
            pack(scores)


def test_double_precision_and_views_are_taken_too():
    scores = np.random.default_rng(8).normal(0, 3, (6, 10, 3))
    for given in (scores, scores.astype(np.float16), scores.transpose(2, 1, 0)):
        plain = np.ascontiguousarray(given, np.float32)
        assert np.abs(Packed.scores(given).unpack() - Packed.scores(plain).unpack()).max() < 0.02
        probs = softmax(plain.copy())
        assert Packed.probs(probs.astype(np.float64)).unpack().shape == plain.shape


def test_smooth_maps_take_a_fraction_of_float16():
    random = np.random.default_rng(5)
    scores = smooth(random, 40, 64, 64, 8)
    assert len(Packed.scores(scores).content) < scores.size * 2 / 6
    assert len(Packed.probs(softmax(scores)).content) < scores.size * 2 / 6


def test_maps_of_unequal_size_come_back(tmp_path):
    maps = [np.full((k + 1, 3), k, np.uint8) for k in range(4)]
    write_maps(tmp_path / "labels", map(Packed.labels, maps))
    found = Maps(tmp_path / "labels")
    assert len(found) == 4
    for one, wanted in zip(found, maps, strict=True):
        np.testing.assert_array_equal(one, wanted)
    np.testing.assert_array_equal(found[-3], maps[1])
    for index in (4, -5):
        with pytest.raises(IndexError):
            found[index]
    binary = tmp_path / "labels.bin"
    binary.write_bytes(binary.read_bytes()[:-1])
    with pytest.raises(DataError, match="cut short"):
        Maps(tmp_path / "labels")


def test_no_map_at_all_is_a_file_too(tmp_path):
    write_maps(tmp_path / "labels", [])
    assert len(Maps(tmp_path / "labels")) == 0


@pytest.mark.parametrize(
    "header",
    [
        "{}", "[]", '{"kind": "labels", "shapes": 3, "ends": []}', '{"kind": "foo", "shapes": [], "ends": []}',
        '{"kind": "labels", "shapes": [[-1, 1]], "ends": [0]}',
        '{"kind": "labels", "shapes": [[1, 1, 1]], "ends": [0]}',
        '{"kind": "labels", "shapes": [[1.5, 1]], "ends": [0]}',
        '{"kind": "labels", "shapes": [[1, 1]], "ends": [null]}',
        '{"kind": "labels", "shapes": [[1, 1], [1, 1]], "ends": [5, 0]}',
        '{"kind": "labels", "shapes": [], "ends": [0]}',
    ],
)  # fmt: skip
def test_another_header_is_refused_by_name(tmp_path, header):
    write_maps(tmp_path / "labels", [])
    (tmp_path / "labels.json").write_text(header)
    with pytest.raises(DataError, match=r"labels\.json is no header of maps"):
        Maps(tmp_path / "labels")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0no zlib", b"\0" + zlib.compress(bytes(7)), b"\0" + zlib.compress(bytes(9)),
        b"\0" + zlib.compress(bytes(10**7)), b"\0" + zlib.compress(bytes(8))[:-4],
        b"\0" + zlib.compress(bytes(8)) + b"x",
    ],
)  # fmt: skip
def test_a_map_of_other_bytes_is_refused_before_it_fills_the_memory(content):
    with pytest.raises(DataError, match="a compressed map"):
        Packed("labels", content, (2, 4)).unpack()
    assert (Packed("labels", b"\0" + zlib.compress(bytes(8)), (2, 4)).unpack() == 0).all()
    with pytest.raises(DataError, match="a compressed map"):
        Packed("probs", b"\xff" + (9).to_bytes(4, "little") + content, (2, 4, 4)).unpack()
