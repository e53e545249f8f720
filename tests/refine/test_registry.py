"""A refiner is one class in one file: command, parameters, tuning, evaluation and ensembles find it by its name."""

import json

import numpy as np
import pytest

from segpipe import refine
from segpipe.config.context import start
from segpipe.core import registry
from segpipe.core.errors import ConfigError
from segpipe.data.dataset import Index, read_target
from segpipe.data.predictions import read_probs
from segpipe.metrics import Counts, count, summarize

from conftest import segpipe_here

TUNE = "crf.tune={metric: miou_dataset, images: 3, points: 12, factor: [0.5, 1.0, 4.0], favoured: 2}"
SETTINGS = ("--set", "crf.refiner=favour", "--set", TUNE)


@pytest.fixture
def added(monkeypatch):
    """The tests' own refiner beside the package's."""
    own = registry.entries
    extra = own("extra.refiners")
    monkeypatch.setattr(
        registry, "entries", lambda package: {**own(package), **(extra if package == refine.PACKAGE else {})}
    )


def test_a_refiner_from_one_file_is_tuned_applied_evaluated_and_an_ensembles_member(added, workspace, monkeypatch):
    (found,) = [json.loads(segpipe_here("crf", "--run", "ce", *SETTINGS, "--json", cwd=workspace).stdout)]
    monkeypatch.chdir(workspace)
    context = start(run="ce", refined=True, overrides=(SETTINGS[1], TUNE))
    stored = json.loads((context.path("crf") / "crf.json").read_text())
    assert stored["favoured"] == 2
    assert {"factor"} == set(stored["parameters"] or {"factor": 1})
    tried = {candidate["factor"]: candidate["score"] for candidate in stored["candidates"]}
    assert {0.5, 1.0, 4.0} < set(tried)
    index = Index.read(context.path("prepare"))
    rows = [(i, row) for i, row in enumerate(index.splits["val"]) if row.id in found["tuned_on"]]
    assert len(rows) == 3
    for factor, score in tried.items():
        counts = []
        for i, row in rows:
            probs = read_probs(context.path("predict"), "val", row, i)
            probs[2] *= factor
            target = read_target(context.path("download"), index, row, "val")
            counts.append(count(probs.argmax(0)[None], target[None], len(index.classes)))
        assert score == pytest.approx(summarize(Counts.concat(counts))["miou_dataset"], abs=1e-3)
    said = segpipe_here("evaluate", "--run", "ce", "--crf", *SETTINGS, cwd=workspace).stdout
    assert f"runs/adhoc/results/crf/ce-0: test acc {found['effect']['test']['after']['acc']:.4f}" in said
    members = ("--set", "ensemble={pair: {method: average, members: [ce_jml-0, ce-0-crf]}}")
    segpipe_here("ensemble", "--method", "pair", *SETTINGS, *members, cwd=workspace)
    made = json.loads((workspace / "runs/adhoc/ensemble/pair/ensemble.json").read_text())
    assert made["members"][1]["refiner"] == "favour"
    assert made["members"][1]["crf"] == ({**stored["parameters"], "favoured": 2} if stored["parameters"] else None)


def test_its_numbers_are_checked_by_name_and_range(added, workspace):
    for tune, words in (
        ("factor: []", "crf.tune.factor: found [], wanted a list of at least 1 item"),
        ("factor: [0.0]", "greater than 0"),
        ("factor: [1.0], pos_w: [1.0]", "crf.tune.pos_w: unknown key"),
        ("favoured: 1", "crf.tune.factor: this key is missing"),
        ("factor: [1.0], favoured: x", "favoured is 'x', wanted a whole number"),
    ):
        setting = f"crf.tune={{metric: miou_dataset, images: 3, points: 12, {tune}}}"
        done = segpipe_here("crf", "--run", "ce", "--set", "crf.refiner=favour", "--set", setting, cwd=workspace,
                            check=False)  # fmt: skip
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_an_unknown_refiner_is_told_with_the_near_miss():
    with pytest.raises(ConfigError, match="unknown refiner 'crff'; did you mean 'crf'"):
        refine.create("crff")


def test_a_refiner_is_made_again_from_what_it_tells_of_itself():
    first = refine.create("crf", bi_w=2.0, iterations=3)
    again = refine.create("crf", **first.describe())
    random = np.random.default_rng(0)
    image, probs = random.integers(0, 256, (9, 8, 3)).astype(np.uint8), random.dirichlet(np.ones(3), (9, 8))
    probs = np.moveaxis(probs, 2, 0).astype(np.float32)
    np.testing.assert_array_equal(first.apply(image, probs), again.apply(image, probs))
