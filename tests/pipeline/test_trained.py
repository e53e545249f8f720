"""Training through the command line: students, snapshots, inference, export, several processes, and wrong input."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from segpipe import models
from segpipe.cli import app
from segpipe.config import params, yaml
from segpipe.core.errors import ConfigError
from segpipe.core.opencv import cv2
from segpipe.data.maps import Maps

from conftest import call, reseal, segpipe

STUDENTS = """
  student:
    loss: ce
    teacher: ce
    train: {targets: distillation, epochs: 4, schedule: restarts(cycles=2)}
"""


@pytest.fixture
def taught(workspace):
    """The finished workspace with a student whose snapshots are averaged."""
    path = workspace / "params.yaml"
    text = path.read_text().replace("\nimports:", f"{STUDENTS}\nimports:", 1)
    path.write_text(yaml.edit(text, {"ensemble": {"average": {"members": ["student-*-snap*"]}}}))
    segpipe("dag", "--write", cwd=workspace)
    return workspace


@pytest.fixture
def fails(monkeypatch, capsys):
    """Run the command line in this process, whose imports are done; the message of its error."""

    def run(code, *words, cwd):
        monkeypatch.chdir(cwd)
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            app.main([str(word) for word in words])
        signal.signal(signal.SIGTERM, handler)
        said = capsys.readouterr().err
        assert ended.value.code == code, said
        assert said.count("segpipe: ") == 1
        return said

    return run


def test_a_student_waits_for_its_teacher_and_its_snapshots_make_an_ensemble(taught, fails):
    stages = yaml.load((taught / "dvc.yaml").read_text())["stages"]
    assert "data/train/ce-${item.seed}" in stages["train_taught_by_ce"]["deps"]
    assert stages["train"]["matrix"]["run"] == ["ce", "ce_jml"]
    call("dvc", "repro", "evaluate_ensemble", cwd=taught)
    members = json.loads((taught / "data/ensemble/average/ensemble.json").read_text())["members"]
    assert [member["key"] for member in members] == ["student-0-snap1", "student-0-snap2"]
    first, second = (taught / f"data/predict/student-0-snap{i}/val_logits.bin" for i in (1, 2))
    assert first.read_bytes() != second.read_bytes()
    status = call("dvc", "status", "train_taught_by_ce", "predict_snapshots_of_student", cwd=taught).stdout
    assert "up to date" in status
    # Another teacher is another student.
    (taught / "data/train/ce-0/model.pt").write_bytes(b"")
    assert "run `segpipe train --run ce --seed 0`" in fails(3, "train", "--run", "student", cwd=taught)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs.student.teacher": None}, "runs.student: targets 'distillation' need a teacher"),
        ({"runs.student.teacher": "cee"}, "unknown run 'cee'; did you mean 'ce'?"),
        ({"runs.student.teacher": "student"}, "'student' would learn from itself"),
        ({"runs.student.train": {}}, "only targets 'distillation' take a teacher"),
        ({"folds.runs": ["student"]}, "'student' has a teacher, which has seen the images of every fold"),
        ({"ensemble": {"average": {"members": ["ce-*-snap*"]}}}, "'ce-*-snap*' matches no member"),
        ({"train.patience": 2}, "patience would end a run before its snapshots"),
        ({"runs.student.train": {"targets": "distillation", "schedule": "restarts(cycles=9)"}}, "cannot hold 9 cycles"),
        ({"runs.ce.loss": "lovasz", "train.targets": "smoothing"}, "wants hard labels, targets 'smoothing' are soft"),
        ({"train.targets": "semi_supervised", "train.sampling": "oversample"}, "hide labels that sampling"),
        ({"predict.passes": -1}, "wanted greater than or equal to 0"),
        ({"train.warmup_epochs": 99}, "warmup_epochs is 99"),
        ({"train.schedule": "cosine(floor=5)"}, "floor is 5, wanted a number from 0 to 1"),
        ({"train.optimizer": "adam"}, "unknown optimizer 'adam'; did you mean 'adamw'?"),
        ({"train.sampling": "lmp(mx=1)"}, "has no option 'mx'; did you mean 'mix'?"),
        ({"train.augment.crop": [8, 8]}, "wanted greater than or equal to 16"),
        ({"predict.overlap": 1.0}, "predict.overlap"),
    ],
)
def test_wrong_parameters_are_one_line(taught, changes, message):
    text = yaml.edit((taught / "params.yaml").read_text(), changes)
    with pytest.raises(ConfigError, match=re.escape(message)):
        params.parse(text)


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (2, ["train", "--loss", "ce", "--set", "train.augment.crop=[640, 640]"], "crop is [640, 640], the largest"),
        (3, ["train", "--loss", "ce", "--set", "model.weights=none.pt"], "none.pt is missing"),
        (3, ["train", "--loss", "ce", "--set", "model.weights=other.pt"], "other.pt is of another network"),
        (3, ["train", "--loss", "ce", "--set", "model.weights=text.pt"], "text.pt holds no plain weights"),
        (2, ["train", "--loss", "ce", "--set", "model.name=unett"], "did you mean 'unet'?"),
        (2, ["predict", "--run", "ce", "--set", "predict.passes=2"], "model.dropout above 0"),
        (2, ["predict", "--run", "ce", "--snapshot", "1"], "run 'ce' leaves 0 snapshots"),
    ],
)
def test_wrong_input_to_a_stage_is_one_line(workspace, code, words, message, fails):
    torch.save(models.create("segnet", 8, width=4).state_dict(), workspace / "other.pt")
    (workspace / "text.pt").write_text("no weights")
    assert message in fails(code, *words, cwd=workspace)


def test_a_teacher_with_other_classes_is_refused(taught, fails):
    path = taught / "data/train/ce-0/config.json"
    config = json.loads(path.read_text())
    config["classes"] = [*config["classes"][:-1], "unicorn"]
    path.write_text(json.dumps(config))
    reseal(path.parent)
    assert "knows 8 classes" in fails(3, "train", "--run", "student", cwd=taught)


def test_training_started_with_weights_begins_from_them(workspace):
    segpipe("train", "--loss", "ce", "--set", "train.epochs=1", cwd=workspace)
    weights = workspace / "runs/adhoc/ce-0/model.pt"
    kept = workspace / "start.pt"
    kept.write_bytes(weights.read_bytes())
    options = ["--set", f"model.weights={kept}", "--set", "train.lr=1e-12", "--set", "train.epochs=1"]
    segpipe("train", "--loss", "ce", *options, cwd=workspace)
    before, after = (torch.load(path, weights_only=True) for path in (kept, weights))
    assert torch.allclose(before["head.weight"], after["head.weight"], atol=1e-8)
    assert json.loads((workspace / "runs/adhoc/ce-0/config.json").read_text())["weights_sha256"]


def test_a_signal_in_the_middle_of_an_epoch_loses_no_step(workspace):
    options = ["train", "--loss", "ce", "--set", "train.epochs=30", "--set", "model.dropout=0.3"]
    segpipe(*options, cwd=workspace)
    folder = workspace / "runs/adhoc/ce-0"
    wanted = (folder / "model.pt").read_bytes(), (folder / "history.csv").read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "segpipe", *options], cwd=workspace, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "epoch 2/30" in line:
            break
    time.sleep(0.03)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert list((workspace / ".segpipe/checkpoints").rglob("state.pt"))
    assert "resuming after epoch" in segpipe(*options, cwd=workspace).stderr
    assert ((folder / "model.pt").read_bytes(), (folder / "history.csv").read_bytes()) == wanted


def test_two_processes_train_through_the_command_line(workspace):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "segpipe"]
    words = ["train", "--loss", "0.25*ce + 0.75*jml", "--set", "train.epochs=2", "--json"]
    done = call(*command, *words, cwd=workspace)
    together = json.loads(done.stdout)
    assert done.stdout.count("{") == 1  # one process speaks
    alone = json.loads(segpipe(*words, cwd=workspace).stdout)
    assert together["val_miou_dataset"] == pytest.approx(alone["val_miou_dataset"], abs=0.02)
    assert together["path"] == alone["path"]


def photos(folder, number=3):
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(number):
        image = random.integers(0, 256, (50 + 40 * i, 90 - 20 * i, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"photo{i}.{'jpg' if i else 'png'}"), image)
    return folder


def test_new_images_of_any_size_get_label_maps_of_their_size(workspace):
    given = photos(workspace / "photos")
    result = json.loads(segpipe("infer", given, "--model", "ce", "--probs", "--json", cwd=workspace).stdout)
    assert len(result["labels"]) == 3
    for i in range(3):
        labels = cv2.imread(str(workspace / f"runs/infer/photo{i}.png"), cv2.IMREAD_UNCHANGED)
        overlay = cv2.imread(str(workspace / f"runs/infer/photo{i}_overlay.png"))
        probs = np.load(workspace / f"runs/infer/photo{i}_probs.npy")
        assert labels.shape[:2] == overlay.shape[:2] == probs.shape[1:] == (50 + 40 * i, 90 - 20 * i)
        assert probs.sum(0) == pytest.approx(np.ones(probs.shape[1:]), abs=5e-3)


def test_looks_are_options_of_infer_and_of_predict(workspace):
    given = photos(workspace / "photos", 1)
    looks = ["--flips", "--scales", "0.5,1", "--window", "32x48", "--overlap", "0.25", "--probs"]
    segpipe("infer", given, "--model", "ce", *looks, "--out", "many", cwd=workspace)
    segpipe("infer", given, "--model", "ce", "--probs", "--out", "one", cwd=workspace)
    many, one = (np.load(workspace / name / "photo0_probs.npy") for name in ("many", "one"))
    assert many.shape == one.shape
    assert not np.array_equal(many, one)
    options = ["predict.flips=true", "predict.scales=[0.5, 1.0]", "predict.window=[32, 48]"]
    segpipe("predict", "--run", "ce", *(w for o in options for w in ("--set", o)), cwd=workspace)
    shapes = [Maps(workspace / top / "predict/ce-0/val_logits").shapes for top in ("runs/adhoc", "data")]
    assert shapes[0] == shapes[1]


def test_monte_carlo_passes_show_what_a_network_is_unsure_of(workspace):
    options = ["--set", "model.name=bayesian_segnet", "--set", "train.epochs=1"]
    segpipe("train", "--loss", "ce", *options, cwd=workspace)
    given = photos(workspace / "photos", 1)
    segpipe("infer", given, "--model", "runs/adhoc/ce-0", "--passes", "3", cwd=workspace)
    for name in ("entropy", "mutual_information"):
        assert cv2.imread(str(workspace / f"runs/infer/photo0_{name}.png")).shape == (50, 90, 3)


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (3, ["photos", "--model", "cee"], "no trained run at cee"),
        (3, ["nothing.png", "--model", "ce"], "nothing.png is missing"),
        (3, ["empty", "--model", "ce"], "empty holds no image"),
        (3, ["broken.png", "--model", "ce"], "broken.png"),
        (2, ["photos", "--model", "ce", "--scales", "1,x"], "wanted numbers from 0.25 to 4"),
        (2, ["photos", "--model", "ce", "--window", "64"], "wanted HEIGHTxWIDTH"),
        (2, ["photos", "--model", "ce", "--passes", "2"], "model.dropout above 0"),
        (2, ["photos", "--model", "ce", "--out", "photos"], "holds photo0.png itself"),
        (2, ["photos", "photos/photo0.png", "--model", "ce"], "would both become"),
        (2, ["photos", "more/photo0_overlay.png", "--model", "ce"], "would both become"),
        (3, ["photos", "--model", "ce", "--snapshot", "1"], "snapshot1.pt"),
    ],
)
def test_wrong_input_to_infer_is_one_line(workspace, code, words, message, fails):
    photos(workspace / "photos", 1)
    (workspace / "empty").mkdir()
    shutil.copytree(workspace / "photos", workspace / "more")
    (workspace / "more/photo0.png").rename(workspace / "more/photo0_overlay.png")
    (workspace / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert message in fails(code, "infer", *words, cwd=workspace)
    assert not (workspace / "runs/infer").exists()


def test_an_export_gives_the_probabilities_of_infer(workspace):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs segpipe[onnx]")
    result = json.loads(segpipe("export", "--model", "ce", "--json", cwd=workspace).stdout)
    assert result["difference"] < 1e-4
    height, width = result["size"]
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    (workspace / "photos").mkdir()
    cv2.imwrite(str(workspace / "photos/a.png"), image[..., ::-1])
    segpipe("infer", "photos", "--model", "ce", "--probs", cwd=workspace)
    session = onnxruntime.InferenceSession(str(workspace / result["path"]), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image[None]})
    rounded = np.load(workspace / "runs/infer/a_probs.npy").astype(np.float32)  # as stage predict keeps them
    assert found[0] == pytest.approx(rounded, abs=0.01)
    classes = json.loads((workspace / "data/prepare/index.json").read_text())["classes"]
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == classes


def test_wrong_input_to_export_is_one_line(workspace, fails):
    assert "ends in .onnx" in fails(2, "export", "--model", "ce", "--out", "model.pt", cwd=workspace)
    assert "no trained run" in fails(3, "export", "--model", "nothing", cwd=workspace)
    assert "wanted HEIGHTxWIDTH" in fails(2, "export", "--model", "ce", "--size", "big", cwd=workspace)
