"""docs/claims.py: the words follow the numbers, and every claim names runs of its profile."""

import sys

import pytest
import yaml

from segpipe.metrics.scores import names

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


def test_every_claim_names_runs_of_its_profile_and_is_tested():
    known = {*names(), "ece_dataset", "nll_dataset"}
    for claim in claims.CLAIMS:
        profile = yaml.safe_load((ROOT / f"pipeline/segpipe/profiles/{claim.profile}.yaml").read_text())
        runs = {*profile["runs"], *(f"ensemble: {name}" for name in profile["ensemble"])}
        assert {claim.better, claim.other} <= runs, claim.text
        assert claim.metric in known, claim.text
    assert len({claim.text for claim in claims.CLAIMS}) == len(claims.CLAIMS)
    assert claims.table().count("\n| ") == len(claims.CLAIMS) + 1
