"""The committed results of the default pipeline hold what the dataset was designed for."""

import json

import pytest

from segpipe.config import params
from segpipe.data import scenes


def test_every_run_of_the_parameters_has_results_and_nothing_else_has(committed):
    loaded, results = params.load(committed / "params.yaml"), committed / "results"
    assert {path.parent.name for path in results.glob("runs/*/headline.json")} == set(loaded.all_keys())
    assert {p.name for p in (results / "crf").iterdir()} == set(loaded.crf_keys())
    assert {p.name for p in (results / "ensembles").iterdir()} == set(loaded.ensemble)


@pytest.mark.parametrize("seed", [0, 1])
def test_cross_entropy_is_neither_lost_nor_saturated(committed, seed):
    headline = json.loads((committed / f"results/runs/ce-{seed}/headline.json").read_text())
    assert 0.40 <= headline["test"]["miou_dataset"] <= 0.75


def test_the_embedded_dataset_has_its_sizes(committed):
    assert scenes.SIZES == {"train": 160, "val": 60, "test": 80}
    passport = json.loads((committed / "results/runs/ce-0/metrics.json").read_text())["passport"]
    assert passport["images"] == {"val": 60, "test": 80}


def test_the_machine_that_made_the_results_is_recorded(committed):
    recorded = json.loads((committed / "results/environment.json").read_text())
    assert {"capability", "threads", "packages"} <= recorded.keys()
