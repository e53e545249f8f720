"""Stage decide from the command line to the page: a workspace in which rules have something to gain."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from segpipe.config import depends, digests, params
from segpipe.config.dag import check_names
from segpipe.core.errors import ConfigError
from segpipe.metrics.tables import read_tables
from segpipe.refine.chain import Chain
from segpipe.report.runs import seed_of
from segpipe.stages import decide
from segpipe.training.recipes import RECIPES

from conftest import ROOT, made_once, reseal, segpipe, segpipe_here

OPTIONS = (
    "download.limit=24", "seeds=[0]", "runs={ce: {}}", "train.epochs=4", "ensemble={average: {}}", "crf.runs=[]",
    "decide.of=[ce, average]", "decide.metrics=[miou_dataset, miou_image]", "prepare.height=64", "prepare.width=80",
)  # fmt: skip


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    return made_once(tmp_path_factory, "decided", *(word for option in OPTIONS for word in ("--set", option)))


def test_the_rule_of_each_score_is_written_with_how_the_candidates_did(decided):
    for metric in ("miou_dataset", "miou_image"):
        for key in ("ce-0", "average"):
            found = json.loads((decided / f"data/decide/{metric}/{key}/decide.json").read_text())
            assert {one["chain"] for one in found["candidates"]} == {"weights", "prior", "rankseg"}
            taken = [one for one in found["candidates"] if one["chain"] == found["rule"]]
            assert found["rule"] == "argmax" or (taken[0]["taken"] and taken[0]["low"] > 0)
            if found["rule"] != "argmax":
                best = max((one for one in found["candidates"] if one["taken"]), key=lambda one: one["score"])
                assert best["chain"] == found["rule"]


def test_evaluate_scores_the_labels_that_the_rule_reads(decided):
    found = json.loads((decided / "data/decide/miou_image/ce-0/decide.json").read_text())
    scored = json.loads((decided / "results/decided/miou_image/ce-0/headline.json").read_text())
    plain = json.loads((decided / "results/runs/ce-0/headline.json").read_text())
    for split in ("val", "test"):
        for metric in ("miou_dataset", "miou_image", "acc"):
            assert scored[split][metric] == pytest.approx(found["effect"][split]["after"][metric])
            assert plain[split][metric] == pytest.approx(found["effect"][split]["before"][metric])
    assert read_tables(decided / "results/decided/miou_image/ce-0", "test").images


def test_page_tables_and_commands_know_the_rules(decided):
    page = (decided / "results/report.html").read_text()
    assert "Decision rules" in page
    assert "ce + rule for mIoU" in page
    table = (decided / "results/tables/decisions.md").read_text()
    assert "read by the rule" in table
    done = segpipe_here("compare", "ce", "ce + rule for mIoU^D", "--json", cwd=decided)
    (first,) = [d for d in json.loads(done.stdout)["differences"] if d["metric"] == "miou_dataset"]
    assert first["claim"] == "networks"
    assert segpipe_here("recommend", "--json", cwd=decided).returncode == 0
    assert segpipe_here("dag", "--check", cwd=decided).returncode == 0


def test_new_images_are_read_by_the_rule(decided, tmp_path):
    image = next((decided / "data/download/scenes/images").rglob("*.png"))
    segpipe("infer", image, "--model", "ce", "--probs", "--out", tmp_path / "plain", cwd=decided)
    segpipe("infer", image, "--model", "ce", "--rule", "miou_image", "--out", tmp_path / "ruled", cwd=decided)
    found = json.loads((decided / "data/decide/miou_image/ce-0/decide.json").read_text())
    probs = np.load(tmp_path / "plain" / f"{image.stem}_probs.npy").astype(np.float32)
    wanted = Chain.restore(found["links"]).labels(np.array(Image.open(image)), probs)
    labels = np.array(Image.open(tmp_path / "ruled" / f"{image.stem}.png"))
    assert (labels != wanted).mean() < 0.005  # --probs are float16


def test_a_rule_of_pixels_goes_into_onnx(decided, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    place = decided / "runs/adhoc/decide/acc/ce-0"
    done = segpipe(
        "decide", "--run", "ce", "--rule", "acc", "--set", "decide.rules=[temperature + weights]", cwd=decided
    )
    assert "taken:" in done.stdout
    assert place.is_dir()
    out = segpipe("export", "--model", "ce", "--rule", "acc", "--out", tmp_path / "m.onnx", "--json", cwd=decided)
    assert json.loads(out.stdout)["difference"] < 1e-4


def test_a_rule_of_another_network_is_refused(decided, tmp_path):
    work = tmp_path / "w"
    shutil.copytree(decided, work, symlinks=True)
    path = work / "data/decide/miou_image/ce-0/decide.json"
    described = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps({**described, "made_of": "another"}))
    reseal(path.parent)
    image = next((work / "data/download/scenes/images").rglob("*.png"))
    done = segpipe("infer", image, "--model", "ce", "--rule", "miou_image", "--out", "out", cwd=work, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "was fitted to another network" in done.stderr
    assert "run `segpipe decide --run ce --seed 0 --rule miou_image`" in done.stderr


@pytest.mark.parametrize(
    ("method", "fitted_on", "refused"), [("s", "val", True), ("s", "train", False), ("", "", False)]
)
def test_only_ensembles_that_val_was_fitted_on_are_refused(tmp_path, method, fitted_on, refused):
    (tmp_path / "ensemble.json").write_text(json.dumps({"fitted_on": fitted_on}))
    reason = decide._fitted_on_val(SimpleNamespace(method=method), tmp_path)
    assert bool(reason) == refused


def test_results_after_a_crf_and_a_rule_keep_their_seeds():
    assert [seed_of(Path(f"results/decided/miou_dataset/ce-{seed}-crf")) for seed in (0, 1)] == ["0", "1"]


def test_a_wildcard_passes_votes_over_and_a_recipe_of_a_run_reaches_the_digest(monkeypatch):
    text = (ROOT / "params.yaml").read_text().replace("  of: [average]", '  of: ["*"]')
    read = params.parse(text)
    assert "average" in read.decided_keys()
    assert "majority" not in read.decided_keys()
    focal = "  focal:\n    loss: focal(gamma=2.0)\n"
    own = params.parse(text.replace(focal, f"{focal}    train: {{recipe: finetune}}\n"))
    before = depends.recipes(own, ["ce", "focal"])
    monkeypatch.setitem(RECIPES["finetune"], "lr", 0.1)
    assert depends.recipes(own, ["ce", "focal"]) != before
    assert list(before) == ["recipe of focal"]


def test_encoder_and_decoder_are_part_of_what_a_training_means():
    text = (ROOT / "params.yaml").read_text()
    model = "  name: encoder_decoder\n  decoder: psp\n  weights: null\n"
    start, end = text.index("  name: unet"), text.index("train:  # what")
    read = params.parse(text[:start] + model + "\n" + text[end:])
    roots = set(digests._chosen(read, "train", "ce", ""))
    assert ("segpipe.models.blocks.decoders", "PyramidPooling") in roots
    assert ("segpipe.models.blocks.encoders", "residual") in roots


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("decide", "--run", "ce", "--rule", "miou"), "wanted a score that is better when larger"),
        (("decide", "--rule", "miou_image"), "give one of --run NAME"),
        (("decide", "--run", "ce", "--set", "decide.rules=[weigths]"), "did you mean 'weights'"),
        (("decide", "--run", "ce", "--set", "decide.of=[cee]"), "decide.of: 'cee' matches no result"),
        (("infer", "x.png", "--model", "ce", "--rule", "acc_none"), "x.png is missing"),
        (("export", "--model", "ce", "--rule", "miou_class"), "decide --run ce --seed 0 --rule miou_class`"),
        (("decide", "--run", "ce", "--crf"), "is missing; run `segpipe crf"),
        (("evaluate", "--run", "ce", "--folds", "--rule", "acc"), "no rule is fitted; leave --rule out"),
        (("decide", "--run", "ce", "--set", "decide.rules=[argmax]"), "argmax always competes"),
    ],
)
def test_wrong_calls_are_one_line(decided, words, message):
    done = segpipe_here(*words, cwd=decided, check=False)
    assert done.returncode in (2, 3)
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_votes_have_nothing_to_read_and_wrong_options_are_said_before_any_training():
    text = (ROOT / "params.yaml").read_text()
    with pytest.raises(ConfigError, match="'majority' votes"):
        params.parse(text.replace("  of: [average]", "  of: [majority]"))
    with pytest.raises(ConfigError, match="metric is 'foo', wanted iou or dice"):
        check_names(params.parse(text.replace("rules: [weights,", "rules: [rankseg(metric=foo),")))
