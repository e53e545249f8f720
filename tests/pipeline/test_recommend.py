"""`segpipe recommend`: the best for a goal, how sure that is, and what would make that surer."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from segpipe.cli.recommend import recommend
from segpipe.metrics.comparison import Difference
from segpipe.metrics.counts import Counts
from segpipe.metrics.jackknife import Tables
from segpipe.report import failures
from segpipe.report.advice import GOALS, advise, words
from segpipe.report.judgement import Judgement, behind, judge_tables, ranking_table, sentence
from segpipe.report.results import Entry
from segpipe.report.runs import networks_of

from conftest import segpipe, segpipe_here

IMAGES = 12
NAMES = ["sky", "road", "car"]


def tables(correct, seed, images=IMAGES):
    """Two classes of 100 pixels each; `correct` of them right on average, by image."""
    right = np.clip(np.random.default_rng(seed).normal(correct, 4, (images, 2)).round(), 0, 100).astype(np.int64)
    wrong = 100 - right
    full = np.full(images, 200)
    return Tables(Counts(right, wrong[:, ::-1].copy(), wrong, full, 0 * full))


def kinds(judged):
    """Of results by the way they are called."""
    endings = {"ensemble": "ensemble", " + CRF": "crf"}
    return {name: next((kind for part, kind in endings.items() if part in name), "run") for name in judged.scores}


def judged_of(runs, images=IMAGES):
    """All runs by the order of their seeds, every image its own group."""
    by_seed = {name: {str(i): one for i, one in enumerate(seeds)} for name, seeds in runs.items()}
    made_of = {name: networks_of(name) for name in runs}
    found = judge_tables(by_seed, [f"g{i}" for i in range(images)], ["miou_dataset"], networks=made_of)
    assert isinstance(found, Judgement)
    return found


def test_the_best_is_taken_and_how_probably_it_is_the_best_is_told():
    runs = {"good": [tables(90, 0), tables(90, 1)], "bad": [tables(50, 2), tables(50, 3)]}
    judged = judged_of(runs)
    found = advise("D", judged, {}, [], kinds(judged))
    assert (found.take, found.best, found.ties) == ("good", "good", [])
    assert found.shares["good"] > 0.99
    assert words(found, judged)[-1] == ("shown, these methods", "good is better than all others")


def test_equal_results_are_told_as_one():
    same = [tables(80, 0), tables(82, 1)]
    judged = judged_of({"a": same, "b": same, "c": [tables(30, 4), tables(31, 5)]})
    found = advise("D", judged, {}, [], kinds(judged))
    assert found.shares["a"] == found.shares["b"] > 0.9
    assert (found.same, found.ties, found.next) == (["b"], [], [])
    told = dict(words(found, judged))
    assert told["how sure"].startswith("the best with probability ")
    assert told["the same"] == "b: the mIoU^D of a, image by image"
    assert told["shown, these methods"] == "a is better than all the rest"
    assert "a is better than all the rest" in sentence(judged, "miou_dataset")
    assert "The same mIoU^D as a: b." in sentence(judged, "miou_dataset")
    rows = {row.split("|")[1].strip(): row for row in ranking_table(judged, "miou_dataset").markdown().splitlines()[2:]}
    assert "the same numbers" in rows["b"]
    assert rows["b"].split("|")[2].strip() == "1="
    assert "worse" in rows["c"]


def test_nothing_is_better_than_a_rest_that_is_not_there():
    same = [tables(80, 0), tables(82, 1)]
    judged = judged_of({"a": same, "b": same})
    assert not [
        heading for heading, _ in words(advise("D", judged, {}, [], kinds(judged)), judged) if "shown" in heading
    ]
    assert sentence(judged, "miou_dataset") == "The same mIoU^D as a: b."


def test_a_difference_that_is_undefined_is_not_shown():
    judged = judged_of({"a": [tables(90, 0), tables(90, 1)], "b": [tables(50, 2), tables(50, 3)]})
    (pair,) = judged.differences
    assert pair.shown
    judged = replace(judged, differences=[replace(pair, low=None, high=None, p=None, p_holm=None)])
    told = dict(words(advise("D", judged, {}, [], kinds(judged)), judged))
    assert told["undefined"] == "the difference to b"
    assert sentence(judged, "miou_dataset") == "The difference to b is undefined."
    assert judged.standing("miou_dataset").undefined == ["b"]


def test_what_is_better_is_named_beside_what_is_undefined():
    judged = judged_of({n: [tables(c, s), tables(c, s + 1)] for n, c, s in (("a", 90, 0), ("b", 40, 2), ("c", 30, 4))})
    pairs = [replace(d, low=None, high=None, p=None, p_holm=None) if "c" in (d.first, d.second) else d
             for d in judged.differences]  # fmt: skip
    judged = replace(judged, differences=pairs)
    told = dict(words(advise("D", judged, {}, [], kinds(judged)), judged))
    assert told["shown, these methods"] == "a is better than b"


def test_ties_are_said_first_and_counted():
    runs = {f"r{i:02d}": [tables(80, 2 * i), tables(80, 2 * i + 1)] for i in range(12)}
    best = judged_of(runs).order("miou_dataset")[0]
    judged = judged_of({**runs, "twin": runs[best]})
    found = advise("D", judged, {}, [], kinds(judged))
    assert found.same == ["twin"]
    told = words(found, judged)
    assert told[0][0] == "undecided"
    assert told[0][1].startswith("13 results lead in mIoU^D and cannot be told apart: ")
    assert told[0][1].endswith(" and 7 more. Choose by something else, such as cost.")
    listed = dict(told)[f"tied with {best}"]
    assert listed.count("best with probability") == 6
    assert found.ties[0] in found.next[0] or "seeds" in found.next[0]
    assert "twin" not in found.next[0]


def test_what_is_practically_equal_is_said_to_be():
    nearly = [[tables(80, s, 400) for s in (0, 1, 2, 3)] for _ in range(2)]
    moved = [Tables(Counts(t.counts.tp - 1 * (np.arange(400)[:, None] == i), t.counts.fp, t.counts.fn, t.counts.valid,
                           t.counts.rejected)) for i, t in enumerate(nearly[1])]  # fmt: skip
    judged = judged_of({"a": nearly[0], "b": moved}, 400)
    assert judged.standing("miou_dataset").equal == ["b"]
    assert sentence(judged, "miou_dataset").startswith("Two results lead in mIoU^D and are practically equal: a, b.")


def test_few_images_and_one_seed_recommend_nothing():
    judged = judged_of({"a": [tables(90, 0)], "b": [tables(50, 1)]})
    found = advise("D", judged, {}, [], kinds(judged))
    assert (found.take, found.best) == ("", "a")
    assert words(found, judged)[0] == ("take nothing yet", "12 images with one seed per run are too few to choose from")
    many = judged_of({"a": [tables(90, 0, 40)], "b": [tables(50, 1, 40)]}, 40)
    found = advise("D", many, {}, [], kinds(many))
    assert found.take == "a"
    told = dict(words(found, many))
    assert told["shown, these networks"] == "a is better than all others"
    assert "new images alone" in told["how sure"]


def test_what_it_takes_to_be_surer_is_told_in_seeds_and_minutes():
    random = np.random.default_rng(0)
    runs = {name: [tables(80 + step + random.normal(0, 1), 10 * place + seed, 60) for seed in range(3)]
            for place, (name, step) in enumerate([("a", 0), ("b", 2), ("c", -10), ("d", -12)])}  # fmt: skip
    judged = judged_of(runs, 60)
    found = advise("D", judged, {}, [], kinds(judged), minutes=dict.fromkeys("abcd", 2.0))
    assert found.ties == ["a"]
    more = int(found.next[0].split()[0])
    cost = f"about {more * 8} minutes of training: {more + 3} seeds show a true difference of 2.0 points"
    assert found.next[0].startswith(f"{more} more seeds of every run, {cost} in 8 of 10 experiments")
    unknown = advise("D", judged, {}, [], kinds(judged), minutes={"a": 2.0})
    assert "minutes" not in unknown.next[0]


def test_speed_takes_the_cheapest_that_is_not_shown_to_be_worse():
    runs = {
        "a": [tables(80, 0), tables(80, 1)],
        "b": [tables(80, 2), tables(80, 3)],
        "c": [tables(20, 4), tables(20, 5)],
    }
    judged = judged_of(runs)
    cost = {"a": 5.0, "b": 5.0, "c": 1.0}
    cheap = next(name for name in ("a", "b") if name != judged.order("miou_dataset")[0])
    found = advise("speed", judged, {**cost, cheap: 2.0}, [], kinds(judged))
    assert found.take == cheap
    told = words(found, judged)
    assert "the cheapest that is not shown to be worse than the best" in dict(told)[f"take {cheap}"]
    sure = dict(told)["how sure"]
    assert sure.startswith(f"the best with probability {100 * found.shares[cheap]:.0f} % ")
    assert sure.endswith(f"; {found.best} with {100 * found.shares[found.best]:.0f} %")


@pytest.mark.parametrize("known", [{}, {"ensemble: average": 8.0}])
def test_speed_takes_the_best_where_costs_are_unknown_and_says_so(known):
    runs = {"a": [tables(80, 0), tables(80, 1)], "ensemble: average": [tables(80, 2)]}
    judged = judged_of(runs)
    found = advise("speed", judged, known, [], kinds(judged))
    assert found.take == judged.order("miou_dataset")[0]
    told = dict(words(found, judged))[f"take {found.take}"]
    assert "which is the cheapest is not known without the predictions of" in told
    assert "(`segpipe predict`)" in told


def test_one_seed_says_what_to_run_next():
    judged = judged_of({"a": [tables(80, 0)], "b": [tables(80, 2)]})
    steps = advise("D", judged, {}, ["a CRF"], kinds(judged)).next
    assert steps == ["more seeds (params.yaml): a, b have one, so that chance in training is in no interval", "a CRF"]


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_has_an_answer_from_real_results(finished, goal):
    lines = segpipe_here("recommend", "--goal", goal, cwd=finished).stdout.splitlines()
    assert lines[0].startswith("take nothing yet: ")  # six images in two groups, one seed
    found = json.loads(segpipe_here("recommend", "--goal", goal, "--json", cwd=finished).stdout)
    assert found["caution"] in lines[0]
    extreme = "lowest" if goal in ("calibration", "likelihood") else "highest"
    assert lines[1].startswith(f"{extreme}: {found['best']}, ")
    assert found["metric"] == GOALS[goal]


def test_choosing_on_val_leaves_out_what_was_fitted_there(finished):
    found = json.loads(segpipe_here("recommend", "--choose", "val", "--json", cwd=finished).stdout)
    assert found["chosen_on"] == "val"
    assert {"ce", "ce_jml"} <= found["shares"].keys()
    assert not [name for name in found["shares"] if "CRF" in name or "stacking" in name]


def test_a_wrong_goal_and_missing_results_are_one_line(finished, tmp_path):
    done = segpipe_here("recommend", "--goal", "E", cwd=finished, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    segpipe("init", "scenes", "--profile", "tiny", "--into", tmp_path / "w", cwd=tmp_path)
    done = segpipe_here("recommend", cwd=tmp_path / "w", check=False)
    assert done.returncode == 3
    assert "run `segpipe evaluate" in done.stderr


def test_the_lowest_calibration_error_ranks_first():
    from segpipe.metrics.confidence import Bins

    counts = tables(80, 0).counts

    def with_nll(value):
        pixels = np.full((IMAGES, 1), 200)
        nothing = np.zeros(IMAGES)
        return Tables(counts, Bins(pixels, pixels * 0.9, pixels, value * nothing + value, nothing, nothing, nothing))

    runs = {"high": {"0": with_nll(50.0)}, "low": {"0": with_nll(10.0)}}
    found = judge_tables(runs, [f"g{i}" for i in range(IMAGES)], ["nll_dataset"])
    assert found.order("nll_dataset") == ["low", "high"]


@pytest.mark.parametrize(("metric", "sign"), [("miou_dataset", 1), ("ece_dataset", -1), ("nll_dataset", -1)])
def test_whoever_is_behind_the_best_is_behind_by_a_positive_number(metric, sign):
    bounds = sorted((sign * 0.2, sign * 0.3))
    difference = Difference("a", "b", metric, sign * 0.25, *bounds, 0.01, 0.01, "image", 9, (2, 2))
    assert behind(difference, "a") == (0.25, 0.2, 0.3)
    turned = replace(difference, value=-sign * 0.25, low=-bounds[1], high=-bounds[0])
    assert behind(turned, "b") == (0.25, 0.2, 0.3)


def test_an_image_fails_under_all_runs_when_the_best_of_them_fails():
    """IoU is right / (200 - right): run a 0.82 and 0.11, run b 0.05 and 0.18."""
    runs = {}
    for name, right in (("a", [90, 20]), ("b", [10, 30])):
        right = np.repeat(np.array(right)[:, None], 2, 1)
        full = np.full(2, 200)
        runs[name] = [Tables(Counts(right, 100 - right, 100 - right, full, 0 * full))]
    audited = SimpleNamespace(
        trained=list(runs),
        runs=runs,
        images=["first", "second"],
        labels=lambda *_: np.zeros((4, 4), np.uint8),
        target_at=lambda _: np.ones((4, 4), np.uint8),
        panels=lambda *_: [],
    )
    part = failures.common_failures(audited, 5, 0.5)
    assert part.text.startswith("1 of 2 images")
    assert [(case.image, case.note[:19]) for case in part.cases] == [("second", "best mean IoU 0.176")]


@pytest.mark.parametrize(
    ("ious", "collapsed"),
    [
        ([[0.9, 0.2, None], [0.8, 0.1, None]], ""),
        ([[0.9, 0.2, None], [0.8, 0.0, None]], "no class but sky"),
        ([[0.9, 0.2, 0.0]], ""),
        ([[0.0, 0.2, 0.0]], "no class but road"),
        ([[0.0, 0.0, 0.0]], "no class"),
    ],
)
def test_a_network_that_predicts_one_class_alone_has_collapsed(tmp_path, ious, collapsed):
    images = [3, 2, 0]  # no label shows a car
    rows = [{"test": {"per_class": {"names": NAMES, "iou_dataset": iou, "images": images}}} for iou in ious]
    assert Entry("a", "run", "ce", (tmp_path,) * len(rows), tuple(rows), {}).collapsed == collapsed


def test_a_class_that_no_label_shows_cannot_be_missed(tmp_path):
    table = {"names": NAMES, "iou_dataset": [0.9, 0.0, None], "images": [3, 0, 0]}
    assert Entry("a", "run", "ce", (tmp_path,), ({"test": {"per_class": table}},), {}).collapsed == ""


def test_a_collapsed_run_is_named_and_not_recommended(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    whole = recommended(capsys)
    best = whole["take"] or whole["best"]
    run = next(name for name in whole["kinds"] if name in best)
    monkeypatch.setattr(Entry, "collapsed", property(lambda entry: "no class but sky" if run in entry.name else ""))
    assert run not in recommended(capsys)["best"]
    recommend()
    assert (
        f"left out: {run} has collapsed; one of its networks finds no class but sky on test" in capsys.readouterr().out
    )


def recommended(capsys):
    recommend(as_json=True)
    return json.loads(capsys.readouterr().out)
