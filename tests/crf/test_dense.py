"""The dense CRF against a double loop, its exact engine, and its own promises."""

import numpy as np
import pytest
import torch

from segpipe import crf
from segpipe.crf import lattice

import plain


def case(size=(5, 6), classes=3, seed=0, noise=20):
    """Two colour regions with noise, and probabilities that are right more often than not."""
    random = np.random.default_rng(seed)
    labels = (np.arange(size[1])[None] * 2 // size[1] + np.zeros(size, int)).astype(int)
    image = np.clip(60 + 120 * labels[..., None] + random.normal(0, noise, (*size, 3)), 0, 255).astype(np.uint8)
    logits = random.normal(size=(classes, *size))
    logits[labels, np.arange(size[0])[:, None], np.arange(size[1])] += 1.0
    probs = np.exp(logits) / np.exp(logits).sum(0)
    return image, probs, labels


@pytest.mark.parametrize("normalization", ["symmetric", "before", "after", "none"])
def test_exact_engine_equals_a_double_loop(normalization):
    image, probs, _ = case((3, 4))
    options = {"pos_w": 1.5, "pos_xy_std": 1.2, "bi_w": 2.0, "bi_xy_std": 4.0, "bi_rgb_std": 30.0, "iterations": 3}
    found = crf.dense_crf(image, probs, engine="exact", normalization=normalization, **options)
    expected = np.array(plain.dense_crf(image, probs, normalization=normalization, **options))
    np.testing.assert_allclose(found.reshape(3, -1).T, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_lattice_is_near_the_exact_engine(seed):
    image, probs, _ = case((40, 50), seed=seed)
    options = {"pos_w": 2, "pos_xy_std": 1.5, "bi_w": 3, "bi_xy_std": 15, "bi_rgb_std": 25, "iterations": 5}
    exact, found = (crf.dense_crf(image, probs, engine=engine, **options) for engine in ("exact", "lattice"))
    assert np.abs(exact - found).mean() < 0.01
    assert (exact.argmax(0) == found.argmax(0)).mean() > 0.98


def test_the_spatial_kernel_alone_is_exact():
    image, probs, _ = case((20, 25))
    exact, found = (
        crf.dense_crf(image, probs, engine=engine, bi_w=0, pos_xy_std=2, iterations=4)
        for engine in ("exact", "lattice")
    )
    np.testing.assert_allclose(exact, found, atol=1e-5)


def test_it_repairs_noisy_predictions():
    image, probs, labels = case((40, 50))
    before = (probs.argmax(0) == labels).mean()
    after = (crf.dense_crf(image, probs, bi_xy_std=20, bi_rgb_std=30, bi_w=4).argmax(0) == labels).mean()
    assert after > before + 0.2


def test_no_iteration_or_no_weight_leaves_the_probabilities():
    image, probs, _ = case()
    for options in ({"iterations": 0}, {"pos_w": 0, "bi_w": 0}):
        np.testing.assert_allclose(crf.dense_crf(image, probs, **options), probs, atol=1e-6)


def test_a_potts_matrix_is_the_default():
    image, probs, _ = case()
    potts = 1 - np.eye(3)
    for engine in ("exact", "lattice"):
        np.testing.assert_allclose(
            crf.dense_crf(image, probs, engine=engine, compatibility=potts),
            crf.dense_crf(image, probs, engine=engine),
            atol=1e-5,
        )


def test_class_order_does_not_matter():
    image, probs, _ = case()
    order = [2, 0, 1]
    np.testing.assert_allclose(crf.dense_crf(image, probs[order]), crf.dense_crf(image, probs)[order], atol=1e-6)


def test_pruned_classes_get_nothing_and_the_rest_sums_to_one():
    image, probs, _ = case()
    probs = np.concatenate([probs * (1 - 1e-4), np.full((1, *probs.shape[1:]), 1e-4)])
    found = crf.dense_crf(image, probs, prune=0.01)
    assert not found[3].any()
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (2, 2)])
def test_any_size_works(size):
    image, probs, _ = case(size, classes=2)
    found = crf.dense_crf(image, probs)
    assert found.shape == probs.shape
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_grey_images_many_classes_and_tensors_work():
    image, _, _ = case((6, 7))
    probs = torch.softmax(torch.randn(150, 6, 7, generator=torch.Generator().manual_seed(0)), 0)
    found = crf.dense_crf(image[..., 0], probs)
    assert isinstance(found, torch.Tensor)
    assert found.shape == probs.shape


def test_a_kernel_is_reused_without_trace():
    image, probs, _ = case()
    kernel = crf.DenseCRF(image, bi_xy_std=10)
    kernel.infer(probs, bi_w=9)
    np.testing.assert_array_equal(kernel.infer(probs), crf.dense_crf(image, probs, bi_xy_std=10))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": np.zeros((5, 6, 3))}, "uint8"),
        ({"probs": np.full((3, 6, 5), 1 / 3)}, "as the image"),
        ({"probs": np.full((3, 5, 6), np.nan)}, "finite"),
        ({"probs": np.full((3, 5, 6), 0.5)}, "sum to one"),
        ({"pos_xy_std": 0}, "> 0"),
        ({"bi_rgb_std": float("inf")}, "bi_rgb_std is inf"),
        ({"pos_w": -1}, ">= 0"),
        ({"normalization": "both"}, "one of symmetric"),
        ({"engine": "fast"}, "one of lattice, exact"),
        ({"compatibility": np.zeros((2, 2))}, "compatibility is"),
        ({"prune": 1.0}, "leaves no class"),
        ({"prune": -0.1}, "prune is"),
        ({"bi_w": 1e39}, "bi_w is 1e"),
        ({"unary_scale": 1e39}, "unary_scale is"),
        ({"unary_scale": 0}, "unary_scale is"),
        ({"pos_xy_std": 1e-46}, "pos_xy_std is"),
        ({"pos_xy_std": 1.7e308}, "pos_xy_std is"),
        ({"compatibility": np.full((3, 3), 1e39)}, "penalties"),
        ({"iterations": 2.5}, "whole number"),
        ({"iterations": float("inf")}, "whole number"),
        ({"image": np.zeros((5, 6, 3), object)}, "wanted numbers"),
        ({"probs": np.zeros((3, 5, 6), complex)}, "wanted numbers"),
    ],
)
def test_wrong_input_is_refused_before_any_work(change, words):
    image, probs, _ = case()
    arguments = {"image": image, "probs": probs, **change}
    with pytest.raises(ValueError, match=words):
        crf.dense_crf(arguments.pop("image"), arguments.pop("probs"), **arguments)


def test_exact_refuses_large_images():
    with pytest.raises(ValueError, match="up to"):
        crf.DenseCRF(np.zeros((200, 200, 3), np.uint8), engine="exact")


def test_unary_scale_divides_the_temperature():
    image, probs, _ = case()
    hot = probs**0.5 / (probs**0.5).sum(0)
    np.testing.assert_allclose(crf.dense_crf(image, probs, unary_scale=0.5), crf.dense_crf(image, hot), atol=1e-5)


@pytest.mark.parametrize("engine", ["exact", "lattice"])
def test_any_compatibility_follows_its_formula(engine):
    image, probs, _ = case((3, 4))
    table = np.random.default_rng(1).random((3, 3))
    options = {"pos_w": 1.5, "bi_w": 0, "pos_xy_std": 1.2, "iterations": 1, "normalization": "none"}
    found = crf.dense_crf(image, probs, engine=engine, compatibility=table, **options)
    places = [(i, j) for i in range(3) for j in range(4)]
    for i, (a, b) in enumerate(places):
        message = np.zeros(3)
        for y, x in places:
            message += 1.5 * np.exp(-((a - y) ** 2 + (b - x) ** 2) / (2 * 1.2**2)) * probs[:, y, x]
        logits = [np.log(probs[k, a, b]) - sum(table[k, m] * message[m] for m in range(3)) for k in range(3)]
        np.testing.assert_allclose(found.reshape(3, -1)[:, i], plain.softmax(logits), atol=1e-5)


def test_messages_that_exp_cannot_hold_are_no_matter():
    image, probs, _ = case((12, 14))
    options = {"normalization": "none", "bi_w": 50, "bi_xy_std": 30, "bi_rgb_std": 60, "iterations": 3}
    exact, found = (crf.dense_crf(image, probs, engine=engine, **options) for engine in ("exact", "lattice"))
    assert np.isfinite(found).all()
    assert (exact.argmax(0) == found.argmax(0)).mean() > 0.98


def test_pruning_keeps_the_labels_of_what_it_keeps():
    image, probs, _ = case((30, 40), classes=6)
    tails = np.concatenate([probs * (1 - 6e-4), np.full((6, *probs.shape[1:]), 1e-4)])
    whole, pruned = (crf.dense_crf(image, tails, prune=prune) for prune in (0, 0.01))
    assert (whole.argmax(0) == pruned.argmax(0)).mean() > 0.999


def test_nothing_given_is_changed():
    image, probs, _ = case()
    tensor, copies = torch.from_numpy(probs), (image.copy(), probs.copy())
    crf.dense_crf(image, tensor, iterations=2)
    crf.dense_crf(image, probs.astype(np.float32), iterations=2)
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(probs, copies[1])


def test_swapped_sides_are_named():
    image, probs, _ = case()
    with pytest.raises(ValueError, match="height and width are swapped"):
        crf.dense_crf(image, probs.transpose(0, 2, 1))


def test_an_image_beyond_the_memory_is_refused_before_it_is_touched():
    endless = np.broadcast_to(np.uint8(0), (2_000_000, 1_000, 3))
    with pytest.raises(ValueError, match="cut it into tiles"):
        crf.DenseCRF(endless)


def test_keys_too_wide_to_carry_a_pixel_are_sorted_otherwise(monkeypatch):
    image, probs, _ = case((20, 24))
    wanted = crf.dense_crf(image, probs, bi_xy_std=10)
    keys = torch.tensor([5, 3, 5, 2**61, 3, 5])
    order, ordered = lattice._by_key(keys, torch.arange(6), 2**61)
    assert order.tolist() == [1, 4, 0, 2, 5, 3]
    assert ordered.tolist() == [3, 3, 5, 5, 5, 2**61]
    by_key = lattice._by_key
    monkeypatch.setattr(lattice, "_by_key", lambda keys, pixels, _: by_key(keys, pixels, 2**62))
    np.testing.assert_array_equal(crf.dense_crf(image, probs, bi_xy_std=10), wanted)


def test_widths_so_small_that_keys_overflow_are_refused():
    image = np.random.default_rng(0).integers(0, 256, (40, 400, 3), dtype=np.uint8)
    probs = np.full((2, 40, 400), 0.5)
    with pytest.raises(ValueError, match="larger widths"):
        crf.dense_crf(image, probs, bi_xy_std=0.001, bi_rgb_std=0.001)
    crf.dense_crf(image, probs, bi_xy_std=0.001, bi_rgb_std=0.001, bi_w=0)  # a kernel without weight is not built


@pytest.mark.parametrize("rgb_std", [3, 1e-2, 1e-3])
@pytest.mark.parametrize("value", [1, 200])
def test_an_image_of_one_colour_is_as_near_to_the_exact_engine_at_every_width(rgb_std, value):
    _, probs, _ = case((12, 14))
    image = np.full((12, 14, 3), value, np.uint8)
    options = {"bi_xy_std": 8, "bi_rgb_std": rgb_std, "bi_w": 2, "iterations": 3}
    exact, found = (crf.dense_crf(image, probs, engine=engine, **options) for engine in ("exact", "lattice"))
    assert np.abs(exact - found).mean() < 0.02


@pytest.mark.parametrize("rgb_std", [0.2, 0.02])
def test_narrow_widths_are_as_near_to_the_exact_engine_as_wide_ones(rgb_std):
    _, probs, _ = case((20, 25))
    image = (200 + np.arange(25) // 5 * 10 + np.zeros((20, 1))).astype(np.uint8)
    options = {"bi_xy_std": 6, "iterations": 3, "bi_w": 2}
    for std, bound in ((30, 0.03), (rgb_std, 0.03)):
        exact, found = (
            crf.dense_crf(image, probs, engine=engine, bi_rgb_std=std, **options) for engine in ("exact", "lattice")
        )
        assert np.abs(exact - found).mean() < bound


def test_no_gradient_flows_and_none_is_spoilt():
    image, probs, _ = case()
    leaf = torch.from_numpy(probs).requires_grad_()
    assert not crf.dense_crf(image, leaf, iterations=2).requires_grad


def test_a_shared_lattice_gives_the_same_bytes():
    image, probs, _ = case((20, 24))
    shared = crf.DenseCRF(image, pos_xy_std=1, bi_xy_std=10).spaced(2.5)
    np.testing.assert_array_equal(shared.infer(probs), crf.DenseCRF(image, pos_xy_std=2.5, bi_xy_std=10).infer(probs))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_labels():
    image, probs, _ = case((40, 50))
    there = crf.dense_crf(image, torch.from_numpy(probs).float().cuda(), bi_xy_std=10).cpu().numpy()
    np.testing.assert_allclose(there, crf.dense_crf(image, probs, bi_xy_std=10), atol=1e-3)
