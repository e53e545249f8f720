"""Which images are shown: shares against plain loops, and draws against the shares."""

import numpy as np
import pytest

from segpipe.core.errors import ConfigError
from segpipe.core.seeding import generator
from segpipe.training import parts

PRESENT = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0]], bool)


def drawn(name, epochs=4000):
    sampling = parts.create("sampling", name, 5, lambda: PRESENT)
    return np.mean([np.bincount(sampling.order(generator(7, e)), minlength=5) for e in range(epochs)], 0)


def plain_shares():
    """(1 / C) sum_c [c in image] / n_c, in loops."""
    shares = []
    for image in PRESENT:
        classes = [c for c in range(3) if image[c]]
        shares.append(sum(1 / sum(other[c] for other in PRESENT) for c in classes) / 3)
    return np.array(shares)


@pytest.mark.parametrize("name", parts.names("sampling"))
def test_a_sampling_shows_as_many_images_as_it_says_and_depends_on_its_numbers_alone(name):
    sampling = parts.create("sampling", name, 5, lambda: PRESENT)
    for epoch in range(20):
        order = sampling.order(generator(0, epoch))
        assert len(order) == sampling.number
        assert set(order) <= set(range(5))
        assert (order == sampling.order(generator(0, epoch))).all()


def test_uniform_shows_every_image_once():
    assert sorted(parts.create("sampling", "uniform", 5, lambda: PRESENT).order(generator(1))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("times", [1, 3])
def test_uniform_shows_every_image_as_often_as_it_is_told(times):
    sampling = parts.create("sampling", f"uniform(times={times})", 5, lambda: None)
    order = sampling.order(np.random.default_rng(0))
    assert sampling.number == len(order) == 5 * times
    assert [sorted(order[first : first + 5]) for first in range(0, len(order), 5)] == [list(range(5))] * times


def test_oversampling_draws_classes_evenly():
    # n = (4, 2, 1): image 0 has 1/12, images 1 and 2 have 1/12 + 1/6, image 3 has 1/12 + 1/3, image 4 none.
    assert plain_shares() == pytest.approx([1 / 12, 3 / 12, 3 / 12, 5 / 12, 0])
    assert drawn("oversample") / 5 == pytest.approx(plain_shares(), abs=0.01)


def test_undersampling_keeps_the_rarest_and_shows_none_twice():
    # Acceptance 1/5, 3/5, 3/5, 1, 0: 2.4 images are expected, 2 are shown.
    sampling = parts.create("sampling", "undersample", 5, lambda: PRESENT)
    assert sampling.number == 2
    found = drawn("undersample")
    assert found[4] == 0
    assert found.argmax() == 3
    assert found.max() <= 1
    assert found[1] == pytest.approx(found[2], abs=0.05)


def test_performance_sampling_mixes_uniform_and_badness():
    sampling = parts.create("sampling", "lmp(mix=0.6, decay=0.5)", 5, lambda: PRESENT)
    assert sampling.probabilities() == pytest.approx([0.2] * 5)
    tables = np.array([[8, 1, 0], [1, 2, 3], [1, 1, 1]]), np.array([[2, 2, 1], [0, 0, 1], [4, 1, 1]])
    remembered = np.zeros((3, 3))
    for table in tables:
        sampling.learn(*table)
        remembered = 0.5 * remembered + table
    iou = remembered[0] / remembered.sum(0)
    q = []
    for image in PRESENT:
        classes = [c for c in range(3) if image[c]]
        q.append(sum(1 - iou[c] for c in classes) / len(classes) if classes else 0)
    assert sampling.probabilities() == pytest.approx([0.4 / 5 + 0.6 * x / sum(q) for x in q])
    other = parts.create("sampling", "lmp(mix=0.6, decay=0.5)", 5, lambda: PRESENT)
    other.load_state_dict(sampling.state_dict())
    assert (other.probabilities() == sampling.probabilities()).all()


def test_wrong_numbers_and_images_without_labels_are_refused():
    with pytest.raises(ConfigError, match="times is 0, wanted at least 1"):
        parts.create("sampling", "uniform(times=0)", 5, lambda: PRESENT)
    with pytest.raises(ConfigError, match=r"mix in 0..1"):
        parts.create("sampling", "lmp(mix=2)", 5, lambda: PRESENT)
    with pytest.raises(ConfigError, match="no training image holds a label"):
        parts.create("sampling", "oversample", 3, lambda: np.zeros((3, 2), bool)).order(generator(0))
