"""The committed results of the default pipeline hold what the dataset was designed for."""

import json

import pytest

from segpipe import params
from segpipe.data import scenes

from conftest import ROOT

RUNS = sorted((ROOT / "results/runs").glob("*/headline.json"))


def scores(name):
    return json.loads((ROOT / "results/runs" / name / "headline.json").read_text())["test"]


def test_every_run_of_the_parameters_has_results_and_nothing_else_has():
    loaded = params.load(ROOT / "params.yaml")
    assert {path.parent.name for path in RUNS} == set(loaded.all_keys())
    assert {p.name for p in (ROOT / "results/crf").iterdir()} == set(loaded.crf_keys())
    assert {p.name for p in (ROOT / "results/ensembles").iterdir()} == set(loaded.ensemble)


@pytest.mark.parametrize("seed", [0, 1])
def test_cross_entropy_is_neither_lost_nor_saturated(seed):
    assert 0.40 <= scores(f"ce-{seed}")["miou_dataset"] <= 0.75


def test_the_embedded_dataset_has_its_sizes():
    assert scenes.SIZES == {"train": 160, "val": 60, "test": 80}
    passport = json.loads((ROOT / "results/runs/ce-0/metrics.json").read_text())["passport"]
    assert passport["images"] == {"val": 60, "test": 80}


def test_the_machine_that_made_the_results_is_recorded():
    recorded = json.loads((ROOT / "results/environment.json").read_text())
    assert {"capability", "threads", "packages"} <= recorded.keys()
