"""Stacking, its learners, the pixels it is fitted on, and how members differ."""

import numpy as np
import pytest

from segpipe import ensembles
from segpipe.core import registry
from segpipe.core.errors import ConfigError
from segpipe.ensembles import learners, samples
from segpipe.ensembles.diversity import Pairs
from segpipe.ensembles.samples import Sample

LEARNERS = tuple(registry.entries(learners.__name__))
M, C, H, W = 3, 4, 24, 30


def scene(seed=0, classes=C, noise=1.5):
    """Members that are right more often than not, each with errors of its own, and the target."""
    random = np.random.default_rng(seed)
    target = random.integers(0, classes, (H, W)).astype(np.uint8)
    scores = random.normal(0, noise, (M, classes, H, W))
    scores += 2 * (target == np.arange(classes)[:, None, None])
    powers = np.exp(scores)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32), target


def sample_of(probs, target, per_class=60):
    return Sample.of(probs, target, *samples.stratified(target, per_class, 0), 0)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("options", [{}, {"entropy": True, "position": True}])
def test_every_learner_gives_probabilities_and_beats_its_members(learner, options):
    sample = sample_of(*scene(0))
    probs, target = scene(1)
    found = ensembles.Stacker(learner, **options).fit(sample).predict(probs)
    assert found.shape == (C, H, W)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert (found >= 0).all()
    accuracy = (found.argmax(0) == target).mean()
    assert accuracy > max((member.argmax(0) == target).mean() for member in probs)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_fit_gives_the_same_bytes_again_and_the_arrays_are_all_there_is(learner):
    probs, target = scene(0)
    sample = sample_of(probs, target)
    first, second = (ensembles.Stacker(learner).fit(sample) for _ in range(2))
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name])
    read_back = ensembles.Stacker(learner)
    read_back.arrays = dict(first.arrays)
    np.testing.assert_array_equal(read_back.predict(probs), first.predict(probs))


def plain_logistic(arrays, features):
    """Softmax of a linear map of standardised features, pixel by pixel."""
    found = []
    for column in features.T:
        z = [(x - m) / s for x, m, s in zip(column, arrays["mean"], arrays["deviation"], strict=True)]
        scores = [
            sum(w * x for w, x in zip(row, z, strict=True)) + b
            for row, b in zip(arrays["weights"], arrays["bias"], strict=True)
        ]
        powers = [np.exp(s - max(scores)) for s in scores]
        found.append([p / sum(powers) for p in powers])
    return np.array(found).T


def test_the_logistic_learner_is_a_softmax_of_standardised_log_probabilities():
    probs, target = scene(0)
    stacker = ensembles.Stacker("logistic").fit(sample_of(probs, target))
    columns = np.log(np.maximum(probs.reshape(M * C, -1)[:, :20], 1e-6))
    expected = plain_logistic(stacker.arrays, columns)
    np.testing.assert_allclose(stacker.predict(probs).reshape(C, -1)[:, :20], expected, atol=1e-5)


@pytest.mark.parametrize("learner", ["forest", "mlp", "linear_svm", "rbf_svm"])
def test_stored_arrays_predict_what_scikit_learn_predicts(learner, monkeypatch):
    """scikit-learn's own classifier, caught while it is fitted, decides as the arrays do."""
    import sklearn.ensemble
    import sklearn.neural_network
    import sklearn.svm

    home, name = {
        "forest": (sklearn.ensemble, "RandomForestClassifier"),
        "mlp": (sklearn.neural_network, "MLPClassifier"),
        "linear_svm": (sklearn.svm, "LinearSVC"),
        "rbf_svm": (sklearn.svm, "LinearSVC"),
    }[learner]
    caught = {}

    class Caught(getattr(home, name)):
        def fit(self, features, *more):
            caught.update(model=self, features=features)
            return super().fit(features, *more)

    monkeypatch.setattr(home, name, Caught)
    sample = sample_of(*scene(0))
    stacker = ensembles.Stacker(learner).fit(sample)
    own = learners.predict(stacker.arrays, stacker.features(sample.probs, None))
    theirs = caught["model"].predict(caught["features"])
    assert (own.argmax(0) == theirs).mean() > 0.995
    if learner in ("forest", "mlp"):
        np.testing.assert_allclose(own.T, caught["model"].predict_proba(caught["features"]), atol=2e-3)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_class_without_a_pixel_in_the_fit_is_never_predicted(learner):
    probs, target = scene(0)
    target = np.where(target == 2, 255, target).astype(np.uint8)
    found = ensembles.Stacker(learner).fit(sample_of(probs, target)).predict(probs)
    assert (found[2] == 0).all()
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("learner", LEARNERS)
def test_two_classes_and_one_class_are_fitted_too(learner):
    probs, target = scene(3, classes=2)
    found = ensembles.Stacker(learner).fit(sample_of(probs, target)).predict(probs)
    assert (found.argmax(0) == target).mean() > 0.8
    alone = ensembles.Stacker(learner).fit(sample_of(probs, np.zeros_like(target))).predict(probs)
    assert (alone[0] == 1).all()


def test_wrong_input_to_a_stacker_is_refused():
    probs, target = scene(0)
    sample = sample_of(probs, target)
    with pytest.raises(ValueError, match="at least two members"):
        ensembles.Stacker().fit(sample_of(probs[:1], target))
    with pytest.raises(ValueError, match="fit first"):
        ensembles.Stacker().predict(probs)
    with pytest.raises(ValueError, match="all labels are void"):
        ensembles.Stacker().fit(sample_of(probs, np.full_like(target, 255)))
    with pytest.raises(ConfigError, match="logistic"):
        ensembles.Stacker("logistics").fit(sample)
    with pytest.raises(ValueError, match="the fit's members"):
        ensembles.Stacker().fit(sample).predict(probs[:2])


def test_stratified_weights_undo_the_drawing():
    target = np.repeat([0, 0, 0, 1, 255], [500, 300, 200, 30, 70]).reshape(10, 110).astype(np.uint8)
    positions, weights = samples.stratified(target, 50, 7)
    drawn = target.ravel()[positions]
    assert (np.bincount(drawn).tolist(), len(set(positions.tolist()))) == ([50, 30], 80)
    for label, pixels in ((0, 1000), (1, 30)):
        assert weights[drawn == label].sum() == pytest.approx(pixels)
    np.testing.assert_array_equal(positions, samples.stratified(target, 50, 7)[0])
    assert not np.array_equal(positions, samples.stratified(target, 50, 8)[0])
    even, weight = samples.uniform(target, 100, 7)
    assert (len(even), weight * len(even)) == (100, pytest.approx(1030))
    assert (target.ravel()[even] != 255).all()
    assert samples.uniform(target, 5000, 7)[1] == 1


@pytest.mark.parametrize("learner", LEARNERS)
def test_rare_classes_keep_their_prior(learner):
    """Fitted on stratified pixels with weights, the mean probability of a class is its share."""
    random = np.random.default_rng(0)
    target = (random.random((200, 200)) < 0.03).astype(np.uint8)
    score = random.normal(0, 1, (2, 200, 200)) + target
    p = 1 / (1 + np.exp(-score))
    probs = np.stack([1 - p, p], 1).astype(np.float32)
    sample = Sample.of(probs, target, *samples.stratified(target, 400, 0), 0)
    rare = ensembles.Stacker(learner).fit(sample).predict(probs)[1].mean()
    # 0.03; without the weights it would be about 0.3. Margins have one temperature, not a prior of their own.
    assert rare == pytest.approx(target.mean(), rel={"linear_svm": 1, "rbf_svm": 1, "forest": 0.4}.get(learner, 0.2))


def test_places_and_pixels_of_a_sample_belong_together():
    probs, target = scene(0)
    sample = Sample.of(probs, target, np.array([0, W + 2]), 1.0, 5)
    np.testing.assert_array_equal(sample.probs[..., 1], probs[:, :, 1, 2])
    np.testing.assert_allclose(sample.place[:, 1], [1.5 / H, 2.5 / W])
    assert sample.image.tolist() == [5, 5]
    np.testing.assert_array_equal(sample.of_true[:, 1], probs[:, target[1, 2], 1, 2])


def test_pairs_are_what_loops_count():
    random = np.random.default_rng(0)
    labels = [random.integers(0, 3, (5, 6)).astype(np.uint8) for _ in range(3)]
    target = random.integers(0, 3, (5, 6)).astype(np.uint8)
    target[0] = 255
    found = Pairs.of(labels, target)
    places = [(y, x) for y in range(5) for x in range(6) if target[y, x] != 255]
    for i in range(3):
        for j in range(3):
            differ = sum(labels[i][p] != labels[j][p] for p in places)
            both = sum(labels[i][p] != target[p] and labels[j][p] != target[p] for p in places)
            assert (found.differ[i, j], found.both_wrong[i, j], found.valid) == (differ, both, 24)
    twice = Pairs.total([found, found])
    assert twice.shares() == found.shares()
