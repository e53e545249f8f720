"""docs/claims.py: the words follow the numbers, and every claim names runs of its profile."""

import json
import sys

import numpy as np
import pytest
import yaml

from segpipe.metrics.scores import names
from segpipe.report.judgement import Judgement

from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import claims


def row(value, shown, metric="miou_dataset", equal=False):
    return {"value": value, "shown": shown, "metric": metric, "equal": equal}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (row(0.02, True), "shown"),
        (row(-0.02, True), "contradicted"),
        (row(0.02, False), "not shown"),
        (row(-0.02, True, "ece_dataset"), "shown"),
        (row(0.02, True, "ece_dataset"), "contradicted"),
        (row(0.0, False, equal=True), "shown: identical"),
        (row(0.01, False, equal=True), "no difference shown"),
        (row(0.01, True, equal=True), "contradicted"),
    ],
)
def test_a_verdict_follows_the_difference_and_the_metrics_direction(found, words):
    assert claims.verdict(found) == words


def test_every_claim_names_runs_of_its_profile():
    known = {*names(), "ece_dataset", "nll_dataset"}
    for claim in claims.CLAIMS:
        profile = profile_of(claim.profile)
        runs = {*profile["runs"], *(f"{run} + CRF" for run in profile["crf.runs"])}
        runs |= {f"ensemble: {name}" for name in profile["ensemble"]}
        assert {claim.better, claim.other} <= runs, claim.text
        assert claim.metric in known, claim.text
    assert len({(claim.profile, claim.text) for claim in claims.CLAIMS}) == len(claims.CLAIMS)


def profile_of(name):
    return yaml.safe_load((ROOT / f"pipeline/segpipe/profiles/{name}.yaml").read_text())


def test_what_is_kept_of_a_profile_answers_all_its_claims():
    asked = {(c.profile, c.text) for c in claims.CLAIMS} | {(n, f.text) for f in claims.FINDINGS for n in f.profiles}
    kept = {name for name, _ in asked if (claims.kept(name) / "claims.json").is_file()}
    assert len(kept) >= 7
    for name in kept:
        answered = {row["text"] for row in json.loads((claims.kept(name) / "claims.json").read_text())}
        assert answered == {text for profile, text in asked if profile == name}, name
    shown = (claims.table("scenes") + claims.table("CamVid")).count("**")
    assert shown == 2 * sum(name in kept for name, _ in asked)


@pytest.mark.parametrize(("p", "answer"), [(0.01, "shown"), (0.5, "not shown"), (0.99, "contradicted")])
def test_a_finding_is_contradicted_by_the_other_tail(p, answer):
    assert claims._by(p) == answer


def test_equal_winners_are_one_and_one_run_may_win_all(monkeypatch):
    metrics = ("miou_dataset", "miou_image", "miou_class", "miou_image_q5", "ece_dataset", "nll_dataset")
    drawn = {name: {m: np.full(3, value * (-1 if m[0] in "en" else 1)) for m in metrics}
             for name, value in (("a", 0.9), ("b", 0.9), ("c", 0.5))}  # fmt: skip
    scores = {name: {m: float(values[0]) for m, values in row.items()} for name, row in drawn.items()}
    judged = Judgement(scores, {}, drawn, {}, [], {}, "image", 3, 3, "")
    monkeypatch.setattr(claims, "_runs", lambda *_: {})
    monkeypatch.setattr(claims, "judge", lambda *_: judged)
    what, effect, answer = claims._winners(ROOT)
    assert (what, answer) == ("best of 2 different runs", "not seen")
    assert effect.startswith("mIoU^D `a` = `b`, mIoU^I `a` = `b`, ")
    drawn["c"]["ece_dataset"][:] = scores["c"]["ece_dataset"] = -1.0
    assert claims._winners(ROOT)[2] == "seen"


def test_findings_are_asked_of_a_real_workspace(finished):
    what, effect, answer = claims._winners(finished)
    assert what == "best of 2 runs"
    assert effect.count("`") == 12
    assert answer in ("seen", "not seen")
    what, effect, answer = claims._worst_case(finished)
    assert effect.startswith("-")
    assert answer in ("shown", "not shown")
    what, effect, answer = claims._borders(finished)
    assert what == "mIoU^D within 1 px of a border, `ce + CRF` - `ce`"
    rows = [json.loads((finished / f"results/{kind}/ce-0/metrics.json").read_text()) for kind in ("crf", "runs")]
    after, before = (row["test"]["borders"]["trimap_miou_dataset"]["1"] for row in rows)
    assert effect == f"{100 * (after - before):+.1f} points, by seed"
