"""Augmentation, batches and normalisation: geometry, counters, and every curve against its formula."""

import math

import numpy as np
import pytest
import torch

from segpipe.core.errors import ConfigError
from segpipe.core.opencv import cv2
from segpipe.data.augment import VOID, Augmentation
from segpipe.data.batches import TrainSet, epoch_loader, order_generator
from segpipe.data.normalize import SCHEMES, colors, curve, look_up, recipe, to_input

ALL = Augmentation((0.5, 2.0), 0.5, 0.5, 45.0, 0.3, 0.5, 0.4, (20, 24), 0.8)


def picture():
    random = np.random.default_rng(0)
    return random.integers(0, 255, (24, 30, 3)).astype(np.uint8), random.integers(0, 4, (2, 24, 30)).astype(np.uint8)


def smooth():
    """An image whose colours are its coordinates, and label maps that say the same."""
    y, x = np.mgrid[:48, :64].astype(np.uint8)
    return np.stack([4 * x, 5 * y, np.zeros_like(x)], 2), np.stack([x, y])


def test_augmentation_depends_on_its_key_alone():
    image, labels = picture()
    first = ALL(image, labels, (1, 2, 3))
    ALL(image, labels, (9, 9, 9))
    again = ALL(image, labels, (1, 2, 3))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, ALL(image, labels, (1, 2, 4)), strict=True))


def test_augmented_labels_are_old_ones_or_void_and_inputs_stay():
    image, labels = picture()
    before = image.copy(), labels.copy()
    for key in range(30):
        _, _, changed = ALL(image, labels, (key,))
        assert set(np.unique(changed)) <= {0, 1, 2, 3, VOID}
    assert (image == before[0]).all()
    assert (labels == before[1]).all()


def test_neutral_augmentation_changes_nothing_and_flips_are_mirrors():
    image, labels = picture()
    for found in Augmentation()(image, labels, (0,))[:2]:
        assert (found == image).all()
    mirrored = Augmentation(flip=1.0)(image, labels, (0,))
    assert (mirrored[0] == image[:, ::-1]).all()
    assert (mirrored[2] == labels[:, :, ::-1]).all()
    turned = Augmentation(flip_vertical=1.0)(image, labels, (0,))
    assert (turned[0] == image[::-1]).all()
    assert (turned[2] == labels[:, ::-1]).all()


@pytest.mark.parametrize("rotation", [0.0, 60.0])
@pytest.mark.parametrize("crop", [None, (20, 32)])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_image_and_all_label_maps_move_together(rotation, crop, factor):
    image, labels = smooth()
    change = Augmentation((0.8, 1.6), 0.5, 0.5, rotation, crop=crop)
    for key in range(12):
        moved, _, ids = change(image, labels, (key,), factor=factor)
        height, width = crop or (48, 64)
        assert moved.shape[:2] == ids.shape[1:] == (round(height * factor), round(width * factor))
        known = ids[0] != VOID
        # Near its edge an image is blended with the black beyond.
        inner = cv2.erode(np.pad(known, 1).astype(np.uint8), np.ones((9, 9)))[1:-1, 1:-1] == 1
        assert inner.any()
        assert np.abs(moved[..., 0][inner] / 4.0 - ids[0][inner]).max() <= 1.01
        assert np.abs(moved[..., 1][inner] / 5.0 - ids[1][inner]).max() <= 1.01
        assert ((ids[0] == VOID) == (ids[1] == VOID)).all()


def test_a_crop_without_zoom_is_a_part_of_the_image():
    image, labels = smooth()
    for key in range(10):
        cut, _, ids = Augmentation(crop=(16, 20))(image, labels, (key,))
        top, left = ids[1][0, 0], ids[0][0, 0]
        assert np.abs(ids[0] - left - np.arange(20)).max() == 0
        assert (
            np.abs(cut.astype(int) - image[top : top + 16, left : left + 20].astype(int)).max() <= 3
        )  # between pixels


def test_no_class_fills_a_crop_where_another_crop_is_to_be_had():
    labels = np.zeros((1, 40, 40), np.uint8)
    labels[:, 20:, 20:] = 1
    image = np.zeros((40, 40, 3), np.uint8)

    def filled(limit):
        change = Augmentation(crop=(16, 16), max_class=limit)
        return np.mean([(change(image, labels, (key,))[2] == 0).mean() > 0.9 for key in range(200)])

    assert filled(0.9) < 0.05 < 0.3 < filled(1.0)


def test_colours_change_only_the_strong_image():
    image, labels = picture()
    strong, weak, ids = Augmentation(color=0.3, blur=1.0, cutout=0.5)(image, labels, (3,))
    assert (weak == image).all()
    assert (strong != image).any()
    assert (ids == labels).all()


def test_cutout_is_a_black_rectangle_of_at_most_the_given_sides():
    image, labels = np.full((40, 60, 3), 200, np.uint8), np.zeros((1, 40, 60), np.uint8)
    sizes = []
    for key in range(50):
        strong, _, ids = Augmentation(cutout=0.5)(image, labels, (key,))
        hole = (strong == 0).all(2)
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == rows * columns
        assert rows <= 20
        assert columns <= 30
        assert not ids.any()
        sizes.append(rows)
    assert max(sizes) > 15


def test_a_blur_keeps_the_mean():
    image, labels = picture()
    blurred = Augmentation(blur=1.0)(image, labels, (0,))[0]
    assert blurred.astype(float).std() < image.astype(float).std()
    assert abs(blurred.mean() - image.mean()) < 3


def dataset(**changes):
    images = np.random.default_rng(1).integers(0, 255, (23, 16, 20, 3)).astype(np.uint8)
    return TrainSet(images, images[..., 0] % 3, Augmentation((0.7, 1.4), 0.5), 5, **changes)


def test_the_batches_of_several_processes_are_those_of_one():
    order = order_generator(5, 2).permutation(23)
    whole = list(epoch_loader(dataset(), order, 6, 2, 0, factors=(0.5, 1.0)))
    shares = [list(epoch_loader(dataset(), order, 6, 2, 0, factors=(0.5, 1.0), share=(i, 2))) for i in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert sorted(first.indices + second.indices) == sorted(batch.indices)
        assert (first.images == batch.images[::2]).all()
        assert (second.labels == batch.labels[1::2]).all()
    assert len({batch.images.shape[1:3] for batch in whole}) == 2  # sizes are drawn by batch


def test_an_epoch_can_begin_in_the_middle():
    order = range(23)
    whole = list(epoch_loader(dataset(), order, 6, 0, 0))
    rest = list(epoch_loader(dataset(), order, 6, 0, 0, first=2))
    assert [batch.indices for batch in rest] == [batch.indices for batch in whole[2:]]
    assert (rest[0].images == whole[2].images).all()


def test_an_image_drawn_twice_is_changed_twice():
    first, again = (batch.images for batch in epoch_loader(dataset(), [4, 4, 4], 1, 0, 0, first=1))
    assert (first != again).any()


def test_the_map_of_the_padding_moves_with_the_image():
    extents = np.tile([[12, 20]], (23, 1))
    made = dataset(extents=extents)
    _, _, labels, _ = made[(0, 3, 1.0, 0)]
    assert labels.shape == (2, 16, 20)
    assert set(np.unique(labels[1])) == {0, VOID}
    plain = TrainSet(made.images, made.labels, Augmentation(), 5, extents=extents)
    assert (plain[(0, 0, 1.0, 0)][2][1, :12] == 0).all()
    assert (plain[(0, 0, 1.0, 0)][2][1, 12:] == VOID).all()


def test_presence_is_that_of_the_first_label_map():
    maps = np.full((2, 2, 4, 4), VOID, np.uint8)
    maps[0, 0, 0, 0], maps[1, 0, :2], maps[1, 1] = 2, 1, 0
    found = TrainSet(np.zeros((2, 4, 4, 3), np.uint8), maps, Augmentation(), 0).present(3)
    assert found.tolist() == [[False, False, True], [False, True, False]]


PIXELS = np.array([[0, 10, 10, 20, 100, 255], [50] * 6, [0, 0, 0, 0, 0, 200]])
HISTOGRAM = np.stack([np.bincount(row, minlength=256) for row in PIXELS])


def test_the_numbers_of_the_colours_are_those_of_the_pixels():
    found = colors(HISTOGRAM)
    for channel, row in enumerate(PIXELS / 255):
        assert found["mean"][channel] == pytest.approx(row.mean())
        assert found["std"][channel] == pytest.approx(row.std(), abs=1e-9)
        assert found["rms"][channel] == pytest.approx(math.sqrt((row**2).mean()))
        ordered = sorted(row)
        # The least value that a share of the pixels does not exceed: numbers ceil(6 q) of the six.
        assert found["quantiles"][channel] == pytest.approx([ordered[0], ordered[2], ordered[5]])


def plain_curve(scheme, channel, v):
    """One byte of one channel, from the definitions."""
    numbers = colors(HISTOGRAM)
    v = v / 255
    if scheme == "zscore":
        return (v - numbers["mean"][channel]) / max(numbers["std"][channel], 1e-6)
    if scheme == "minmax":
        return v
    if scheme == "symmetric":
        return (255 * v - 127) / 128
    if scheme == "imagenet":
        return (v - (0.485, 0.456, 0.406)[channel]) / (0.229, 0.224, 0.225)[channel]
    if scheme == "half_normal":
        return math.erf(v / (numbers["rms"][channel] * math.sqrt(2)))
    low, middle, high = numbers["quantiles"][channel]
    if v <= low:
        return 0.0
    if v >= high:
        return 1.0
    return 0.5 * (v - low) / (middle - low) if v < middle else 0.5 + 0.5 * (v - middle) / (high - middle)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_curve_is_its_formula(scheme):
    table = curve(recipe(scheme, colors(HISTOGRAM)))
    assert table.shape == (256, 3)
    assert np.isfinite(table).all()
    assert (np.diff(table, axis=0) >= 0).all()
    for v in range(256):
        assert table[v, 0] == pytest.approx(plain_curve(scheme, 0, v), rel=1e-4, abs=2e-3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_input_is_looked_up_in_the_curve(scheme):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    table = curve(recipe(scheme, colors(HISTOGRAM)))
    found = to_input(images, table)
    assert torch.equal(look_up(torch.from_numpy(images), torch.from_numpy(table)), found)  # as a GPU does it
    assert found.shape == (2, 3, 5, 7)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for n, y, x, c in np.ndindex(2, 5, 7, 3):
        assert found[n, c, y, x] == table[images[n, y, x, c], c]


def test_a_crop_larger_than_the_images_is_refused():
    with pytest.raises(ConfigError, match=r"crop is \[20, 24\], the largest prepared image is \[16, 20\]"):
        TrainSet(np.zeros((1, 16, 20, 3), np.uint8), np.zeros((1, 16, 20), np.uint8), ALL, 0)
