"""Fitted weights: the likeliest mixture, greedy choice and scores, against loops and closed forms."""

import numpy as np
import pytest

from segpipe import ensembles, metrics
from segpipe.ensembles import weights

RANDOM = np.random.default_rng(1)


def members(m, n, c, h, w, seed=0):
    found = np.random.default_rng(seed).dirichlet(np.ones(c), (m, n, h, w))
    return np.moveaxis(found, -1, 2).astype(np.float32)


def plain_nll(share, p):
    return -sum(np.log(sum(w * column for w, column in zip(share, pixel, strict=True))) for pixel in p.T) / p.shape[1]


def test_the_likeliest_mixture_is_no_worse_than_any_other():
    p = RANDOM.uniform(0.01, 1, (3, 40)) ** 2
    found = ensembles.fit_weights(p)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    best = plain_nll(found, p)
    for share in [[1 / 3] * 3, [1, 0, 0], [0, 1, 0], [0, 0, 1], *RANDOM.dirichlet([1, 1, 1], 200)]:
        assert best <= plain_nll(share, p) + 1e-7


def test_no_step_makes_the_likelihood_worse(monkeypatch):
    p = RANDOM.uniform(0.01, 1, (4, 60)) ** 3
    reached = []
    for steps in range(1, 30):
        monkeypatch.setattr(weights, "_ITERATIONS", steps)
        reached.append(plain_nll(ensembles.fit_weights(p), p))
    assert (np.diff(reached) <= 1e-12).all()


def test_two_members_in_closed_form():
    # Pixel 1 says 0.8 : 0.2, pixel 2 says 0.4 : 0.6. d/dw of log(.2 + .6 w) + log(.6 - .2 w) is 0 where
    # 0.6 (0.6 - 0.2 w) = 0.2 (0.2 + 0.6 w), so w = (0.36 - 0.04) / 0.24 = 4 / 3: outside, the edge w = 1 is best.
    assert ensembles.fit_weights(np.array([[0.8, 0.4], [0.2, 0.6]])).round(3).tolist() == [1, 0]
    # With 0.8 : 0.2 and 0.2 : 0.8 both are alike.
    assert ensembles.fit_weights(np.array([[0.8, 0.2], [0.2, 0.8]])).tolist() == [0.5, 0.5]


def test_a_pixel_weight_is_a_repetition():
    p = RANDOM.uniform(0.01, 1, (3, 12))
    times = RANDOM.integers(1, 5, 12)
    np.testing.assert_allclose(
        ensembles.fit_weights(p, times), ensembles.fit_weights(np.repeat(p, times, 1)), atol=1e-6
    )


@pytest.mark.parametrize(
    "p", [np.zeros((0, 4)), np.zeros((2, 0)), np.ones(3), np.full((2, 2), 1.5), np.full((2, 2), np.nan)]
)
def test_wrong_probabilities_are_refused(p):
    with pytest.raises(ValueError, match="wanted"):
        ensembles.fit_weights(p)


def test_scores_give_weights_in_proportion_or_by_softmax():
    assert weights.by_score([0.6, 0.2]).tolist() == pytest.approx([0.75, 0.25])
    # softmax(10 * (0.6, 0.2)) = 1 / (1 + e^-4)
    assert weights.by_score([0.6, 0.2], 10)[0] == pytest.approx(1 / (1 + np.exp(-4)))
    for wrong in ([], [0.0, 0.0], [-1.0, 2.0], [float("nan")]):
        with pytest.raises(ValueError, match="wanted scores"):
            weights.by_score(wrong)


def plain_greedy(stack, target, metric, steps):
    """Caruana's selection in loops."""
    m, n, c = stack.shape[:3]
    chosen, scores = [], []
    for _ in range(steps):
        best = None
        for candidate in range(m):
            tables = []
            for i in range(n):
                mean = sum(stack[j, i] for j in [*chosen, candidate])
                tables.append(metrics.count(mean.argmax(0)[None], target[i][None], c))
            score = metrics.summarize(metrics.Counts.concat(tables))[metric]
            if best is None or score > best[0]:
                best = (score, candidate)
        chosen.append(best[1])
        scores.append(best[0])
    length = scores.index(max(scores)) + 1
    return [chosen[:length].count(j) / length for j in range(m)], chosen, scores


@pytest.mark.parametrize("metric", ["miou_dataset", "miou_class", "acc"])
def test_greedy_is_what_loops_choose(metric):
    stack = members(4, 3, 3, 6, 7, seed=2)
    target = np.random.default_rng(3).integers(0, 3, (3, 6, 7)).astype(np.uint8)
    target[0, :2] = 255
    found, sequence, scores = ensembles.greedy(stack, target, metric=metric, steps=6)
    expected = plain_greedy(stack, target, metric, 6)
    assert (found.tolist(), sequence) == (pytest.approx(expected[0]), expected[1])
    assert scores == pytest.approx(expected[2])
    assert scores[0] <= max(scores)


def test_greedy_refuses_what_it_cannot_score():
    stack, target = members(2, 1, 3, 4, 4), np.zeros((1, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="no defined score"):
        ensembles.greedy(stack, target, metric="ece_dataset", steps=1)
    with pytest.raises(ValueError, match="wanted"):
        ensembles.greedy(stack[:, 0], target)


def test_greedy_with_one_good_member_takes_it_alone():
    target = np.random.default_rng(4).integers(0, 3, (1, 8, 8)).astype(np.uint8)
    right = np.moveaxis(np.eye(3, dtype=np.float32)[target], -1, 1)
    stack = np.stack([members(1, 1, 3, 8, 8)[0], right])
    assert ensembles.greedy(stack, target, steps=5)[0].tolist() == [0, 1]
