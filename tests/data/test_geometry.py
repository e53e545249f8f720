"""Resizing, padding, augmentation and frequencies."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.data.frequencies import SCHEMES, class_weights
from segpipe.data.geometry import Geometry, place_image, place_labels, restore

side = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(side, side, st.integers(16, 64), st.integers(16, 64))
def test_fitting_keeps_the_aspect_and_stays_inside(height, width, grid_height, grid_width):
    g = Geometry.fit((height, width), (grid_height, grid_width))
    assert 1 <= g.resized_height <= grid_height
    assert 1 <= g.resized_width <= grid_width
    assert g.resized_height == grid_height or g.resized_width == grid_width
    scale = min(grid_height / height, grid_width / width)
    assert abs(g.resized_height - height * scale) <= max(0.5, 1)
    assert abs(g.resized_width - width * scale) <= max(0.5, 1)


@settings(max_examples=60, deadline=None)
@given(side, side, st.integers(0, 1000))
def test_placed_labels_hold_no_new_value_and_padding_is_void(height, width, seed):
    labels = np.random.default_rng(seed).choice([0, 3, 7, 255], (height, width)).astype(np.uint8)
    g = Geometry.fit((height, width), (32, 40))
    placed = place_labels(labels, g)
    inside = placed[: g.resized_height, : g.resized_width]
    assert set(np.unique(inside)) <= set(np.unique(labels))
    assert (placed.sum(dtype=int) - inside.sum(dtype=int)) == 255 * (placed.size - inside.size)


def test_growing_and_restoring_returns_every_label():
    labels = np.random.default_rng(0).integers(0, 4, (12, 17)).astype(np.uint8)
    g = Geometry.fit(labels.shape, (48, 80))
    placed = place_labels(labels, g)
    scores = np.stack([(placed == k) * 9.0 for k in range(4)])
    assert (restore(scores, g).argmax(0) == labels).mean() > 0.97


@given(
    st.integers(1, 20), st.integers(1, 20), st.floats(1, 3), st.integers(0, 30), st.integers(0, 30), st.integers(0, 99)
)
def test_resize_and_padding_are_undone_for_every_label_pixel(height, width, scale, below, beside, seed):
    """Growing by any factor loses nothing; undone by the nearest pixel."""
    labels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    g = Geometry.fit((height, width), (round(height * scale) + below, round(width * scale) + beside))
    placed = place_labels(labels, g)
    back = cv2.resize(
        placed[: g.resized_height, : g.resized_width], (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    np.testing.assert_array_equal(back, labels)
    assert (placed[g.resized_height :] == 255).all()
    assert (placed[:, g.resized_width :] == 255).all()


@given(st.integers(1, 12), st.integers(1, 12), st.floats(2, 4), st.integers(0, 9), st.integers(0, 99))
def test_sure_logits_on_a_grid_twice_as_fine_give_back_every_label(height, width, scale, more, seed):
    """Bilinear on the way back: from a factor of 2 on, both neighbours of a pixel's centre are its own."""
    labels = np.random.default_rng(seed).integers(0, 4, (height, width)).astype(np.uint8)
    g = Geometry.fit((height, width), (math.ceil(height * scale) + more, math.ceil(width * scale) + more))
    placed = place_labels(labels, g)
    logits = 9.0 * (placed == np.arange(4)[:, None, None])
    np.testing.assert_array_equal(restore(logits, g).argmax(0), labels)


def test_restored_probabilities_have_the_original_size_and_sum_to_one():
    g = Geometry.fit((37, 61), (32, 40))
    logits = np.random.default_rng(0).normal(size=(5, 8, 10)).astype(np.float16)
    probs = restore(logits, g)
    assert probs.shape == (5, 37, 61)
    np.testing.assert_allclose(probs.sum(0), 1, atol=1e-5)


def test_upsampling_agrees_with_torch():
    g = Geometry.fit((32, 40), (32, 40))
    logits = np.random.default_rng(0).normal(size=(3, 8, 10)).astype(np.float32)
    grid = torch.nn.functional.interpolate(torch.from_numpy(logits)[None], (32, 40), mode="bilinear")[0]
    np.testing.assert_allclose(restore(logits, g), grid.softmax(0).numpy(), atol=1e-4)


def test_an_image_keeps_its_mean_when_it_shrinks():
    image = np.random.default_rng(0).integers(0, 255, (64, 80, 3)).astype(np.uint8)
    placed = place_image(image, Geometry.fit((64, 80), (16, 20)))
    assert abs(placed.mean() - image.mean()) < 1


CAMVID = [10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967]
CAMVID_IMAGES = [366, 365, 366, 367, 349, 319, 351, 173, 360, 317, 201]


def test_median_frequency_weights_of_camvid_are_the_known_ones():
    weights = class_weights(CAMVID, [n * 172_800 for n in CAMVID_IMAGES], 367 * 172_800)["median_frequency"]
    golden = [0.2793, 0.2017, 4.7865, 0.1490, 1.0, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747, 8.8587]
    assert weights == pytest.approx(golden, abs=5e-5)


def test_weights_follow_their_definitions():
    # 60 and 20 of 100 pixels, 20 void; class 2 is absent; class 1 lies in images of 50 pixels
    weights = class_weights([60, 20, 0], [100, 50, 0], 100, effective_beta=0.9)
    mean = (1 / 0.6 + 1 / 0.2) / 2
    assert weights["inverse"] == pytest.approx([1 / 0.6 / mean, 1 / 0.2 / mean, 0])
    assert weights["median_frequency"] == pytest.approx([0.5 / 0.6, 0.5 / 0.4, 0])
    assert weights["enet"] == pytest.approx([1 / np.log(1.62), 1 / np.log(1.22), 0])
    mean = (0.6**-0.5 + 0.2**-0.5) / 2
    assert weights["square_root"] == pytest.approx([0.6**-0.5 / mean, 0.2**-0.5 / mean, 0])
    terms = [0.1 / (1 - 0.9**60), 0.1 / (1 - 0.9**20)]
    assert weights["effective_number"] == pytest.approx([2 * t / sum(terms) for t in terms] + [0])
    assert set(weights) == set(SCHEMES)
