"""Every method of the registry: the promises that do not depend on which one it is."""

import numpy as np
import pytest

from segpipe import metrics
from segpipe.core import registry
from segpipe.core.errors import ConfigError
from segpipe.ensembles import methods, samples
from segpipe.ensembles.samples import Sample

from test_stacking import M, scene

TEXTS = (
    *registry.entries(methods.__name__),
    "weighted(by=greedy, steps=4)",
    "weighted(by=score)",
    "average(kind=geometric)",
)
PLAIN = [text for text in TEXTS if text != "stacking"]


def fitted(text, probs, target):
    method = methods.create(text)
    draw = samples.uniform if method.draws == "uniform" else samples.stratified
    labels = probs.argmax(1)
    counts = metrics.count(labels, np.broadcast_to(target, labels.shape), probs.shape[1])
    method.fit(Sample.of(probs, target, *draw(target, 100, 0), 0), [counts[[m]] for m in range(len(probs))])
    return method


def same(found, expected, method):
    return found.shape == expected.shape and bool(
        np.all(np.abs(found * 1.0 - expected) <= (0 if method.votes else 2e-5))
    )


@pytest.mark.parametrize("text", TEXTS)
def test_a_method_gives_one_map_and_changes_nothing(text):
    probs, target = scene(0)
    before = probs.copy()
    method = fitted(text, probs, target)
    found = method.combine(probs)
    assert found.shape == (target.shape if method.votes else probs.shape[1:])
    np.testing.assert_array_equal(probs, before)
    if not method.votes:
        np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_method_learned_is_all_that_another_call_needs(text):
    probs, target = scene(0)
    method = fitted(text, probs, target)
    again = methods.create(text)
    again.restore(method.learned, method.arrays)
    np.testing.assert_array_equal(again.combine(probs), method.combine(probs))


@pytest.mark.parametrize("text", PLAIN)
def test_the_order_of_members_changes_nothing(text):
    probs, target = scene(0)
    method, turned = fitted(text, probs, target), fitted(text, probs[::-1], target)
    assert same(turned.combine(probs[::-1]), method.combine(probs), method)


@pytest.mark.parametrize("text", PLAIN)
def test_one_member_and_equal_members_are_that_member(text):
    probs, target = scene(0)
    for stack in (probs[:1], np.stack([probs[0]] * 3)):
        method = fitted(text, stack, target)
        assert same(method.combine(stack), probs[0].argmax(0) if method.votes else probs[0], method)


@pytest.mark.parametrize("text", ["average", "average(kind=geometric)", "majority", "plurality"])
def test_a_member_of_weight_zero_is_no_member(text):
    probs, _ = scene(0)
    name, _, options = text.partition("(")
    given = f"{name}({options[:-1] + ', ' if options else ''}weights=[2, 0, 1])"
    without = f"{name}({options[:-1] + ', ' if options else ''}weights=[2, 1])"
    method = methods.create(given)
    assert same(method.combine(probs), methods.create(without).combine(probs[[0, 2]]), method)


def test_fitted_weights_are_no_worse_than_even_ones_where_they_were_fitted():
    probs, target = scene(0)
    learned = fitted("weighted", probs, target).learned
    assert learned["nll"] <= learned["nll_even"]
    assert len(learned["weights"]) == M


def test_who_has_no_weight_settles_no_tie():
    columns = np.array([[0.55, 0.45], [0.4, 0.6], [0.98, 0.02]], np.float32)[:, :, None, None]
    # Of the first two, 0.55 + 0.4 = 0.95 < 0.45 + 0.6 = 1.05.
    assert methods.create("plurality(weights=[1, 1, 0])").combine(columns).item() == 1


def test_greedy_counts_an_image_by_its_pixels_not_by_those_drawn():
    """A large image, where member 0 is right, and four small ones, where member 1 is: the same number drawn of each."""
    right, wrong = np.array([0.9, 0.1]), np.array([0.05, 0.95])
    columns = np.stack([np.stack([right] + [wrong] * 4), np.stack([wrong] + [right] * 4)])  # (M, N, C)
    probs = np.repeat(columns.transpose(0, 2, 1), 10, 2).astype(np.float32)
    weight = np.repeat([1000.0, 1, 1, 1, 1], 10)
    sample = Sample(probs, np.zeros(50, np.int64), weight, np.repeat(np.arange(5), 10), np.zeros((2, 50), np.float32))
    method = methods.create("weighted(by=greedy, metric=acc, steps=3)")
    counts = metrics.count(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8), 2)
    method.fit(sample, [counts, counts])
    assert method.learned["weights"] == [1, 0]


def test_a_majority_of_members_that_all_differ_rejects_everything():
    probs = np.eye(3, dtype=np.float32)[:, :, None, None] * np.ones((1, 1, 4, 5), np.float32)
    assert (methods.create("majority").combine(probs) == 255).all()
    assert (methods.create("plurality").combine(probs) == 0).all()


@pytest.mark.parametrize(
    "text, message",
    [
        ("mean", "average"),
        ("average(kind=harmonic)", "wanted arithmetic or geometric"),
        ("weighted(by=luck)", "wanted nll, greedy or score"),
        ("weighted(by=score, metric=miou)", "miou_dataset"),
        ("weighted(by=greedy, steps=0)", "steps"),
        ("weighted(by=nll, kind=geometric)", "by=score with kind=geometric"),
        ("stacking(learner=logistics)", "logistic"),
        ("stacking(pixels=0)", "at least 1"),
        ("stacking(folds=maybe)", "true or false"),
        ("average + majority", "not a sum"),
    ],
)
def test_a_wrong_method_is_one_sentence(text, message):
    with pytest.raises(ConfigError, match=message):
        methods.create(text)


@pytest.mark.parametrize(
    "text, members, message",
    [
        ("stacking", 1, "at least 2 members"),
        ("average(weights=[1, 2])", 3, "wanted 3 weights"),
        ("majority(weights=[0, 0])", 2, "not all 0"),
        ("plurality(weights=[1, -1])", 2, ">= 0"),
        ("average(weights=much)", 2, "weights"),
    ],
)
def test_members_that_do_not_fit_a_method_are_refused(text, members, message):
    with pytest.raises(ConfigError, match=message):
        methods.create(text).check(members)
