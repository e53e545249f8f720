"""Calibration: against plain loops, by hand, and after temperature."""

import numpy as np
import pytest

from segpipe import metrics
from segpipe.metrics import temperature
from segpipe.metrics.confidence import Calibration

import plain

C = 4


def case(seed, classes=C, images=5):
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(classes) * 0.5, (images, 4, 6)).transpose(0, 3, 1, 2)
    target = random.integers(0, classes, (images, 4, 6))
    target[random.random(target.shape) < 0.2] = 255
    target[images // 2] = 255 if images > 1 else target[0]
    return probs, target


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_equals_plain_loops(bins, classes):
    probs, target = case(bins, classes)
    found = metrics.calibration(probs, target, bins=bins)
    expected = plain.calibration(probs, target, bins)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        tied = 0.01 if name in ("ace", "aurc") else 0  # pixels of one level (1 / 50400) have no order among them
        assert found[name] == pytest.approx(value, rel=1e-6, abs=tied), name


def test_one_pass_serves_any_bin_count_and_any_order_of_images():
    probs, target = case(0)
    collected, reverse = Calibration(C, bins=10), Calibration(C, bins=10)
    for p, t in zip(probs, target, strict=True):
        collected.add(p, t)
    for p, t in zip(probs[::-1], target[::-1], strict=True):
        reverse.add(p, t)
    for bins in (5, 12, 15, 20):
        expected = plain.calibration(probs, target, bins)
        for found in (collected.summarize(bins), reverse.summarize(bins)):
            assert found["ece_dataset"] == pytest.approx(expected["ece_dataset"])
            assert found["sce_dataset"] == pytest.approx(expected["sce_dataset"])
            assert found["ece_image"] is None


def test_a_perfectly_calibrated_model_has_no_error_and_jdt_counts_one():
    # Half the pixels of confidence 3/4 wrong every fourth time: 3 of 4 are right.
    probs = np.zeros((1, 2, 1, 4))
    probs[0, 0], probs[0, 1] = 0.75, 0.25
    target = np.array([[[0, 0, 0, 1]]])
    found = metrics.calibration(probs, target)
    assert found["ece_dataset"] == pytest.approx(0)
    assert found["sce_dataset"] == pytest.approx(0)
    assert found["sce_jdt_dataset"] == pytest.approx(1 / 4)  # class 1 is never predicted: gap of its 0.25
    assert found["brier_dataset"] == pytest.approx((3 * (1 / 16 + 1 / 16) + (9 / 16 + 9 / 16)) / 4)
    assert found["aurc"] == pytest.approx(1 / 4)  # one confidence: one step


def test_risk_falls_where_confidence_knows():
    collected = Calibration(2)
    confidence = np.array([[0.95, 0.9, 0.6, 0.55]])
    collected.add(np.stack([confidence, 1 - confidence]), np.array([[0, 0, 0, 1]]))
    risk = collected.curves(points=4)["risk"]
    assert risk == [[0.25, 0.0], [0.5, 0.0], [0.75, 0.0], [1.0, 0.25]]
    assert collected.summarize()["aurc"] == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)


def test_void_and_what_lies_under_it_change_nothing():
    probs, target = case(1)
    other = probs.copy()
    other[:, :, target[0] == 255] = other[:, :, target[0] == 255]
    other = np.where((target == 255)[:, None], 7.0, probs)  # no probabilities at all
    assert metrics.calibration(other, target) == metrics.calibration(probs, target)


def test_nothing_valid_is_none():
    found = metrics.calibration(np.full((1, 2, 2, 2), 0.5), np.full((1, 2, 2), 255))
    assert set(found.values()) == {None}


def test_wrong_probabilities_are_refused():
    target = np.zeros((1, 2, 2), int)
    for wrong in (0.4, np.nan, np.inf):
        with pytest.raises(ValueError, match="sum to one"):
            metrics.calibration(np.full((1, 2, 2, 2), wrong), target)
    negative = np.stack([np.full((1, 2, 2), 1.5), np.full((1, 2, 2), -0.5)], 1)
    with pytest.raises(ValueError, match="negative"):
        metrics.calibration(negative, target)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        metrics.calibration(np.full((1, 2, 2, 2), 0.5), target + 3)
    with pytest.raises(ValueError, match="wanted"):
        metrics.calibration(np.full((1, 2, 2, 3), 0.5), target)


def sharpened(number, power, seed=0):
    """Labels drawn from probabilities p, and scores claiming p ** power: T = power mends them."""
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(C), number)
    labels = np.array([random.choice(C, p=row) for row in p])
    return power * np.log(np.maximum(p, 1e-12)), labels


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_sharpening(power):
    scores, labels = sharpened(20_000, power)
    fit = temperature.fit(scores, labels)
    assert fit.value == pytest.approx(power, rel=0.05)
    assert fit.nll_after <= fit.nll_before + 1e-12


def test_the_temperature_keeps_labels_and_its_fit_is_a_minimum():
    scores, labels = sharpened(2_000, 2.0)
    fit = temperature.fit(scores, labels)
    probs = np.exp(scores.T) / np.exp(scores.T).sum(0)
    scaled = temperature.apply(probs, fit.value)
    assert (scaled.argmax(0) == probs.argmax(0)).all()

    def nll(t):
        p = temperature.apply(probs, t)
        return -np.log(p[labels, np.arange(len(labels))]).mean()

    assert nll(fit.value) <= min(nll(fit.value * 1.05), nll(fit.value / 1.05))


def test_a_temperature_at_its_bound_is_refused_with_the_reason():
    certain = np.log(np.array([[0.9, 0.1]] * 5))
    fit = temperature.fit(certain, np.zeros(5, int))  # always right: the colder the better
    assert fit.value is None
    assert "bound" in fit.reason
    opposite = temperature.fit(certain, np.ones(5, int))  # always wrong: the warmer the better
    assert opposite.value is None
    nothing = temperature.fit(np.zeros((0, 2)), np.zeros(0, int))
    assert nothing.value is None
    assert nothing.pixels == 0


def test_sampled_pixels_are_valid_ones_and_the_same_every_time():
    probs, target = case(3, images=1)
    first = temperature.sample(probs[0], target[0], 10, seed=4)
    again = temperature.sample(probs[0], target[0], 10, seed=4)
    assert (first[0] == again[0]).all()
    assert len(first[1]) == 10
    assert 255 not in first[1]
    everything = temperature.sample(probs[0], target[0], 10_000, seed=4)
    assert len(everything[1]) == (target[0] != 255).sum()


def test_memory_does_not_grow_with_the_classes_beyond_the_probabilities_themselves():
    import tracemalloc

    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(100), (96, 96)).transpose(2, 0, 1).astype(np.float32)
    target = random.integers(0, 100, (96, 96)).astype(np.uint8)
    collected = Calibration(100)
    tracemalloc.start()
    collected.add(probs, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * probs.nbytes
