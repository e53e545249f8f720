"""The dense CRF against a double loop, its exact engine, and its own promises."""

import numpy as np
import pytest
import torch

from segpipe import crf

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
    exact, lattice = (crf.dense_crf(image, probs, engine=engine, **options) for engine in ("exact", "lattice"))
    assert np.abs(exact - lattice).mean() < 0.01
    assert (exact.argmax(0) == lattice.argmax(0)).mean() > 0.98


def test_the_spatial_kernel_alone_is_exact():
    image, probs, _ = case((20, 25))
    exact, lattice = (
        crf.dense_crf(image, probs, engine=engine, bi_w=0, pos_xy_std=2, iterations=4)
        for engine in ("exact", "lattice")
    )
    np.testing.assert_allclose(exact, lattice, atol=1e-5)


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
        ({"bi_rgb_std": float("inf")}, "finite"),
        ({"pos_w": -1}, ">= 0"),
        ({"normalization": "both"}, "one of symmetric"),
        ({"engine": "fast"}, "'lattice' or 'exact'"),
        ({"compatibility": np.zeros((2, 2))}, "compatibility is"),
        ({"prune": 1.0}, "leaves no class"),
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


def test_tuning_takes_the_best_point_and_lets_no_crf_win():
    image, probs, labels = case((20, 24))
    grid = {"pos_w": [1.0], "bi_w": [0.0, 4.0], "pos_xy_std": [1.0], "bi_xy_std": [10.0], "bi_rgb_std": [30.0]}

    def score(maps):
        return float((maps[0] == labels).mean())

    choice = crf.tune([image], [probs], grid, score, iterations=3)
    assert choice.score == max(row["score"] for row in choice.candidates) > choice.score_without
    assert choice.parameters is not None
    assert choice.parameters["bi_w"] == 4.0
    lost = crf.tune([image], [probs], grid, lambda maps: float((maps[0] == probs.argmax(0)).mean()), iterations=3)
    assert lost.parameters is None
