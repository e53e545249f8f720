"""`segpipe recommend`: the best for a goal, how often it is the best, and what would make that surer."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from segpipe.metrics.bootstrap import Tables
from segpipe.metrics.counts import Counts
from segpipe.report import failures, judgement
from segpipe.report.advice import GOALS, advise, words
from segpipe.report.judgement import Judgement, judge, ranking_table, sentence

from conftest import segpipe, segpipe_here

IMAGES = 12


def tables(correct, seed):
    """Two classes of 100 pixels each; `correct` of them right on average, by image."""
    right = np.clip(np.random.default_rng(seed).normal(correct, 4, (IMAGES, 2)).round(), 0, 100).astype(np.int64)
    wrong = 100 - right
    full = np.full(IMAGES, 200)
    return Tables(Counts(right, wrong[:, ::-1].copy(), wrong, full, 0 * full))


def kinds(judged):
    """Of results by the way they are called."""
    endings = {"ensemble": "ensemble", " + CRF": "crf"}
    return {name: next((kind for part, kind in endings.items() if part in name), "run") for name in judged.scores}


def judged_of(monkeypatch, runs):
    """As `judge`, from tables instead of files."""
    from segpipe.report import judgement

    groups = [f"g{i}" for i in range(IMAGES)]
    monkeypatch.setattr(judgement, "read_runs", lambda *_: (runs, groups))
    found = judge(dict.fromkeys(runs, ()), ["miou_dataset"])
    assert isinstance(found, Judgement)
    return found, groups


def test_the_best_is_taken_and_its_share_of_resamples_told(monkeypatch):
    runs = {"good": [tables(90, 0), tables(90, 1)], "bad": [tables(70, 2), tables(70, 3)]}
    judged, _ = judged_of(monkeypatch, runs)
    found = advise("D", judged, {}, [], kinds(judged))
    assert (found.take, found.best, found.ties, found.shares) == ("good", "good", [], {"good": 1.0, "bad": 0.0})
    assert words(found, judged)[-1] == ("shown", "good is better than all others")


def test_shares_are_those_of_a_plain_loop(monkeypatch):
    runs = {"a": [tables(80, 0), tables(82, 1)], "b": [tables(81, 2), tables(81, 3)], "c": [tables(75, 4)] * 2}
    judged, groups = judged_of(monkeypatch, runs)
    found = advise("D", judged, {}, [], kinds(judged))
    from segpipe.metrics.bootstrap import Resampling, resampled

    resampling = Resampling.of(groups, judged.resamples)
    drawn = {name: resampled(seeds, resampling, ["miou_dataset"])["miou_dataset"] for name, seeds in runs.items()}
    wins = dict.fromkeys(runs, 0)
    for r in range(judged.resamples):
        wins[max(runs, key=lambda name: drawn[name][r])] += 1
    assert found.shares == {name: pytest.approx(n / judged.resamples) for name, n in wins.items()}
    assert sum(found.shares.values()) == pytest.approx(1)


def test_equal_results_are_told_as_one(monkeypatch):
    same = [tables(80, 0), tables(82, 1)]
    judged, _ = judged_of(monkeypatch, {"a": same, "b": same, "c": [tables(50, 4)] * 2})
    found = advise("D", judged, {}, [], kinds(judged))
    assert found.shares == {"a": 1.0, "b": 1.0, "c": 0.0}
    assert (found.same, found.ties, found.next) == (["b"], [], [])
    told = dict(words(found, judged))
    assert told["how sure"].startswith("best in 100 % of 1000 resamples")
    assert told["the same"] == "b: the mIoU^D of a in every resample"
    assert told["shown"] == "a is better than all the rest"
    assert "is better than all the rest" in sentence(judged, "miou_dataset")
    assert "The same mIoU^D as a in every resample: b." in sentence(judged, "miou_dataset")
    rows = {row.split("|")[1].strip(): row for row in ranking_table(judged, "miou_dataset").markdown().splitlines()[2:]}
    assert "the same numbers" in rows["b"]
    assert rows["b"].split("|")[2].strip() == "1="
    assert "worse" in rows["c"]


def test_nothing_is_better_than_a_rest_that_is_not_there(monkeypatch):
    same = [tables(80, 0), tables(82, 1)]
    judged, _ = judged_of(monkeypatch, {"a": same, "b": same})
    assert "shown" not in dict(words(advise("D", judged, {}, [], kinds(judged)), judged))
    assert sentence(judged, "miou_dataset") == "The same mIoU^D as a in every resample: b."


def test_a_difference_that_is_undefined_is_not_shown(monkeypatch):
    judged, _ = judged_of(monkeypatch, {"a": [tables(90, 0)] * 2, "b": [tables(50, 2)] * 2})
    (pair,) = judged.differences
    assert pair.shown
    drawn = {**judged.drawn, "b": {"miou_dataset": np.full(judged.resamples, np.nan)}}
    judged = replace(judged, differences=[replace(pair, low=None, high=None, p=None, p_holm=None)], drawn=drawn)
    told = dict(words(advise("D", judged, {}, [], kinds(judged)), judged))
    assert "shown" not in told
    assert told["undefined"] == "the difference to b, in most resamples"
    assert sentence(judged, "miou_dataset") == "The difference to b is undefined in most resamples."
    both = replace(judged, drawn=dict.fromkeys(("a", "b"), drawn["b"]))
    assert both.standing("miou_dataset").undefined == ["b"]
    assert advise("D", both, {}, [], kinds(both)).shares == {"a": 0.0, "b": 0.0}


def test_what_is_better_is_named_beside_what_is_undefined(monkeypatch):
    judged, _ = judged_of(monkeypatch, {"a": [tables(90, 0)] * 2, "b": [tables(50, 2)] * 2, "c": [tables(40, 4)] * 2})
    pairs = [replace(d, low=None, high=None, p=None, p_holm=None) if "c" in (d.first, d.second) else d
             for d in judged.differences]  # fmt: skip
    judged = replace(judged, differences=pairs)
    assert dict(words(advise("D", judged, {}, [], kinds(judged)), judged))["shown"] == "a is better than b"


def test_many_ties_are_counted_and_none_that_is_the_same_is_studied_further(monkeypatch):
    runs = {f"r{i}": [tables(80, 2 * i), tables(80, 2 * i + 1)] for i in range(12)}
    judged, _ = judged_of(monkeypatch, runs)
    best, *_, last = judged.order("miou_dataset")
    judged, _ = judged_of(monkeypatch, {**runs, "twin": runs[best], "other": runs[last]})
    found = advise("D", judged, {}, [], kinds(judged))
    assert found.same == ["twin"]
    assert found.ties[0] in found.next[0]
    assert "twin" not in found.next[0]
    told = dict(words(found, judged))[f"not shown to differ from {best}"]
    assert told.count("best in") == 6
    assert told.endswith(" more")
    grouped = dict(words(replace(found, ties=[last, "other"]), judged))[f"not shown to differ from {best}"]
    assert grouped == f"{last} = other (best in {100 * found.shares[last]:.0f} %)"
    assert found.shares[last] == found.shares["other"]


def test_what_it_takes_to_be_surer_is_corrected_for_the_number_of_pairs(monkeypatch):
    from statistics import NormalDist

    runs = {
        name: [tables(80 + step, seed), tables(80 + step, seed + 10)]
        for seed, (name, step) in enumerate([("a", 0), ("b", 0.6), ("c", 1.2), ("d", 1.8)])
    }
    judged, _ = judged_of(monkeypatch, runs)
    found = advise("D", judged, {}, [], kinds(judged))
    best, near = found.best, found.ties[0]
    gap = judged.scores[best]["miou_dataset"] - judged.scores[near]["miou_dataset"]
    error = np.std(judged.drawn[best]["miou_dataset"] - judged.drawn[near]["miou_dataset"])
    times = (NormalDist().inv_cdf(1 - 0.05 / 2 / 6) * error / gap) ** 2
    step = found.next[0]
    if times > 25:
        assert step.startswith("nothing more")
    elif times > 1.2:
        assert f"about {times:.1f} times" in step
    else:
        assert step.startswith("compare ")


def test_speed_takes_the_cheapest_that_is_not_shown_to_be_worse(monkeypatch):
    runs = {"a": [tables(80, 0), tables(80, 1)], "b": [tables(80, 2), tables(80, 3)], "c": [tables(40, 4)] * 2}
    judged, _ = judged_of(monkeypatch, runs)
    cost = {"a": 5.0, "b": 5.0, "c": 1.0}
    cheap = next(name for name in ("a", "b") if name != judged.order("miou_dataset")[0])
    found = advise("speed", judged, {**cost, cheap: 2.0}, [], kinds(judged))
    assert found.take == cheap
    assert "the cheapest that is not shown to be worse than the best" in words(found, judged)[0][1]
    sure = dict(words(found, judged))["how sure"]
    assert sure.startswith(f"best in {100 * found.shares[cheap]:.0f} % of")
    assert sure.endswith(f"; {found.best} in {100 * found.shares[found.best]:.0f} %")


@pytest.mark.parametrize("known", [{}, {"ensemble: average": 8.0}])
def test_speed_takes_the_best_where_costs_are_unknown_and_says_so(monkeypatch, known):
    runs = {"a": [tables(80, 0), tables(80, 1)], "ensemble: average": [tables(80, 2), tables(80, 3)]}
    judged, _ = judged_of(monkeypatch, runs)
    found = advise("speed", judged, known, [], kinds(judged))
    assert found.take == judged.order("miou_dataset")[0]
    told = words(found, judged)[0][1]
    assert "which is the cheapest is not known without the predictions of" in told
    assert "(`segpipe predict`)" in told


def test_one_seed_and_close_results_say_what_to_run_next(monkeypatch):
    runs = {"a": [tables(80, 0)], "b": [tables(80, 2)]}
    judged, _ = judged_of(monkeypatch, runs)
    steps = advise("D", judged, {}, ["a CRF"], kinds(judged)).next
    assert "more seeds (params.yaml): a, b have one" in steps[0]
    assert steps[1].startswith(("to tell", "nothing more for"))
    assert steps[-1] == "a CRF"


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_has_an_answer_from_real_results(finished, goal):
    lines = segpipe_here("recommend", "--goal", goal, cwd=finished).stdout.splitlines()
    assert lines[0].startswith("take ")
    assert lines[1].startswith("how sure: ")
    found = json.loads(segpipe_here("recommend", "--goal", goal, "--json", cwd=finished).stdout)
    assert found["take"] in lines[0]
    assert found["metric"] == GOALS[goal]


def test_a_wrong_goal_and_missing_results_are_one_line(finished, tmp_path):
    done = segpipe_here("recommend", "--goal", "E", cwd=finished, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    segpipe("init", "scenes", "--profile", "tiny", "--into", tmp_path / "w", cwd=tmp_path)
    done = segpipe_here("recommend", cwd=tmp_path / "w", check=False)
    assert done.returncode == 3
    assert "run `segpipe evaluate" in done.stderr


def test_ranks_are_those_of_a_plain_loop_over_groups(monkeypatch):
    from segpipe.report import judgement

    runs = {"a": [tables(80, 0), tables(82, 1)], "b": [tables(81, 2), tables(79, 3)], "c": [tables(75, 4)] * 2}
    groups = [f"g{i % 11}" for i in range(IMAGES)]  # one group of two images
    monkeypatch.setattr(judgement, "read_runs", lambda *_: (runs, groups))
    found = judge(dict.fromkeys(runs, ()), ["miou_dataset"]).rankings["miou_dataset"]
    sums = dict.fromkeys(runs, 0.0)
    for group in sorted(set(groups)):
        scores = {}
        for name, seeds in runs.items():
            each = []
            for one in seeds:
                ious = []
                for k in range(2):
                    rows = [i for i in range(IMAGES) if groups[i] == group]
                    tp, fp, fn = (
                        sum(int(part[i, k]) for i in rows) for part in (one.counts.tp, one.counts.fp, one.counts.fn)
                    )
                    ious.append(tp / (tp + fp + fn))
                each.append(sum(ious) / 2)
            scores[name] = sum(each) / len(each)
        for name, score in scores.items():
            better = sum(other > score for other in scores.values())
            equal = sum(other == score for other in scores.values())
            sums[name] += better + (equal + 1) / 2
    assert found.ranks == {name: pytest.approx(total / 11) for name, total in sums.items()}
    assert found.units == 11


def test_the_lowest_calibration_error_ranks_first(monkeypatch):
    from segpipe.metrics.confidence import Bins
    from segpipe.report import judgement

    counts = tables(80, 0).counts

    def with_nll(value):
        pixels = np.full((IMAGES, 1), 200)
        nothing = np.zeros(IMAGES)
        return Tables(counts, Bins(pixels, pixels * 0.9, pixels, value * nothing + value, nothing, nothing, nothing))

    runs = {"high": [with_nll(50.0)], "low": [with_nll(10.0)]}
    monkeypatch.setattr(judgement, "read_runs", lambda *_: (runs, [f"g{i}" for i in range(IMAGES)]))
    found = judge(dict.fromkeys(runs, ()), ["nll_dataset"])
    assert found.rankings["nll_dataset"].ranks == {"high": 2.0, "low": 1.0}
    assert found.order("nll_dataset") == ["low", "high"]


@pytest.mark.parametrize(("metric", "sign"), [("miou_dataset", 1), ("ece_dataset", -1), ("nll_dataset", -1)])
def test_whoever_is_behind_the_best_is_behind_by_a_positive_number(metric, sign):
    difference = SimpleNamespace(metric=metric, first="a", second="b")
    assert judgement._behind(difference, "a", sign * 0.25) == 0.25
    assert judgement._behind(difference, "b", -sign * 0.25) == 0.25


def test_an_image_fails_under_all_runs_when_the_best_of_them_fails():
    """IoU is right / (200 - right): run a 0.82 and 0.11, run b 0.05 and 0.18."""
    runs = {}
    for name, right in (("a", [90, 20]), ("b", [10, 30])):
        right = np.repeat(np.array(right)[:, None], 2, 1)
        full = np.full(2, 200)
        runs[name] = [Tables(Counts(right, 100 - right, 100 - right, full, 0 * full))]
    audited = SimpleNamespace(
        entries={name: SimpleNamespace(kind="run", folders=[None]) for name in runs},
        runs=runs,
        rows=[SimpleNamespace(id="first"), SimpleNamespace(id="second")],
        labels=lambda *_: np.zeros((4, 4), np.uint8),
        target=lambda _: np.ones((4, 4), np.uint8),
        panels=lambda *_: [],
    )
    part = failures.common_failures(audited, 5, 0.5)
    assert part.text.startswith("1 of 2 images")
    assert [(case.image, case.note[:19]) for case in part.cases] == [("second", "best mean IoU 0.176")]
