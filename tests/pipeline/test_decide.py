"""Stage decide from the command line to the page: a workspace in which rules have something to gain."""

import json

import numpy as np
import pytest
from PIL import Image

from segpipe.config import params
from segpipe.core.errors import ConfigError
from segpipe.metrics.tables import read_tables
from segpipe.refine.chain import Chain

from conftest import ROOT, run_all, segpipe, segpipe_here

OPTIONS = (
    "download.limit=24", "seeds=[0]", "runs={ce: {}}", "train.epochs=4", "ensemble={average: {}}", "crf.runs=[]",
    "decide.of=[ce, average]", "decide.metrics=[miou_dataset, miou_image]", "prepare.height=64", "prepare.width=80",
)  # fmt: skip


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decide") / "w"
    settings = [word for option in OPTIONS for word in ("--set", option)]
    segpipe("init", "scenes", "--into", folder, *settings, cwd=folder.parent)
    run_all(folder)
    return folder


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("decide", "--run", "ce", "--rule", "miou"), "wanted a score that is better when larger"),
        (("decide", "--rule", "miou_image"), "give one of --run NAME"),
        (("decide", "--run", "ce", "--set", "decide.rules=[weigths]"), "did you mean 'weights'"),
        (("decide", "--run", "ce", "--set", "decide.of=[cee]"), "decide.of: 'cee' matches no result"),
        (("infer", "x.png", "--model", "ce", "--rule", "acc_none"), ""),
        (("export", "--model", "ce", "--rule", "miou_class"), "fit it with `segpipe decide --rule miou_class`"),
        (("decide", "--run", "ce", "--crf"), "is missing; run `segpipe crf"),
    ],
)
def test_wrong_calls_are_one_line(decided, words, message):
    done = segpipe_here(*words, cwd=decided, check=False)
    assert done.returncode in (2, 3)
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_votes_have_nothing_to_read():
    from segpipe.config.dag import check_names

    text = (ROOT / "params.yaml").read_text().replace("  of: [average]", "  of: [majority]")
    with pytest.raises(ConfigError, match="'majority' votes"):
        check_names(params.parse(text))
