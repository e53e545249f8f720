"""Intervals, paired comparisons and spreads, checked against plain loops, scipy and arithmetic."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from segpipe import metrics
from segpipe.metrics import comparison, error, jackknife, naming, planning
from segpipe.metrics.comparison import differences
from segpipe.metrics.sample import Spread, measure

C = 3


def table(seed, images=30, skill=0.7):
    random = np.random.default_rng(seed)
    target = random.integers(0, C, (images, 6, 6))
    target[random.random(images) < 0.3] %= 2
    labels = np.where(random.random(target.shape) < skill, target, random.integers(0, C, target.shape))
    target[random.random(target.shape) < 0.1] = 255
    target[1] = 255
    return metrics.count(labels, target, C)


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_stands_for_that_many_copies_of_the_image(seed):
    counts = table(seed)
    weights = np.random.default_rng(seed).multinomial(30, np.ones(30) / 30, 4).astype(float)
    found = metrics.weighted(counts, weights, quantiles=(1, 5, 33.3), thresholds=(0.5,))
    for row, weight in enumerate(weights):
        copied = metrics.summarize(
            counts[np.repeat(np.arange(30), weight.astype(int))], quantiles=(1, 5, 33.3), thresholds=(0.5,)
        )
        for name, values in found.items():
            assert values[row] == pytest.approx(copied[name], abs=1e-12), name


def test_scores_under_many_weights_do_not_depend_on_how_they_are_blocked(monkeypatch):
    counts = table(0)
    weights = np.random.default_rng(0).multinomial(30, np.ones(30) / 30, 7).astype(float)
    whole = metrics.weighted(counts, weights)
    monkeypatch.setattr("segpipe.metrics.scores._ROWS", 3)
    parts = metrics.weighted(counts, weights)
    assert all(np.allclose(whole[name], parts[name], equal_nan=True) for name in whole)


def one_by_one(counts, groups, name):
    """The score without each group, in the order of their names, as a plain loop."""
    names = sorted(set(groups))
    return [metrics.summarize(counts[[i for i, g in enumerate(groups) if g != left]])[name] for left in names]


def plain_variance(values):
    """The jackknife's: (n - 1) / n times the sum of squares about the mean."""
    centre = sum(values) / len(values)
    return (len(values) - 1) / len(values) * sum((value - centre) ** 2 for value in values)


def freedom(counts, groups, name):
    """Welch's and Satterthwaite's, over the groups that hold each class, or any valid pixel."""
    classes = range(C) if name in ("miou_dataset", "miou_class", "mdice_class_q33.3") else (None,)
    holding = []
    for k in classes:
        rows = [i for i in range(len(groups))
                if ((counts.tp + counts.fn)[i].sum() if k is None else (counts.tp + counts.fn)[i, k]) > 0]  # fmt: skip
        holding.append(len({groups[i] for i in rows}))
    total = sum(1 / n for n in holding) ** 2 / sum(1 / n**2 / (n - 1) for n in holding)
    return min(len(set(groups)) - 1, total)


@pytest.mark.parametrize("name", ["acc", "miou_dataset", "miou_image", "miou_class", "mdice_class_q33.3"])
@pytest.mark.parametrize("size", [1, 3])
def test_the_variance_over_images_is_that_of_a_plain_loop_over_groups(name, size):
    groups = [f"g{i // size:02d}" for i in range(30)]
    a, b = table(3, skill=0.7), table(4, skill=0.6)
    options = {"quantiles": (33.3,)}
    left = [
        [metrics.summarize(t[[i for i, g in enumerate(groups) if g != out]], **options)[name] for t in (a, b)]
        for out in sorted(set(groups))
    ]
    (found,) = metrics.compare({"a": [metrics.Tables(a)], "b": [metrics.Tables(b)]}, groups, [name])
    half = stats.t.ppf(0.975, freedom(a, groups, name)) * math.sqrt(plain_variance([x - y for x, y in left]))
    assert found.high - found.low == pytest.approx(2 * half, rel=1e-3)
    assert (found.unit, found.units) == ("group" if size == 3 else "image", 30 // size)


def test_of_few_groups_nothing_is_claimed():
    few = metrics.Units.of(["a"] * 12 + ["b"] * 12)
    assert (few.unit, few.number, few.groups) == ("group", 2, 2)
    assert (metrics.Units.of(["a"] * 3).unit, metrics.Units.of(["a"] * 3).caution[:14]) == ("image", "1 group is too")
    assert "2 groups are too few" in few.caution
    assert metrics.Units.of([f"g{i // 5}" for i in range(25)]).caution == ""
    assert "4 images are too few" in metrics.Units.of(list("abcd")).caution
    with pytest.raises(ValueError, match="no images"):
        metrics.Units.of([])


def test_many_images_are_left_out_in_two_hundred_blocks_that_keep_groups_whole():
    units = metrics.Units.of([f"g{i // 2}" for i in range(900)])
    weights = units.weights()
    assert weights.shape == (201, 900)
    assert weights[0].all()
    assert (weights[1:] == 0).sum(0).tolist() == [1] * 900
    assert (weights[:, ::2] == weights[:, 1::2]).all()


def test_the_interval_of_a_mean_has_the_width_that_theory_gives():
    # One class, one pixel an image: acc is a mean of n coin flips with sd sqrt(p (1 - p) / (n - 1)).
    n = 100
    hit = (np.arange(n) < 75).astype(np.int64)
    none = np.zeros((n, 2), np.int64)
    tp, fn = none.copy(), none.copy()
    tp[:, 0], fn[:, 0] = hit, 1 - hit
    counts = metrics.Counts(tp, none, fn, np.ones(n, np.int64), np.zeros(n, np.int64))
    found = metrics.intervals(metrics.Tables(counts), [f"{i:03d}" for i in range(n)], ["acc"])["acc"]
    half = stats.t.ppf(0.975, n - 1) * math.sqrt(0.75 * 0.25 / (n - 1))
    assert found == pytest.approx({"low": 0.75 - half, "high": 0.75 + half})


def test_an_interval_stays_inside_the_range_of_its_score():
    assert jackknife.bounded("miou_dataset", -0.1, 1.2) == (0.0, 1.0)
    assert jackknife.bounded("nll_dataset", -0.1, 1.2) == (0.0, 1.2)


def test_an_undefined_score_has_no_interval():
    nothing = np.zeros((6, 2), np.int64)
    counts = metrics.Counts(nothing, nothing, nothing, nothing[:, 0], nothing[:, 0])
    assert metrics.intervals(metrics.Tables(counts), list("abcdef"), ["acc"]) == {"acc": None}
    assert metrics.intervals(metrics.Tables(counts[[0]]), ["a"], ["acc"]) == {}


def runs(*skills, seeds=1):
    return {f"r{i}": [metrics.Tables(table(10 + s, skill=k)) for s in range(seeds)] for i, k in enumerate(skills)}


GROUPS = [f"{i:02d}" for i in range(30)]


def test_a_run_against_itself_has_the_same_numbers_and_a_far_better_one_is_shown():
    (tie,) = metrics.compare(runs(0.6, 0.6), GROUPS, ["miou_dataset"])
    assert (tie.value, tie.low, tie.high, tie.p, tie.shown, tie.word) == (0, 0, 0, 1, False, "the same")
    assert tie.verdict == "mIoU^D, these networks: r0 and r1 have the same numbers"
    better = runs(0.9, 0.4)
    (shown,) = metrics.compare(better, GROUPS, ["miou_class"])
    assert shown.shown
    assert shown.low > 0
    assert shown.verdict.startswith("mIoU^C, these networks: r0 is better than r1 by ")
    (turned,) = metrics.compare(dict(reversed(better.items())), GROUPS, ["miou_class"])
    assert turned.verdict == shown.verdict
    assert turned.value == -shown.value


def test_a_pair_is_compared_on_the_same_images():
    # Images differ a lot, runs by a constant: the paired interval is narrow where the separate ones are wide.
    a, b = table(3, skill=0.7), table(3, skill=0.7)
    worse = metrics.Counts(b.tp - (b.tp > 0), b.fp, b.fn + (b.tp > 0), b.valid, b.rejected)
    (found,) = metrics.compare({"a": [metrics.Tables(a)], "b": [metrics.Tables(worse)]}, GROUPS, ["miou_dataset"])
    alone = metrics.intervals(metrics.Tables(a), GROUPS, ["miou_dataset"])["miou_dataset"]
    assert found.high - found.low < (alone["high"] - alone["low"]) / 2
    assert found.shown


def test_a_handful_of_images_shows_nothing():
    few = {name: [metrics.Tables(t.counts[[0, 2, 3, 4]]) for t in seeds] for name, seeds in runs(0.99, 0.1).items()}
    (found,) = metrics.compare(few, GROUPS[:4], ["miou_dataset"])
    assert (found.shown, found.word) == (False, "undecided")
    assert "4 images are too few to tell a difference from chance" in found.verdict


def test_a_worst_case_of_few_images_shows_nothing():
    (found,) = metrics.compare(runs(0.9, 0.4), GROUPS, ["miou_image_q5"])
    assert not found.shown
    assert "the worst 5 % of 30 images are 1, wanted 16 or more" in found.verdict


def constant(*accuracies, images=20):
    """Tables of one class in which every image has these shares of 1000 pixels right: no chance of images."""
    made = []
    for right in accuracies:
        tp = np.full((images, 1), round(1000 * right))
        fn = 1000 - tp
        made.append(metrics.Tables(metrics.Counts(tp, 0 * tp, fn, (tp + fn)[:, 0], 0 * tp[:, 0])))
    return made


NAMES = [f"{i:02d}" for i in range(20)]


def test_with_seeds_the_claim_is_about_methods_and_its_interval_that_of_a_paired_t_test():
    seeds = {"a": (0.80, 0.85, 0.84), "b": (0.70, 0.71, 0.77)}
    (found,) = metrics.compare({k: constant(*v) for k, v in seeds.items()}, NAMES, ["acc"])
    paired = stats.ttest_rel(*seeds.values())
    assert found.claim == "methods"
    assert (found.low, found.high) == pytest.approx(tuple(paired.confidence_interval(0.95)), rel=1e-3)
    assert found.p == pytest.approx(paired.pvalue, rel=1e-3)
    assert found.own == pytest.approx((found.low, found.high))
    assert found.fixed == pytest.approx((found.value, found.value))  # the images have no part in it
    assert found.seeds == (3, 3)


def test_seeds_are_paired_by_their_names_and_those_of_one_side_are_left_out():
    a = dict(zip("012", constant(0.80, 0.85, 0.84), strict=True))
    b = dict(zip("210", constant(0.77, 0.71, 0.70), strict=True))
    (found,) = metrics.compare({"a": a, "b": b}, NAMES, ["acc"])
    assert found.value == pytest.approx((0.10 + 0.14 + 0.07) / 3)
    (two,) = metrics.compare({"a": a, "b": {k: b[k] for k in "01"}}, NAMES, ["acc"])
    assert (two.value, two.seeds) == (pytest.approx((0.10 + 0.14) / 2), (2, 2))
    with pytest.raises(ValueError, match="no seed in common \\(a 0 1 2, b 3 4 5\\)"):
        metrics.compare({"a": a, "b": dict(zip("345", b.values(), strict=True))}, NAMES, ["acc"])


def test_a_seed_that_one_run_lacks_is_left_out_of_all_so_that_ranks_and_verdicts_agree():
    a = dict(zip("012", constant(0.60, 0.90, 0.90), strict=True))
    b = dict(zip("0", constant(0.70), strict=True))
    sample = measure({"a": a, "b": b, "c": a}, NAMES, ["acc"])
    assert sample.seeds == {"a": ("0",), "b": ("0",), "c": ("0",)}
    assert sample.left_out == {"a": ("1", "2"), "b": (), "c": ("1", "2")}
    assert sample.point("a", "acc") == pytest.approx(0.60)
    assert differences(sample)[0].value == pytest.approx(-0.10)


def rare(holding, images=30, worse=0.0):
    """Two classes on 100 pixels each; the second is in `holding` of the images, and differs a lot between them."""
    random = np.random.default_rng(holding)
    tp = np.clip(random.normal(80, 1, (images, 2)), 0, 100).astype(np.int64)
    tp[:, 1] = np.clip(random.normal(50 - worse, 30, images), 0, 100)
    fn = 100 - tp
    tp[holding:, 1], fn[holding:, 1] = 0, 0
    return metrics.Tables(metrics.Counts(tp, 0 * tp, fn, (tp + fn).sum(1), 0 * tp[:, 0]))


def test_a_class_in_few_images_leaves_a_mean_over_classes_few_degrees_of_freedom():
    (few,) = metrics.compare({"a": [rare(2)], "b": [rare(2, worse=30)]}, GROUPS, ["miou_class"])
    assert few.word == "undecided"
    assert "a class that counts is in 2 images only" in few.verdict
    sample = measure({"a": [rare(8)], "b": [rare(8, worse=5)]}, GROUPS, ["miou_class", "acc"])
    assert 4 < sample.support["miou_class"].freedom < 12
    assert sample.support["acc"].freedom == 29


def test_one_rare_class_of_many_hardly_matters():
    units = metrics.Units.of(GROUPS)
    assert jackknife.Support.of(units, [30] * 149 + [3]).freedom == 29
    assert jackknife.Support.of(units, [30, 0]).freedom == 29  # a class that no label holds has no part
    assert 4 < jackknife.Support.of(units, [30] * 18 + [2]).freedom < 6


def test_equal_runs_with_a_class_in_few_images_are_rarely_called_different():
    random, wrong, number = np.random.default_rng(5), 0, 300
    for _ in range(number):
        pair = {}
        for name in "ab":
            tp = np.clip(random.normal([80, 50], [2, 20], (30, 2)), 0, 100).astype(np.int64)
            fn = 100 - tp
            tp[6:, 1], fn[6:, 1] = 0, 0
            pair[name] = [metrics.Tables(metrics.Counts(tp, 0 * tp, fn, (tp + fn).sum(1), 0 * tp[:, 0]))]
        wrong += metrics.compare(pair, GROUPS, ["miou_class"])[0].shown
    assert wrong / number <= 0.06 + 3 * math.sqrt(0.05 * 0.95 / number)


def test_the_variance_of_a_group_does_not_depend_on_how_many_are_left_out_at_once():
    random = np.random.default_rng(0)
    made = {}
    for images in (150, 1500):
        tp = random.integers(40, 60, (2, 3, images, 1))
        tables = [
            [metrics.Tables(metrics.Counts(t, 0 * t, 100 - t, 0 * t[:, 0] + 100, 0 * t[:, 0])) for t in run]
            for run in tp
        ]
        sample = measure(dict(zip("ab", tables, strict=True)), [f"{i:04d}" for i in range(images)], ["acc"])
        made[images] = planning.variances(sample, "acc").group
    assert made[1500] == pytest.approx(made[150], rel=0.35)


@pytest.mark.parametrize("networks", [{"b": "a"}, {"b": ""}])
def test_results_of_the_same_networks_and_of_many_have_no_chance_of_training(networks):
    tables = {"a": constant(0.80, 0.85, 0.84), "b": constant(0.70, 0.71, 0.77)}
    (found,) = metrics.compare(tables, NAMES, ["acc"], networks=networks)
    assert found.claim == "networks"
    assert (found.low, found.high) == pytest.approx((found.value, found.value))


@pytest.mark.parametrize("seed", range(3))
def test_the_shared_spread_is_the_residual_of_runs_and_seeds_of_a_plain_loop(seed):
    values = np.random.default_rng(seed).uniform(0.5, 0.9, (5, 3)).round(3)
    sample = measure({f"r{k}": constant(*row) for k, row in enumerate(values)}, NAMES, ["acc"])
    paired = within = 0.0
    for k in range(5):
        for s in range(3):
            of_run, of_seed = values[k].mean(), values[:, s].mean()
            paired += (values[k, s] - of_run - of_seed + values.mean()) ** 2
            within += (values[k, s] - of_run) ** 2
    found = Spread.of(sample, "acc")
    assert (found.value, found.freedom, found.runs) == (pytest.approx(paired / 8), 8, 5)
    found = Spread.of(sample, "acc", paired=False)
    assert (found.value, found.freedom) == (pytest.approx(within / 10), 10)


def test_a_pair_is_judged_by_the_shared_spread_unless_its_own_is_larger():
    random = np.random.default_rng(5)
    values = 0.7 + 0.02 * random.standard_normal((6, 4))
    values[0] = values[1] + 0.05  # differences of the first two do not vary at all
    tables = {f"r{k}": constant(*row.round(3)) for k, row in enumerate(values)}
    sample = measure(tables, NAMES, ["acc"])
    spread = Spread.of(sample, "acc")
    first = differences(sample)[0]
    half = stats.t.ppf(0.975, spread.freedom) * math.sqrt(2 * spread.value / 4)
    assert first.alone[1] - first.alone[0] == pytest.approx(2 * half, rel=1e-3)
    assert first.own[1] - first.own[0] < half / 4
    values[0] += [0.2, -0.2, 0.2, -0.2]
    sample = measure({**tables, "r0": constant(*values[0].round(3))}, NAMES, ["acc"])
    noisy = differences(sample)[0]
    own = (values[0].round(3) - values[1].round(3)).std(ddof=1) / 2
    scaled = error.hedge(3, 15) * own * stats.t.ppf(0.975, 15)
    assert noisy.alone[1] - noisy.alone[0] == pytest.approx(2 * scaled, rel=1e-3)


@pytest.mark.parametrize("own, shared", [(1, 9), (2, 18), (4, 36), (9, 81)])
def test_an_own_spread_counts_more_the_fewer_seeds_it_comes_from(own, shared):
    quotient = stats.t.isf(0.125 / 2, own) / stats.t.isf(0.025, shared)
    assert error.hedge(own, shared) == pytest.approx(max(1.0, quotient))
    assert (error.hedge(own, shared) > 1) == (own < 4)


def test_with_fewer_than_four_runs_each_pair_has_its_own_spread():
    sample = measure({name: constant(0.7, 0.71, shift) for name, shift in zip("abc", (0.7, 0.8, 0.75), strict=True)},
                     NAMES, ["acc"])  # fmt: skip
    assert math.isnan(Spread.of(sample, "acc").value)
    for pair in differences(sample):
        assert pair.alone == pytest.approx(pair.own)


def test_intervals_of_many_pairs_hold_together():
    tables = {f"r{k}": constant(*row) for k, row in enumerate([(0.8, 0.81), (0.7, 0.72), (0.6, 0.64), (0.5, 0.55)])}
    for pair in metrics.compare(tables, NAMES, ["acc"]):
        assert pair.pairs == 6
        wider = stats.t.ppf(1 - 0.025 / 6, 3) / stats.t.ppf(0.975, 3)
        width, alone = (bounds[1] - bounds[0] for bounds in ((pair.low, pair.high), pair.alone))
        assert width == pytest.approx(wider * alone, rel=2e-3)
        assert pair.shown == (pair.low > 0 or pair.high < 0)


def test_three_words_are_read_from_the_interval():
    a, b = constant(0.80, 0.81, 0.80, 0.81), constant(0.80, 0.809, 0.801, 0.81)
    (equal,) = metrics.compare({"a": a, "b": b}, NAMES, ["acc"])
    assert equal.word == "practically equal"
    assert "practically equal, a ahead of b by 0.0 points, 95 % interval -0.1 to +0.1" in equal.verdict
    (strict,) = metrics.compare({"a": a, "b": b}, NAMES, ["acc"], equivalence=0.0)
    assert strict.word == "undecided"
    ahead = replace(equal, low=0.002, high=0.009)
    assert (ahead.word, ahead.shown) == ("practically equal", False)  # real, but it does not matter
    assert replace(ahead, equivalence=0.005).word == "better"
    assert replace(equal, low=None, high=None).word == "undefined"


def test_a_difference_of_a_run_that_lacks_the_score_is_undefined():
    tables = {"a": [metrics.Tables(table(1))], "b": [metrics.Tables(table(2))]}
    with pytest.raises(ValueError, match="no run has the score 'nll_dataset'"):
        metrics.compare(tables, GROUPS, ["nll_dataset"])


@pytest.mark.parametrize("name", ["miou_image_q20", "macc_class_q33.3", "share_iou_ge_0.9", "share_iou_ge_0.25_class"])
def test_any_quantile_or_threshold_can_be_compared(name):
    (found,) = metrics.compare(runs(0.9, 0.6), GROUPS, [name])
    options = {"quantiles": (20, 33.3), "thresholds": (0.9, 0.25)}
    both = [metrics.summarize(seeds[0].counts, **options)[name] for seeds in runs(0.9, 0.6).values()]
    assert found.value == pytest.approx(both[0] - both[1])


def test_named_scores_are_the_same_as_all_of_them():
    counts, weights = table(2), np.random.default_rng(1).multinomial(30, np.ones(30) / 30, 5)
    everything = metrics.weighted(counts, weights)
    for name, values in everything.items():
        alone = metrics.weighted(counts, weights, names=[name])
        assert list(alone) == [name]
        assert np.array_equal(alone[name], values, equal_nan=True)


def test_quantiles_and_thresholds_out_of_range_are_refused():
    for options in ({"quantiles": (0,)}, {"quantiles": (150,)}, {"thresholds": (1.5,)}):
        with pytest.raises(ValueError, match="wanted in"):
            metrics.summarize(table(0), **options)


def test_lower_is_better_for_calibration_errors():
    probs = np.random.default_rng(0).dirichlet(np.ones(C), (20, 4, 4)).transpose(0, 3, 1, 2)
    target = probs.argmax(1)
    worse = np.full_like(probs, 1 / C)
    made = {}
    for name, p in (("sure", probs), ("vague", worse)):
        collected = metrics.Calibration(C)
        for image, true in zip(p, target, strict=True):
            collected.add(image, true)
        made[name] = [metrics.Tables(metrics.count(p.argmax(1), target, C), collected.table())]
    (found,) = metrics.compare(made, NAMES, ["nll_dataset"])
    assert found.value < 0
    assert found.verdict.startswith("NLL^D, these networks: sure is better than vague by ")


def test_holm_multiplies_the_smallest_most_and_never_decreases():
    assert comparison.holm([0.01, 0.03, 0.02, None]) == pytest.approx([3 * 0.01, 0.04, 2 * 0.02, None])
    assert comparison.holm([0.5, 0.6]) == [1.0, 1.0]
    assert comparison.holm([]) == []


def test_tables_that_do_not_fit_are_refused():
    a, b = metrics.Tables(table(0)), metrics.Tables(table(0, images=20))
    with pytest.raises(ValueError, match="20 images"):
        metrics.compare({"a": [a], "b": [b]}, GROUPS, ["acc"])
    with pytest.raises(ValueError, match="no run has the score 'mioo'"):
        metrics.compare({"a": [a], "b": [a]}, GROUPS, ["mioo"])
    with pytest.raises(ValueError, match="at least two"):
        metrics.compare({"a": [a]}, GROUPS, ["acc"])
    with pytest.raises(ValueError, match="b has no seed"):
        metrics.compare({"a": [a], "b": []}, GROUPS, ["acc"])
    assert differences(measure({"a": [a]}, GROUPS, ["acc"])) == []
    other = metrics.count(np.zeros((30, 1, 1), int), np.zeros((30, 1, 1), int), 5)
    with pytest.raises(ValueError, match="class"):
        metrics.compare({"a": [a], "b": [metrics.Tables(other)]}, GROUPS, ["acc"])


def test_every_score_can_be_compared_and_a_name_is_as_papers_write_it():
    for name in metrics.names():
        assert naming.pretty(name)
    assert naming.pretty("mdice_image") == "mDice^I"
    assert naming.pretty(naming.foreign("HD95")) == "HD95 (lower is better)"
    assert naming.scale(naming.foreign("miou")) == (1.0, "")
    assert naming.limits(naming.foreign("miou")) == (-math.inf, math.inf)
