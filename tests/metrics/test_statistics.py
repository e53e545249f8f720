"""Intervals, paired tests, rankings: against the table written out, scipy, published numbers and by hand."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from segpipe import metrics
from segpipe.metrics import bootstrap, comparison
from segpipe.metrics.comparison import differences, draw

import plain

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


def test_groups_are_drawn_whole_and_few_groups_fall_back_to_images():
    many = [f"g{i // 2}" for i in range(24)]
    drawn = metrics.Resampling.of(many, 50)
    assert (drawn.unit, drawn.units) == ("group", 12)
    assert (drawn.weights[:, ::2] == drawn.weights[:, 1::2]).all()
    assert (drawn.weights.sum(1) == 24).all()
    few = metrics.Resampling.of(["a"] * 12 + ["b"] * 12, 50)
    assert (few.unit, few.units) == ("image", 24)
    with pytest.raises(ValueError, match="no image"):
        metrics.Resampling.of([], 50)


def test_the_interval_of_a_mean_has_the_width_that_theory_gives():
    # One class, one pixel an image: acc is a mean of n coin flips with sd sqrt(p (1 - p) / n).
    n = 400
    hit = (np.arange(n) < 300).astype(np.int64)
    none = np.zeros((n, 2), np.int64)
    tp, fn = none.copy(), none.copy()
    tp[:, 0], fn[:, 0] = hit, 1 - hit
    counts = metrics.Counts(tp, none, fn, np.ones(n, np.int64), np.zeros(n, np.int64))
    drawn = metrics.Resampling.of([str(i) for i in range(n)], 4000)
    low, high = bootstrap.interval(metrics.resampled([metrics.Tables(counts)], drawn, ["acc"])["acc"])
    sd = math.sqrt(0.75 * 0.25 / n)
    assert (low + high) / 2 == pytest.approx(0.75, abs=0.005)
    assert (high - low) / (2 * 1.96 * sd) == pytest.approx(1, abs=0.06)


def test_a_class_missing_from_resamples_is_left_out_and_counted():
    one = np.zeros((12, 2), np.int64)
    tp = one.copy()
    tp[:, 0], tp[0, 1] = 5, 5  # class 1 stands in a single image
    counts = metrics.Counts(tp, one, one, tp.sum(1), one[:, 0])
    drawn = metrics.Resampling.of([str(i) for i in range(12)], 500)
    scores = metrics.weighted(counts[[0]], np.zeros((1, 1)))
    assert math.isnan(scores["miou_dataset"][0])
    found = metrics.intervals(metrics.resampled([metrics.Tables(counts)], drawn, ["miou_class"]), ["miou_class"])
    assert found["miou_class"] == {"low": 1.0, "high": 1.0, "undefined": 0}


def test_an_interval_of_mostly_undefined_resamples_is_none():
    assert bootstrap.interval(np.array([np.nan, np.nan, 0.5])) is None
    assert metrics.intervals({"acc": np.full(5, np.nan)}, ["acc"]) == {"acc": None}


def runs(*skills, seeds=1):
    return {f"r{i}": [metrics.Tables(table(10, skill=s)) for _ in range(seeds)] for i, s in enumerate(skills)}


GROUPS = [str(i) for i in range(30)]


def test_a_run_against_itself_is_a_tie_and_a_far_better_one_is_shown():
    same, better = runs(0.6, 0.6), runs(0.9, 0.4)
    (tie,) = metrics.compare(same, GROUPS, ["miou_dataset"])
    assert (tie.value, tie.low, tie.high, tie.p, tie.shown) == (0, 0, 0, 1, False)
    assert tie.p_wilcoxon is None
    assert "no difference shown between r0 and r1" in tie.verdict
    (shown,) = metrics.compare(better, GROUPS, ["miou_class"])
    assert shown.shown
    assert shown.low > 0
    assert shown.verdict.startswith("mIoU^C: r0 is better than r1 by ")
    (turned,) = metrics.compare(dict(reversed(better.items())), GROUPS, ["miou_class"])
    assert turned.verdict == shown.verdict
    assert turned.value == -shown.value


def test_a_pair_is_resampled_together():
    # Images differ a lot, runs by a constant: the paired interval is narrow where the separate ones are wide.
    a, b = table(3, skill=0.7), table(3, skill=0.7)
    worse = metrics.Counts(b.tp - (b.tp > 0), b.fp, b.fn + (b.tp > 0), b.valid, b.rejected)
    (found,) = metrics.compare({"a": [metrics.Tables(a)], "b": [metrics.Tables(worse)]}, GROUPS, ["miou_dataset"])
    drawn = metrics.Resampling.of(GROUPS)
    low, high = bootstrap.interval(metrics.resampled([metrics.Tables(a)], drawn, ["miou_dataset"])["miou_dataset"])
    assert found.high - found.low < (high - low) / 2
    assert found.shown


def test_a_clear_winner_is_shown_among_many_runs():
    # Holm over 66 pairs: 1000 resamples could give no p below 66 * 2 / 1001 = .13.
    many = runs(0.95, *[0.5] * 11)
    found = [d for d in metrics.compare(many, GROUPS, ["miou_dataset"]) if "r0" in (d.first, d.second)]
    assert len(found) == 11
    assert all(d.shown for d in found)
    assert comparison.enough(1000, 12) == 66 * 4 / 0.05


def test_a_handful_of_images_shows_nothing():
    few = {name: [metrics.Tables(t.counts[[0, 2, 3, 4]]) for t in seeds] for name, seeds in runs(0.99, 0.1).items()}
    (found,) = metrics.compare(few, GROUPS[:4], ["miou_dataset"])
    assert not found.shown
    assert "4 images are too few to tell r0 and r1 apart" in found.verdict


def test_images_of_few_groups_come_with_a_caution():
    assert "3 groups are too few" in metrics.Resampling.of([f"g{i // 10}" for i in range(30)]).caution
    assert metrics.Resampling.of(GROUPS).caution == ""
    assert metrics.Resampling.of([f"g{i // 2}" for i in range(30)]).caution == ""


@pytest.mark.parametrize("name", ["miou_image_q10", "macc_class_q33.3", "share_iou_ge_0.9", "share_iou_ge_0.25_class"])
def test_any_quantile_or_threshold_can_be_compared(name):
    (found,) = metrics.compare(runs(0.9, 0.6), GROUPS, [name])
    both = [metrics.weighted(seeds[0].counts, np.ones((1, 30)), quantiles=(10, 33.3), thresholds=(0.9, 0.25))[name][0]
            for seeds in runs(0.9, 0.6).values()]  # fmt: skip
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


def test_seeds_that_differ_widen_the_interval():
    calm = {"a": [metrics.Tables(table(1, skill=0.7))] * 3, "b": [metrics.Tables(table(1, skill=0.5))] * 3}
    noisy = dict(calm, a=[metrics.Tables(table(1, skill=s)) for s in (0.4, 0.7, 0.99)])
    widths = []
    for chosen in (calm, noisy):
        (found,) = metrics.compare(chosen, GROUPS, ["miou_dataset"])
        assert found.seeds == (3, 3)
        widths.append(found.high - found.low)
    assert widths[1] > 2 * widths[0]


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
    (found,) = metrics.compare(made, [str(i) for i in range(20)], ["nll_dataset"])
    assert found.value < 0
    assert found.verdict.startswith("NLL^D: sure is better than vague by ")


def test_bootstrap_p_counts_resamples_on_the_other_side():
    # 3 of 99 are at or below 0: 2 (3 + 1) / 100.
    assert comparison.bootstrap_p(np.array([-1.0] * 3 + [1.0] * 96)) == pytest.approx(0.08)
    assert comparison.bootstrap_p(np.zeros(9)) == 1
    assert comparison.bootstrap_p(np.array([np.nan])) is None


def test_wilcoxon_is_exact_for_few_pairs():
    # 5 positive differences without ties: 2 of the 2^5 sign patterns are as extreme.
    a = np.array([1.0, 2.0, 3.5, 4.2, 5.9])
    assert comparison.wilcoxon(a, np.zeros(5)) == pytest.approx(2 / 2**5)
    signs = list(product((0, 1), repeat=6))
    d = np.array([1.0, -2.0, 3.0, 4.0, 5.0, 6.0])
    smaller = min(sum(i + 1 for i in range(6) if d[i] > 0), sum(i + 1 for i in range(6) if d[i] < 0))
    extreme = sum(sum(i + 1 for i in range(6) if s[i]) <= smaller for s in signs)
    assert comparison.wilcoxon(d, np.zeros(6)) == pytest.approx(2 * extreme / 2**6)


def test_wilcoxon_drops_zeros_and_undefined_pairs():
    a = np.array([1.0, 2.0, 3.5, 4.2, 5.9, 0.0, np.nan])
    assert comparison.wilcoxon(a, np.zeros(7)) == pytest.approx(2 / 2**5)
    assert comparison.wilcoxon(np.zeros(3), np.zeros(3)) is None


def test_wilcoxon_of_many_or_tied_pairs_is_normal_with_tie_correction():
    random = np.random.default_rng(0)
    d = random.normal(0.2, 1, 80)
    assert comparison.wilcoxon(d, np.zeros(80)) == pytest.approx(stats.wilcoxon(d, method="asymptotic").pvalue)
    tied = np.array([1.0, 1.0, -1.0, 2.0, 3.0, 3.0])
    assert comparison.wilcoxon(tied, np.zeros(6)) == pytest.approx(stats.wilcoxon(tied, method="asymptotic").pvalue)


def test_holm_multiplies_the_smallest_most_and_never_decreases():
    assert comparison.holm([0.01, 0.03, 0.02, None]) == pytest.approx([3 * 0.01, 0.04, 2 * 0.02, None])
    assert comparison.holm([0.5, 0.6]) == [1.0, 1.0]
    assert comparison.holm([]) == []


def test_friedman_and_nemenyi_equal_a_published_example():
    # Demsar 2006 (JMLR 7), table 6: AUC of C4.5 and three variants on 14 data sets; section 3.2.2 gives
    # average ranks 3.143, 2.000, 2.893, 1.964, and a critical difference of 1.25 at 0.05 (1.15 at 0.10).
    c45 = [.763, .599, .954, .628, .882, .936, .661, .583, .775, 1.000, .940, .619, .972, .957]  # fmt: skip
    m = [.768, .591, .971, .661, .888, .931, .668, .583, .838, 1.000, .962, .666, .981, .978]  # fmt: skip
    cf = [.771, .590, .968, .654, .886, .916, .609, .563, .866, 1.000, .965, .614, .9751, .946]  # fmt: skip
    both = [.798, .569, .967, .657, .898, .931, .685, .625, .875, 1.000, .962, .669, .975, .970]  # fmt: skip
    found = metrics.rank({n: np.array(v) for n, v in (("c45", c45), ("m", m), ("cf", cf), ("both", both))})
    assert [round(r, 3) for r in found.ranks.values()] == [3.143, 2.0, 2.893, 1.964]
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert metrics.rank({"a": np.array(c45), "b": np.array(m)}).p is None
    assert 0.01 < found.p < 0.05
    assert found.cliques() == [("both", "m", "cf", "c45")]  # 3.143 - 1.964 = 1.179 is within 1.25


@pytest.mark.parametrize("k, q", [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_uses_the_studentised_range(k, q):
    values = {str(i): np.random.default_rng(i).random(20) for i in range(k)}
    assert metrics.rank(values).critical_difference == pytest.approx(q * math.sqrt(k * (k + 1) / 120), rel=1e-3)


def test_cliques_join_runs_within_the_critical_difference():
    ranking = comparison.Ranking({"a": 1.0, "b": 1.5, "c": 2.2, "d": 4.0}, None, 1.0, 9)
    assert ranking.cliques() == [("a", "b"), ("b", "c")]


def test_ranks_leave_out_units_that_a_run_does_not_define():
    found = metrics.rank({"a": np.array([1.0, np.nan, 3.0]), "b": np.array([0.5, 1.0, 4.0])})
    assert found.units == 2
    assert found.ranks == {"a": 1.5, "b": 1.5}
    same = {name: np.full(4, 0.5) for name in "abc"}
    assert metrics.rank(same).p is None
    with pytest.raises(ValueError, match="wanted two runs"):
        metrics.rank({"a": np.ones(3)})


def test_tables_that_do_not_fit_are_refused():
    a, b = metrics.Tables(table(0)), metrics.Tables(table(0, images=20))
    with pytest.raises(ValueError, match="20 images"):
        metrics.compare({"a": [a], "b": [b]}, GROUPS, ["acc"])
    with pytest.raises(ValueError, match="no run has the score 'mioo'"):
        metrics.compare({"a": [a], "b": [a]}, GROUPS, ["mioo"])
    with pytest.raises(ValueError, match="at least two"):
        metrics.compare({"a": [a]}, GROUPS, ["acc"])
    assert differences(draw({"a": [a]}, GROUPS, ["acc"])) == []
    other = metrics.count(np.zeros((30, 1, 1), int), np.zeros((30, 1, 1), int), 5)
    with pytest.raises(ValueError, match="class"):
        metrics.compare({"a": [a], "b": [metrics.Tables(other)]}, GROUPS, ["acc"])


def test_every_score_can_be_compared_and_a_name_is_as_papers_write_it():
    for name in metrics.names():
        assert comparison.pretty(name)
    assert comparison.pretty("mdice_image") == "mDice^I"
    assert plain.mean([1, None]) == 1
