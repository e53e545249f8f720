"""Averages and votes: by hand and by property."""

import numpy as np
import pytest

from segpipe import ensembles

RANDOM = np.random.default_rng(0)
PROBS = RANDOM.dirichlet(np.ones(4), (3, 2, 5, 6)).transpose(0, 1, 4, 2, 3)  # (M, N, C, H, W)
LABELS = RANDOM.integers(0, 3, (5, 2, 4, 4)).astype(np.uint8)
METHODS = [ensembles.majority, ensembles.plurality]


@pytest.mark.parametrize("kind", ["arithmetic", "geometric"])
def test_an_average_is_what_a_loop_gives(kind):
    weights = [1, 2, 0.5]
    found = ensembles.average(PROBS, weights, kind)
    for n, h, w in ((0, 0, 0), (1, 4, 5)):
        share = [x / 3.5 for x in weights]
        columns = [[float(PROBS[m, n, c, h, w]) for c in range(4)] for m in range(3)]
        if kind == "arithmetic":
            expected = [sum(s * column[c] for s, column in zip(share, columns, strict=True)) for c in range(4)]
        else:
            powers = [np.prod([column[c] ** s for s, column in zip(share, columns, strict=True)]) for c in range(4)]
            expected = [p / sum(powers) for p in powers]
        np.testing.assert_allclose(found[n, :, h, w], expected, rtol=1e-9)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-9)


def test_order_copies_and_zero_weights_change_nothing():
    np.testing.assert_allclose(ensembles.average(PROBS[::-1]), ensembles.average(PROBS))
    np.testing.assert_allclose(ensembles.average(PROBS[:1]), PROBS[0])
    np.testing.assert_allclose(ensembles.average(np.stack([PROBS[0]] * 3)), PROBS[0])
    np.testing.assert_allclose(ensembles.average(PROBS, [1, 1, 0]), ensembles.average(PROBS[:2]))
    for vote in METHODS:
        np.testing.assert_array_equal(vote(LABELS[::-1]), vote(LABELS))
        np.testing.assert_array_equal(vote(np.stack([LABELS[0]] * 3)), LABELS[0])
        np.testing.assert_array_equal(vote(LABELS, [1, 1, 1, 0, 0]), vote(LABELS[:3]))


def vote_of(vote, *labels, **options):
    return int(vote(np.array(labels, np.uint8)[:, None, None], **options)[0, 0])


def test_majority_needs_more_than_half():
    assert vote_of(ensembles.majority, 1, 1, 0) == 1
    assert vote_of(ensembles.majority, 1, 1, 0, 0) == 255
    assert vote_of(ensembles.majority, 1, 1, 255, 255) == 255  # who abstains still counts
    assert vote_of(ensembles.majority, 1, 0, 0, weights=[3, 1, 1]) == 1
    assert vote_of(ensembles.majority, 255, 255) == 255


def test_plurality_settles_ties_by_probability_then_by_the_lowest_class():
    assert vote_of(ensembles.plurality, 2, 2, 0, 1) == 2
    assert vote_of(ensembles.plurality, 2, 0) == 0
    probs = np.array([0.2, 0.7, 1.1])[:, None, None]
    assert vote_of(ensembles.plurality, 2, 0, probs=probs) == 2
    assert vote_of(ensembles.plurality, 255, 1) == 1
    assert vote_of(ensembles.plurality, 255, 255) == 255


def test_wrong_weights_and_no_members_are_refused():
    for weights in ([1, 2], [-1, 1, 1], [0, 0, 0], [np.nan, 1, 1]):
        with pytest.raises(ValueError, match="wanted 3 weights"):
            ensembles.average(PROBS, weights)
    with pytest.raises(ValueError, match="at least one member"):
        ensembles.majority(LABELS[:0])
    with pytest.raises(ValueError, match="kind"):
        ensembles.average(PROBS, kind="harmonic")
