"""Rules from probabilities to labels: against plain versions, and on worlds whose best answer is known."""

import itertools
import math

import numpy as np
import pytest

from segpipe import refine
from segpipe.core import registry
from segpipe.core.errors import ConfigError
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.scores import summarize
from segpipe.refine import components, expected, guided, weighting
from segpipe.refine.chain import ARGMAX, Chain, decide, judge, refused
from segpipe.refine.evidence import Held, Pixels, Shown, raised, spread

RULES = [name for name, entry in registry.entries(refine.PACKAGE).items() if "tuned" not in entry.attributes]


def world(seed, number=6, classes=4, size=(12, 15), sharpness=1.0, void=0.05):
    """Images whose labels are drawn from their probabilities, so these are right; rare classes are never sure."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        scores = random.normal(0, 1, (classes, *size)) - 0.7 * np.arange(classes)[:, None, None]
        probs = np.exp(sharpness * scores)
        probs /= probs.sum(0)
        drawn = (random.random(size) > np.cumsum(probs, 0)).sum(0).clip(0, classes - 1).astype(np.uint8)
        drawn[random.random(size) < void] = 255
        image = random.integers(0, 256, (*size, 3)).astype(np.uint8)
        found.append(Shown(image, probs.astype(np.float32), drawn))
    return Held(found)


def score(chain, evidence, metric="miou_dataset"):
    tables = [count(chain.labels(s.image, s.probs)[None], s.target[None], len(s.probs)) for s in evidence.images]
    return weighting.score_of(Counts.concat(tables), metric)


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_knows_the_counts_under_every_weight_of_a_class(seed):
    random = np.random.default_rng(seed)
    for pixels in world(seed).pixels():
        weights = np.exp(random.normal(0, 0.6, 4)).astype(np.float32)
        for k in range(4):
            found = weighting._under_every(pixels, weights, k)
            for s in range(0, len(weighting.STEPS), 8):
                changed = weights.copy()
                changed[k] = weighting._CANDIDATES[s]
                np.testing.assert_array_equal(found[s], plain_counts(pixels, changed))


def plain_counts(pixels, weights):
    """tp, fp, fn pixel by pixel; of equal scores the lower class wins."""
    table = np.zeros((3, len(weights)), int)
    for p, true in zip(pixels.probs.T, pixels.target, strict=True):
        best = 0
        for k in range(1, len(weights)):
            if p[k] * weights[k] > p[best] * weights[best]:
                best = k
        if best == true:
            table[0, best] += 1
        else:
            table[1, best] += 1
            table[2, true] += 1
    return table


@pytest.mark.parametrize("metric", ["miou_dataset", "miou_image", "mdice_class", "acc", "miou_image_q5"])
def test_scores_of_many_tables_are_those_of_each(metric):
    random, tables = np.random.default_rng(0), []
    for _ in range(12):
        parts = [random.integers(0, 30, (7, 4)) * (random.random((7, 4)) < 0.6) for _ in range(3)]
        tables.append(Counts(*parts, np.full(7, 99), np.zeros(7, int)))
    wanted = [summarize(t).get(metric) for t in tables]
    assert weighting.scores_of(tables, metric) == pytest.approx([-math.inf if w is None else w for w in wanted])


def test_fitted_weights_are_the_best_of_a_whole_grid():
    # Two classes: only the ratio of the weights matters, so all labelings of a weighted arg max can be tried.
    pixels = world(5, number=2, classes=2, size=(9, 11)).pixels()
    found = weighting.fitted(pixels, "miou_dataset", 2)
    reached = weighting.score_of(raised([weighting.counted(p, found) for p in pixels], pixels), "miou_dataset")
    every = []
    for step in np.linspace(-3.4, 3.4, 3001):
        weights = np.array([1, math.exp(step)], np.float32)
        every.append(weighting.score_of(raised([plain_counts(p, weights) for p in pixels], pixels), "miou_dataset"))
    assert reached >= max(every) - 0.01
    assert reached > weighting.score_of(raised([plain_counts(p, np.ones(2)) for p in pixels], pixels), "miou_dataset")


def test_pixels_that_stand_for_more_count_as_many():
    part = np.array([[3, 1], [1, 0], [0, 1]])
    counts = raised([part], [Pixels(np.zeros((2, 5), np.float32), np.zeros(5, np.uint8), 20)])
    assert (counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist()) == ([[12, 4]], [[4, 0]], [[0, 4]])
    assert counts.valid.tolist() == [20]


def expectations(p, metric):
    """Of every non-empty set of pixels the expected score over all labelings, those without the class left out."""
    worlds = list(itertools.product((0, 1), repeat=len(p)))
    chances = [math.prod(q if bit else 1 - q for q, bit in zip(p, bits, strict=True)) for bits in worlds]
    found = {}
    for chosen in worlds:
        if not any(chosen):
            continue
        total = 0.0
        for bits, chance in zip(worlds, chances, strict=True):
            if any(bits):
                both = sum(a and b for a, b in zip(chosen, bits, strict=True))
                either = sum(a or b for a, b in zip(chosen, bits, strict=True))
                total += chance * (both / either if metric == "iou" else 2 * both / (both + either))
        found[chosen] = total
    return found


@pytest.mark.parametrize("metric", ["iou", "dice"])
@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_gives_the_set_of_the_largest_expected_score(metric, seed):
    p = (
        np.random.default_rng(seed)
        .beta(*np.random.default_rng(seed + 50).uniform(0.3, 2, 2), size=8)
        .astype(np.float32)
    )
    found = expectations([float(q) for q in p], metric)
    threshold = expected.thresholds(p[None], metric)[0]
    reached = found[tuple(int(q >= threshold) for q in p)]
    assert reached >= max(found.values()) - 0.005  # the moments of a sum of eight


def test_the_mean_of_a_reciprocal_is_near_the_exact_one():
    random = np.random.default_rng(0)
    for number in (20, 200):
        p = random.random(number)
        ways = np.array([1.0])
        for q in p:  # the distribution of the sum, one bit after the other
            ways = np.convolve(ways, [1 - q, q])
        exact = (ways / (5 + np.arange(number + 1))).sum()
        assert expected.reciprocal(5, p.sum(), (p * (1 - p)).sum()) == pytest.approx(exact, rel=20 / number**2 + 1e-4)


def test_a_class_that_is_nowhere_probable_gets_nothing_and_breaks_nothing():
    probs = np.zeros((3, 6, 6), np.float32)
    probs[0], probs[1] = 0.7, 0.3
    labels = Chain.read("rankseg").labels(np.zeros((6, 6, 3), np.uint8), probs)
    assert set(np.unique(labels)) <= {0, 1}


@pytest.mark.parametrize("rule", ["weights", "rankseg", "rankseg(metric=dice)", "temperature + weights"])
def test_where_probabilities_are_right_a_rule_beats_argmax_on_other_images(rule):
    gains = []
    for seed in range(4):
        val, test = world(seed, 20, size=(24, 30)), world(seed + 100, 20, size=(24, 30))
        chain = Chain.read(rule)
        chain.fit(val, "miou_dataset")
        gains.append(score(chain, test) - score(Chain([]), test))
    assert min(gains) > 0.005


def test_the_prior_divides_by_a_power_of_the_frequency():
    evidence = world(1)
    chain = Chain.read("prior(tau=0.5)")
    chain.fit(evidence, "miou_dataset")
    held = np.zeros(4)
    assert chain.labels(evidence.images[0].image, evidence.images[0].probs).shape == (12, 15)
    for shown in evidence.images:
        for true in shown.target.ravel():
            if true != 255:
                held[true] += 1
    assert chain.links[0][1].values == pytest.approx((held / held.sum()) ** -0.5, rel=1e-4)


def pieces(mask, neighbours):
    """Connected pieces by flood fill."""
    left, found = {tuple(at) for at in np.argwhere(mask)}, []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            at = edge.pop()
            piece.add(at)
            for step in neighbours:
                other = (at[0] + step[0], at[1] + step[1])
                if other in left:
                    left.remove(other)
                    edge.append(other)
        found.append(piece)
    return found


FOUR = ((0, 1), (1, 0), (0, -1), (-1, 0))
EIGHT = (*FOUR, (1, 1), (1, -1), (-1, 1), (-1, -1))


@pytest.mark.parametrize("seed", range(6))
def test_pieces_and_holes_are_those_of_a_flood_fill(seed):
    labels = np.random.default_rng(seed).choice([0, 1], (9, 11), p=[0.55, 0.45]).astype(np.uint8)
    found, gaps = pieces(labels == 1, EIGHT), pieces(labels != 1, FOUR)
    small = {at for piece in found if len(piece) < 0.05 * labels.size for at in piece}
    assert {tuple(at) for at in np.argwhere(components._small(labels, 1, 0.05))} == small
    largest = max(len(piece) for piece in found)
    kept = {tuple(at) for at in np.argwhere((labels == 1) & ~components._small(labels, 1, components.LARGEST))}
    assert len(kept) == largest
    assert kept in found
    inner = {
        at for gap in gaps if all(0 < y < 8 and 0 < x < 10 for y, x in gap) for at in gap
    }  # touches no edge of the image
    assert {tuple(at) for at in np.argwhere(components._holes(labels, 1))} == inner


def test_components_are_removed_only_where_val_gains():
    images = []
    for seed in range(4):
        random = np.random.default_rng(seed)
        target = np.zeros((40, 40), np.uint8)
        target[5:20, 5:20] = 1
        target[30:32, 5 * seed : 5 * seed + 2] = 2  # small and true
        labels = target.copy()
        labels[random.integers(22, 29, 6), random.integers(0, 40, 6)] = 1  # small and false
        probs = np.full((3, 40, 40), 0.1, np.float32)
        np.put_along_axis(probs, labels[None].astype(int), 0.8, 0)
        images.append(Shown(np.zeros((40, 40, 3), np.uint8), probs, target))
    chain = Chain.read("components")
    chain.fit(Held(images), "miou_dataset")
    rule = chain.links[0][1]
    assert rule.least[1] != 0
    assert rule.least[2] == 0
    assert score(chain, Held(images)) == 1


def plain_guided(grey, p, radius, epsilon):
    """The guided filter window by window, mirrored at the edges as cv2.BORDER_REFLECT does."""

    def mirrored(plane, y, x):
        def inside(i, n):
            return -i - 1 if i < 0 else 2 * n - 1 - i if i >= n else i

        return plane[inside(y, plane.shape[0]), inside(x, plane.shape[1])]

    def mean(plane):
        steps = range(-radius, radius + 1)
        return np.array(
            [
                [np.mean([mirrored(plane, y + a, x + b) for a in steps for b in steps]) for x in range(plane.shape[1])]
                for y in range(plane.shape[0])
            ]
        )

    m, average = mean(grey), mean(p)
    slope = (mean(grey * p) - m * average) / (mean(grey * grey) - m * m + epsilon)
    return mean(slope) * grey + mean(average - slope * m)


def test_the_guided_filter_is_the_papers():
    random = np.random.default_rng(0)
    image = np.repeat(random.integers(0, 256, (7, 8, 1)), 3, 2).astype(np.uint8)
    probs = random.dirichlet(np.ones(3), (7, 8)).transpose(2, 0, 1).astype(np.float32)
    found = guided.Guided(radius=2, epsilon=1e-2).apply(image, probs)
    wanted = np.stack([plain_guided(image[..., 0] / 255, p.astype(float), 2, 1e-2) for p in probs]).clip(0)
    np.testing.assert_allclose(found, wanted / wanted.sum(0), atol=1e-4)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_comes_back_from_its_numbers_and_mutates_nothing(name):
    evidence = world(3, 6)
    chain = Chain.read(name)
    chain.fit(evidence, "miou_dataset")
    again = Chain.restore(chain.describe())
    shown = evidence.images[0]
    probs = shown.probs.copy()
    np.testing.assert_array_equal(chain.labels(shown.image, shown.probs), again.labels(shown.image, shown.probs))
    np.testing.assert_array_equal(probs, shown.probs)
    assert chain.labels(shown.image, shown.probs).dtype == np.uint8


@pytest.mark.parametrize("name", RULES)
def test_a_rule_bears_void_images_absent_classes_and_one_class(name):
    images = world(4, 6).images
    void = Shown(images[0].image, images[0].probs, np.full_like(images[0].target, 255))
    absent = [Shown(s.image, s.probs, np.where(s.target == 3, 0, s.target).astype(np.uint8)) for s in images]
    one = [Shown(s.image, np.ones_like(s.probs[:1]), np.zeros_like(s.target)) for s in images]
    for evidence in (Held([*images, void]), Held(absent), Held(one), Held([void])):
        chain = Chain.read(name)
        chain.fit(evidence, "miou_dataset")
        labels = chain.labels(evidence.images[0].image, evidence.images[0].probs)
        assert labels.max() < len(evidence.images[0].probs)


def test_the_plain_chain_is_argmax():
    shown = world(0).images[0]
    np.testing.assert_array_equal(Chain.read(ARGMAX).labels(shown.image, shown.probs), shown.probs.argmax(0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weigths", "did you mean 'weights'"),
        ("0.5*weights", "links of a chain have no weights"),
        ("crf", "it refines in a stage of its own"),
        ("rankseg(metric=acc)", "metric is 'acc', wanted iou or dice"),
        ("prior(tau=3.0)", "tau is 3.0, wanted 0 to 2"),
        ("weights +", "ends where word was expected"),
        ("weights(size=2)", "has no option 'size'"),
        ("temperature(value=3.0)", "value is fitted on val; leave it out"),
        ("components + weights", "components changes labels, so it must be the last link"),
    ],
)
def test_wrong_chains_are_one_line(text, message):
    with pytest.raises(ConfigError, match=message):
        Chain.read(text)


def test_a_rule_for_other_classes_is_refused():
    chain = Chain.restore([{"name": "weights", "numbers": {"values": [1.0, 2.0, 3.0]}}])
    shown = world(0, classes=4).images[0]
    with pytest.raises(ValueError, match="the rule knows 3 classes, the prediction has 4"):
        chain.labels(shown.image, shown.probs)


def test_few_groups_decide_nothing():
    images = world(0, 9).images
    found = judge("weights", Held(images, ["a", "b", "c"] * 3), "miou_dataset")
    assert not found.taken
    assert "3 independent groups" in found.reason


def test_argmax_is_kept_where_it_is_the_best_rule():
    """Certain probabilities: no rule has anything to gain, so nothing is taken."""
    images = world(0, 12, sharpness=60.0, void=0).images
    found = decide(["weights", "prior", "rankseg", "components"], Held(images), "miou_dataset")
    assert found.text == ARGMAX


def test_a_rule_that_is_taken_rarely_costs_on_other_images():
    """Labels with noise that no rule can use: over many worlds, what is taken costs little on test."""
    losses = []
    for seed in range(12):
        val, test = world(seed, 12, sharpness=3.0), world(seed + 500, 40, sharpness=3.0)
        found = decide(["weights", "prior"], val, "miou_dataset")
        losses.append(score(Chain([]), test) - score(found.chain, test))
    assert np.mean(losses) < 0.001
    assert max(losses) < 0.012


def test_a_class_that_val_lacks_counts_as_frequent_as_the_others_on_average():
    images = [Shown(s.image, s.probs, np.where(s.target == 3, 0, s.target).astype(np.uint8)) for s in world(1).images]
    chain = Chain.read("prior(tau=1.0)")
    chain.fit(Held(images), "miou_dataset")
    held = np.bincount(np.concatenate([s.target.ravel() for s in images]), minlength=256)[:3]
    share = np.append(held, math.exp(np.log(held).mean())) / held.sum()
    assert chain.links[0][1].values == pytest.approx(1 / share, rel=1e-4)


@pytest.mark.parametrize("width", [8, 48, 4096, 97])
def test_pixels_are_drawn_from_every_column(width):
    step = spread(16, width)
    assert step >= 16
    assert len({i % width for i in range(0, step * width, step)}) == width


def test_an_ensemble_that_was_fitted_on_val_keeps_argmax():
    found = refused(["weights"], world(0), "miou_dataset", "it has seen all of val")
    assert (found.text, found.judged[0].taken, found.judged[0].reason) == (ARGMAX, False, "it has seen all of val")
    assert found.judged[0].score == found.judged[0].score_of_argmax
