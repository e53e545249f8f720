"""compare, audit, evaluate of folders and by conventions, on a finished tiny workspace."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from segpipe.data.dataset import Index
from segpipe.data.maps import Maps
from segpipe.data.predictions import read_probs

from conftest import IMAGES, reseal, segpipe, segpipe_here


def test_compare_of_two_says_the_verdict_in_words(finished):
    done = segpipe_here("compare", "ce", "ce_jml", cwd=finished).stdout.splitlines()
    for line, title in zip(done, ("mIoU^D", "mIoU^I", "mIoU^C"), strict=False):
        assert line.startswith(f"{title}, these networks: ")
        assert ": undecided, " in line
        assert "95 % interval" in line
        assert line.endswith("2 groups are too few to tell a difference from chance, wanted 5 groups or more")
    assert done[-1].startswith("2 groups of test, 1 seed. Nothing is claimed: see above.")


def test_compare_of_all_prints_ranks_and_what_leads_and_draws_it(finished, tmp_path):
    figure = tmp_path / "behind.svg"
    done = segpipe_here(
        "compare", "--metric", "mdice_image", "--metric", "nll_dataset", "--figure", figure, cwd=finished
    )
    assert "mDice^I" in done.stdout
    assert done.stdout.startswith("Runs alone. Nothing is claimed in mDice^I: 2 groups are too few")
    assert "ensemble: plurality" in done.stdout.split("NLL^D")[0]
    rows = done.stdout.split("NLL^D")[1].splitlines()
    assert not any(row.startswith("| ensemble: plurality") for row in rows)  # votes have no NLL
    assert "Intervals of differences hold together in a table." in done.stdout
    assert figure.read_text().startswith("<svg")


def test_compare_as_json_holds_every_pair_and_takes_folders(finished):
    found = json.loads(segpipe_here("compare", "--json", cwd=finished).stdout)
    assert len(found["differences"]) == 3 * 6 * 5 // 2
    assert {d["claim"] for d in found["differences"]} == {"networks"}
    by_folder = segpipe_here("compare", "results/runs/ce-0", "results/crf/ce-0", "--json", cwd=finished)
    assert {d["first"] for d in json.loads(by_folder.stdout)["differences"]} == {"results/runs/ce-0"}
    itself = segpipe_here("compare", "ce", "ce-0", cwd=finished).stdout
    assert itself.count("these networks: ce and ce-0 have the same numbers") == 3


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["nothing", "ce"], 2, "'nothing' is no result folder and no result of params.yaml"),
        (["ce"], 2, "found 1 result, wanted at least two"),
        (["ce", "ce_jml", "--metric", "mioo_dataset"], 2, "no run has the score 'mioo_dataset'"),
        (["ce", "ce_jml", "--figure", "a.png"], 2, "wanted a name that ends with .svg"),
    ],
)
def test_compare_refuses_what_it_cannot_compare(finished, arguments, code, message):
    done = segpipe_here("compare", *arguments, cwd=finished, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_refuses_tables_of_other_images_or_classes(finished, tmp_path):
    source = finished / "results/runs/ce-0"
    for name, old, new in (("classes", ",sky,", ",heaven,"), ("images", "test_00_0", "test_00_9")):
        shutil.copytree(source, tmp_path / name)
        for path in (tmp_path / name).glob("*.csv"):
            path.write_text(path.read_text().replace(old, new))
        reseal(tmp_path / name)
        done = segpipe_here("compare", source, tmp_path / name, cwd=tmp_path, check=False)
        assert done.returncode == 3
        assert f"has other {name} than" in done.stderr
    (tmp_path / "classes/counts.csv").write_text("split,image\ntest,a\n")
    reseal(tmp_path / "classes")
    done = segpipe_here("compare", source, tmp_path / "classes", cwd=tmp_path, check=False)
    assert (done.returncode, "no table of counts" in done.stderr) == (3, True)


def test_a_convention_is_recomputed_from_the_stored_counts(finished):
    stored = json.loads((finished / "results/runs/ce-0/metrics.json").read_text())
    done = json.loads(segpipe("evaluate", "--run", "ce", "--convention", "monai", "--json", cwd=finished).stdout)
    assert done["test"]["MeanIoU(mean)"] == pytest.approx(stored["test"]["miou_image"])
    done = segpipe("evaluate", "--run", "ce", "--convention", "mmseg", cwd=finished).stdout
    assert (
        f"mIoU   {stored['test']['miou_dataset']:.4f}" in done or f"mIoU  {stored['test']['miou_dataset']:.4f}" in done
    )
    done = segpipe("evaluate", "--run", "ce", "--convention", "mmsegg", cwd=finished, check=False)
    assert (done.returncode, "did you mean 'mmseg'" in done.stderr) == (2, True)


def test_the_passport_says_what_the_numbers_mean(finished):
    found = json.loads((finished / "results/runs/ce-0/metrics.json").read_text())
    passport = found["passport"]
    assert {"void", "absent", "rejected", "resolution", "images", "images_of_class", "unit", "headline"} <= set(
        passport
    )
    assert passport["images"] == {"val": IMAGES, "test": IMAGES}
    assert len(passport["images_of_class"]["test"]) == 8
    assert found["temperature"]["fitted_on"] == "val"
    before, after = found["test"], found["test"]["calibrated"]
    assert after["nll_dataset"] < before["nll_dataset"]  # far from calibrated after six epochs
    assert "calibrated" not in found["val"]  # it was fitted there
    bounds = before["intervals"]["scores"]["miou_image"]
    assert bounds["low"] <= before["miou_image"] <= bounds["high"]
    votes = json.loads((finished / "results/ensembles/plurality/metrics.json").read_text())
    assert votes["temperature"] is None
    assert "ece_dataset" not in votes["test"]


def folders(tmp_path, labels, predictions):
    for name, maps in (("labels", labels), ("predictions", predictions)):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for i, ids in enumerate(maps):
            Image.fromarray(np.asarray(ids, np.uint8)).save(tmp_path / name / f"{i}.png")
    return ["--labels", tmp_path / "labels", "--predictions", tmp_path / "predictions"]


def test_two_folders_of_label_maps_are_scored_without_a_pipeline(tmp_path):
    # Image 0: class 0 right on 3 of 4, class 1 twice right, once taken for 0. Image 1: one pixel rejected.
    given = folders(
        tmp_path, [[[0, 0, 1, 1], [0, 0, 1, 255]], [[0, 0, 0, 0]]], [[[0, 0, 1, 1], [0, 1, 0, 7]], [[0, 0, 0, 255]]]
    )
    done = json.loads(segpipe("evaluate", *given, "--classes", 2, "--json", cwd=tmp_path).stdout)
    assert done["images"] == 2
    assert done["acc"] == pytest.approx((3 + 2 + 3) / 11)
    assert done["miou_dataset"] == pytest.approx((6 / (6 + 1 + 2) + 2 / (2 + 1 + 1)) / 2)
    assert done["miou_image"] == pytest.approx(((3 / 5 + 2 / 4) / 2 + 3 / 4) / 2)
    assert done["coverage"] == pytest.approx(10 / 11)
    assert done["accepted"]["acc"] == pytest.approx(8 / 10)
    assert done["foreground"]["iou_image"] == pytest.approx((2 / 4 + 1) / 2)  # no foreground in both: 1
    table = segpipe("evaluate", *given, "--classes", 2, cwd=tmp_path).stdout
    assert "mIoU" in table
    assert "95 % interval" in table
    smp = segpipe("evaluate", *given, "--classes", 2, "--convention", "smp", cwd=tmp_path).stdout
    assert "iou_score(macro-imagewise)" in smp


def test_folders_that_are_all_void_are_undefined_with_a_warning(tmp_path):
    given = folders(tmp_path, [[[255, 255]]], [[[0, 1]]])
    done = segpipe("evaluate", *given, "--classes", 2, "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["miou_dataset"] is None
    assert "no pixel is valid" in done.stderr


@pytest.mark.parametrize(
    "labels, predictions, options, code, message",
    [
        ([[[0, 9]]], [[[0, 1]]], ["--classes", 2], 3, "0.png holds [9], wanted 0..1"),
        ([[[0, 1]]], [[[0, 9]]], ["--classes", 2], 3, "0.png holds [9], wanted 0..1"),
        ([[[0, 1]]], [[[0], [1]]], ["--classes", 2], 3, "is (1, 2), but"),
        ([[[0, 1]], [[0, 1]]], [[[0, 1]]], ["--classes", 2], 3, "lacks 1 of the other folder's files: 1"),
        ([], [], ["--classes", 2], 3, "holds no label map"),
        ([[[0, 1], [1, 1]]], [[[0, 1]]], ["--classes", 2], 3, "is (2, 1), but"),
        ([[[0, 1]]], [[[0, 1]]], [], 2, "--classes N"),
        ([[[0, 1]]], [[[0, 1]]], ["--classes", 999], 2, "wanted 1..255"),
        ([[[0, 1]]], [[[0, 1]]], ["--classes", 2, "--run", "ce"], 2, "stand alone"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path, labels, predictions, options, code, message):
    done = segpipe("evaluate", *folders(tmp_path, labels, predictions), *options, cwd=tmp_path, check=False)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_audit_shows_failures_and_says_what_was_not_measured(finished, tmp_path):
    folder = tmp_path / "w"
    shutil.copytree(finished, folder)
    done = segpipe("audit", "--worst", 2, cwd=folder).stdout
    assert "Label suspects: 0 shown" in done
    html = (folder / "runs/audit/audit.html").read_text()
    assert "Not measured" in html
    assert "agree with each other" in html  # two networks after six epochs fail alike or apart
    with open(folder / "runs/audit/audit.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sum(row["kind"] == "image" for row in rows) == 2 * 6
    values = [float(row["value"]) for row in rows if row["kind"] == "pair" and row["what"] == "ce"]
    assert values == sorted(values)
    again = (folder / "runs/audit/audit.csv").read_bytes()
    segpipe("audit", "--worst", 2, cwd=folder)
    assert (folder / "runs/audit/audit.csv").read_bytes() == again


def test_audit_without_results_says_what_to_run(tmp_path):
    segpipe("init", "scenes", "--profile", "tiny", "--into", tmp_path / "w", cwd=tmp_path)
    done = segpipe("audit", cwd=tmp_path / "w", check=False)
    assert done.returncode == 3
    assert "run `segpipe" in done.stderr


def test_folds_hold_out_every_train_image_once_by_group(folded):
    index = json.loads((folded / "data/prepare/index.json").read_text())["splits"]["train"]
    held = {k: json.loads((folded / f"data/predict/ce-0-fold{k}/rows.json").read_text()) for k in (0, 1)}
    assert sorted(held[0] + held[1]) == list(range(len(index)))
    for k in (0, 1):
        trained = json.loads((folded / f"data/train/ce-0-fold{k}/train_ids.json").read_text())["ids"]
        assert not {index[i]["id"] for i in held[k]} & set(trained)
        assert len(Maps(folded / f"data/predict/ce-0-fold{k}/train_logits")) == len(held[k])
    assert not {index[i]["group"] for i in held[0]} & {index[i]["group"] for i in held[1]}


def test_audit_ranks_labels_by_networks_that_did_not_see_them(folded, tmp_path):
    folder = tmp_path / "w"
    shutil.copytree(folded, folder, symlinks=True)
    done = segpipe("audit", "--worst", 1, "--json", cwd=folder)
    assert json.loads(done.stdout)["cases"]["Label suspects"] == 4
    with open(folder / "runs/audit/label_suspects.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(row["image"].startswith("train_") and row["label"] != row["predicted"] for row in rows)


def test_cross_validation_scores_every_train_image_once_by_the_network_that_did_not_see_it(folded):
    index = json.loads((folded / "data/prepare/index.json").read_text())["splits"]["train"]
    with open(folded / "results/folds/ce-0/counts.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["split"] for row in rows} == {"train"}
    assert list(dict.fromkeys(row["image"] for row in rows)) == [row["id"] for row in index]
    held = json.loads((folded / "data/predict/ce-0-fold1/rows.json").read_text())
    row = Index.read(folded / "data/prepare").splits["train"][held[0]]
    probs = read_probs(folded / "data/predict/ce-0-fold1", "train", row, 0)
    own = [row for row in rows if row["image"] == index[held[0]]["id"]]
    assert sum(int(row["tp"]) + int(row["fp"]) for row in own) <= probs[0].size
    labels = np.bincount(probs.argmax(0).ravel(), minlength=8)
    assert all(int(row["tp"]) + int(row["fp"]) <= labels[k] for k, row in enumerate(own))
    told = segpipe_here("compare", "--split", "folds", cwd=folded).stdout
    assert "2 groups of train, each scored by a network that did not see it, 1 seed" in told
    assert "<h2>Cross-validation</h2>" in (folded / "results/report.html").read_text()
    assert "ce_jml" in (folded / "results/tables/folds.md").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["compare", "--split", "folds"], "fewer than two runs are trained on folds"),
        (["evaluate", "--run", "ce", "--folds"], "run 'ce' is trained on no folds; add it to folds.runs"),
        (["evaluate", "--ensemble", "average", "--folds"], "--folds goes with --run NAME"),
    ],
)
def test_cross_validation_without_folds_is_one_line(finished, arguments, message):
    done = segpipe(*arguments, cwd=finished, check=False)
    assert (done.returncode, message in done.stderr) == (2, True)


def test_a_fold_that_does_not_exist_is_refused(folded):
    done = segpipe("train", "--run", "ce", "--fold", 2, cwd=folded, check=False)
    assert (done.returncode, "folds are 0..1" in done.stderr) == (2, True)


def test_compare_of_all_says_what_is_missing_and_compares_the_rest(finished, tmp_path):
    work = tmp_path / "w"
    shutil.copytree(finished, work, symlinks=True)
    shutil.rmtree(work / "results/runs/ce-0")
    done = segpipe_here("compare", "--json", cwd=work)
    assert "left out: ce: " in done.stderr
    assert {"ce_jml"} < set(json.loads(done.stdout)["scores"])
    assert "ce" not in json.loads(done.stdout)["scores"]
