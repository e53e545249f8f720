"""docs/claims.py: the words follow the numbers, and every claim names runs of its profile."""

import json
import sys

import numpy as np
import pytest
import yaml

from segpipe.metrics.sample import Sample
from segpipe.metrics.scores import names
from segpipe.report.judgement import Judgement

from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import claims


def row(value, word, metric="miou_dataset", equal=False):
    return {"value": value, "word": word, "metric": metric, "equal": equal}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (row(0.02, "better"), "shown"),
        (row(-0.02, "better"), "contradicted"),
        (row(0.02, "undecided"), "undecided"),
        (row(0.001, "practically equal"), "practically equal"),
        (row(-0.02, "better", "ece_dataset"), "shown"),
        (row(0.02, "better", "ece_dataset"), "contradicted"),
        (row(0.0, "the same", equal=True), "shown: identical"),
        (row(0.0, "practically equal", equal=True), "shown: practically equal"),
        (row(0.01, "undecided", equal=True), "undecided"),
        (row(0.01, "better", equal=True), "contradicted"),
    ],
)
def test_a_verdict_follows_the_difference_and_the_metrics_direction(found, words):
    assert claims.verdict(found) == words


def test_the_kept_claims_follow_from_what_was_kept_of_seeds_and_of_the_bootstrap():
    import rejudged

    for path in claims.RESULTS.rglob("claims.json"):
        kept = json.loads(path.read_text())
        again = rejudged.again(path.parent.name)
        for found, wanted in zip(again, kept, strict=True):
            assert found == {k: pytest.approx(v, rel=1e-6) if isinstance(v, float) else v for k, v in wanted.items()}, (
                wanted["text"]
            )


def test_a_claim_judged_anew_is_wider_than_either_of_its_parts():
    import rejudged

    scores = {"a": (0.60, 0.62), "b": (0.50, 0.55)}
    lines = [{"what": run, "kind": "run", "folder": f"results/runs/{run}-{seed}", "miou_dataset": str(value)}
             for run, values in scores.items() for seed, value in enumerate(values)]  # fmt: skip
    claim = {"better": "a", "other": "b", "metric": "miou_dataset", "value": 0.085}
    found = rejudged._judged({**claim, "bootstrap": {"low": 0.07, "high": 0.10, "shown": True, "units": 20}}, lines)
    seeds = 12.706 * np.std([0.10, 0.07], ddof=1) / np.sqrt(2)  # t of one degree of freedom
    assert found["high"] - found["value"] >= seeds
    assert (found["claim"], found["word"]) == ("methods", "undecided")
    alone = {**claim, "other": "ensemble: b", "bootstrap": {"low": 0.07, "high": 0.10, "shown": True, "units": 20}}
    assert rejudged._judged(alone, lines)["word"] == "better"


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

    def judged(worst):
        scores = {name: {m: np.full((1, 6), value * (-1 if m[0] in "en" else 1)) for m in metrics}
                  for name, value in (("a", 0.9), ("b", 0.9), ("c", 0.5))}  # fmt: skip
        scores["c"]["ece_dataset"][:] = worst
        seeds = dict.fromkeys(scores, ("0",))
        sample = Sample(scores, seeds, {}, {name: name for name in scores}, metrics, None, 6, {})
        return Judgement(sample, {}, [], {})

    monkeypatch.setattr(claims, "_runs", lambda *_: {})
    monkeypatch.setattr(claims, "judge", lambda *_: judged(-0.5))
    what, effect, answer = claims._winners(ROOT)
    assert (what, answer) == ("best of 2 different runs", "not seen")
    assert effect.startswith("mIoU^D `a` = `b`, mIoU^I `a` = `b`, ")
    monkeypatch.setattr(claims, "judge", lambda *_: judged(-1.0))
    assert claims._winners(ROOT)[2] == "seen"


def test_findings_are_asked_of_a_real_workspace(finished):
    what, effect, answer = claims._winners(finished)
    assert what == "best of 2 runs"
    assert effect.count("`") == 12
    assert answer in ("seen", "not seen")
    what, effect, answer = claims._worst_case(finished)
    assert effect.startswith("-")
    assert answer in ("seen", "not seen")
    what, effect, answer = claims._borders(finished)
    assert what == "mIoU^D within 1 px of a border, `ce + CRF` - `ce`"
    rows = [json.loads((finished / f"results/{kind}/ce-0/metrics.json").read_text()) for kind in ("crf", "runs")]
    after, before = (row["test"]["borders"]["trimap_miou_dataset"]["1"] for row in rows)
    assert effect == f"{100 * (after - before):+.1f} points, by seed"
