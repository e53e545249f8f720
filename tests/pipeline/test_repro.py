"""The whole pipeline on the tiny profile: reproducible to the byte, whatever happens to it."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from segpipe.config import yaml

from conftest import IMAGES, call, make_workspace, reseal, segpipe, tracked

MANY_PARTS = {
    "schedule": "restarts(cycles=3)", "averaging": "ema(decay=0.9)", "accumulate": 2, "sampling": "oversample",
    "lookahead": {"steps": 2, "rate": 0.5},
}  # fmt: skip
VOTES = {"average": None, "plurality": None}  # one member is enough for them


def edit(workspace, **changes):
    """Change values of params.yaml; `__` stands for a dot."""
    path = workspace / "params.yaml"
    path.write_text(yaml.edit(path.read_text(), {key.replace("__", "."): value for key, value in changes.items()}))


def ran(output):
    """The stages that a repro ran, beside the one that asks what the code means, which always runs in a workspace."""
    return set(re.findall(r"Running stage '([^']+)'", output)) - {"code"}


def test_stages_side_by_side_in_another_folder_give_the_same_bytes_and_dvc_finds_nothing_to_do(finished, tmp_path):
    other = make_workspace(tmp_path / "elsewhere")
    assert segpipe("repro", "-j", 3, cwd=other).stdout.startswith("18 stages ran, 1 were up to date")
    ours, theirs = tracked(finished), tracked(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert len(ours) > 60
    assert not ran(call("dvc", "repro", cwd=other).stdout)


def test_no_tracked_output_knows_time_host_or_folder(finished):
    words = [str(finished).encode(), os.uname().nodename.encode()]
    for name, content in tracked(finished).items():
        assert not any(word in content for word in words if len(word) > 3), name


def test_a_second_repro_runs_nothing_and_is_quick(workspace):
    start = time.monotonic()
    done = call("dvc", "repro", cwd=workspace)
    assert not ran(done.stdout)
    assert time.monotonic() - start < 20


def test_targets_globs_metrics_and_plots_work(workspace):
    call("dvc", "repro", "train@ce-0", cwd=workspace)
    call("dvc", "repro", "train", cwd=workspace)
    call("dvc", "repro", "--glob", "evaluate@*", cwd=workspace)
    shown = json.loads(call("dvc", "metrics", "show", "--json", cwd=workspace).stdout)
    files = shown[""]["data"]
    assert "results/runs/ce-0/headline.json" in files
    assert 0 <= files["results/runs/ce-0/headline.json"]["data"]["test"]["miou_dataset"] <= 1
    call("dvc", "plots", "show", "--out", "plots", cwd=workspace)
    assert (workspace / "plots" / "index.html").exists()


def test_experiments_and_diffs_work_in_git(workspace):
    call("git", "init", "-q", cwd=workspace)
    call("dvc", "config", "core.no_scm", "false", cwd=workspace)
    identity = {f"GIT_{who}_{what}": f"{who}@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    call("git", "add", "-A", cwd=workspace)
    call("git", "commit", "-qm", "before", cwd=workspace, env=identity)
    done = call("dvc", "exp", "run", "-S", "crf.tune.iterations=3", cwd=workspace, env=identity)
    assert ran(done.stdout) <= {"crf@ce-0", "evaluate_crf@ce-0", "report"}
    assert "iterations: 3" in (workspace / "params.yaml").read_text()
    call("dvc", "metrics", "diff", cwd=workspace)


def test_a_run_that_is_removed_added_or_changed_concerns_itself_and_the_fan_in_only(workspace):
    edit(workspace, runs={"ce": {"loss": "ce"}}, ensemble={"average": None})
    segpipe("dag", "--write", cwd=workspace)
    stages = ran(call("dvc", "repro", cwd=workspace).stdout)
    assert stages == {"ensemble@average", "evaluate_ensemble@average", "report"}
    assert (workspace / "data/train/ce_jml-0").exists()  # lies around, unread
    assert "ce_jml" not in (workspace / "results/report.html").read_text()
    members = json.loads((workspace / "data/ensemble/average/ensemble.json").read_text())["members"]
    assert [member["key"] for member in members] == ["ce-0"]
    own = {"train@focal-0", "predict@focal-0", "evaluate@focal-0"}
    for loss in ("focal", "focal(gamma=3.0)"):
        edit(workspace, runs={"ce": {"loss": "ce"}, "focal": {"loss": loss}})
        segpipe("dag", "--write", cwd=workspace)
        assert ran(call("dvc", "repro", cwd=workspace).stdout) == own | stages
        assert "focal" in (workspace / "results/tables/scores.md").read_text()


def test_a_fresh_clone_pulls_what_it_needs(finished, tmp_path):
    origin = tmp_path / "origin"
    shutil.copytree(finished, origin, symlinks=True)
    call("dvc", "remote", "add", "-d", "store", tmp_path / "store", cwd=origin)
    call("dvc", "push", cwd=origin)
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", ".dvc/config", ".dvcignore", ".segpipe/code.json", "results"):
        source, target = origin / name, clone / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    edit(clone, runs={"ce": {"loss": "ce"}}, ensemble=VOTES)
    segpipe("dag", "--write", cwd=clone)
    stages = ran(call("dvc", "repro", "--pull", "--allow-missing", cwd=clone).stdout)
    assert not {name for name in stages if name.startswith(("train", "download", "prepare", "predict"))}
    assert "ce_jml" not in (clone / "results/report.html").read_text()
    edit(clone, runs={"ce": {"loss": "ce"}, "dice": None}, ensemble={"plurality": None})
    segpipe("dag", "--write", cwd=clone)
    stages = ran(call("dvc", "repro", "--pull", "--allow-missing", cwd=clone).stdout)
    assert "train@dice-0" in stages
    assert not {"train@ce-0", "download", "prepare"} & stages


def start_training(workspace, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "segpipe", "train", "--run", "ce_jml", *arguments],
        cwd=workspace, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def interrupted(workspace, number, epoch):
    """Send a signal while the given epoch is trained; what it said. A training that was quicker is repeated."""
    for _ in range(5):
        shutil.rmtree(workspace / "data/train/ce_jml-0", ignore_errors=True)
        process = start_training(workspace)
        next(line for line in process.stderr if f"epoch {epoch}/" in line)
        time.sleep(random.random() * 0.05)
        process.send_signal(number)
        said = process.stderr.read()
        if process.wait() != 0:
            return process.returncode, said
    raise AssertionError("the training was always done before the signal came")


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_killed_training_ends_in_the_same_bytes(workspace, epoch):
    wanted = {name: content for name, content in tracked(workspace).items() if name.startswith("data/train/ce_jml-0/")}
    code, _ = interrupted(workspace, signal.SIGKILL, epoch)
    assert code == -signal.SIGKILL
    assert re.search("resuming after epoch", segpipe("train", "--run", "ce_jml", cwd=workspace).stderr)
    found = {name: content for name, content in tracked(workspace).items() if name.startswith("data/train/ce_jml-0/")}
    assert found == wanted
    assert not list((workspace / ".segpipe").glob("checkpoints/*"))


def test_a_repro_that_was_killed_in_a_training_of_many_parts_ends_in_the_same_bytes(workspace):
    """Snapshots, an average of weights, slow weights and accumulated gradients, inside a DVC stage."""
    edit(workspace, train={**yaml.load((workspace / "params.yaml").read_text())["train"], **MANY_PARTS})
    again = ("dvc", "repro", "--force", "--single-item", "train@ce_jml-0")
    segpipe("dag", "--write", cwd=workspace)
    call("dvc", "repro", "train@ce_jml-0", cwd=workspace)
    wanted = {name: content for name, content in tracked(workspace).items() if name.startswith("data/train/ce_jml-0/")}
    assert "data/train/ce_jml-0/snapshot3.pt" in wanted
    for _ in range(5):
        process = subprocess.Popen(
            again,
            cwd=workspace,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PATH": os.environ["PATH"].split(os.pathsep, 1)[1]},  # no command of the tests' own
        )
        next(line for line in process.stderr if "epoch 3/" in line)
        os.killpg(process.pid, signal.SIGKILL)
        if process.wait() != 0:
            break
    done = call(*again, cwd=workspace)
    assert re.search("resuming after epoch", done.stdout + done.stderr)
    found = {name: content for name, content in tracked(workspace).items() if name.startswith("data/train/ce_jml-0/")}
    assert found == wanted
    assert "didn't change" in call("dvc", "repro", "--single-item", "train@ce_jml-0", cwd=workspace).stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_training_says_so_and_goes_on(workspace, number, code):
    found, said = interrupted(workspace, number, 2)
    assert found == code
    assert "run the same command" in said
    assert re.search("resuming after epoch", segpipe("train", "--run", "ce_jml", cwd=workspace).stderr)


def test_two_loader_processes_give_the_same_weights(workspace):
    wanted = (workspace / "data/train/ce-0/model.pt").read_bytes()
    edit(workspace, train__workers=2)
    shutil.rmtree(workspace / "data/train/ce-0")
    segpipe("train", "--run", "ce", cwd=workspace)
    assert (workspace / "data/train/ce-0/model.pt").read_bytes() == wanted


def test_a_second_writer_is_refused(workspace):
    process = start_training(workspace, "--set", "train.epochs=400")
    next(line for line in process.stderr if "epoch 1/" in line)
    done = segpipe("train", "--run", "ce_jml", "--set", "train.epochs=400", cwd=workspace, check=False)
    process.kill()
    process.wait()
    assert done.returncode == 5
    assert f"being written by process {process.pid}" in done.stderr


def test_a_flipped_bit_in_a_model_stops_predict(workspace):
    path = workspace / "data/train/ce-0/model.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.unlink()
    path.write_bytes(content)
    done = segpipe("predict", "--run", "ce", cwd=workspace, check=False)
    assert (done.returncode, "damaged" in done.stderr) == (3, True)


def test_a_fit_on_images_that_a_member_was_trained_on_is_refused(workspace):
    path = workspace / "data/predict/ce-0/train_ids.json"
    found = json.loads(path.read_text())
    index = json.loads((workspace / "data/prepare/index.json").read_text())
    found["ids"].append(index["splits"]["val"][0]["id"])
    path.write_text(json.dumps(found))
    reseal(path.parent)
    done = segpipe("crf", "--run", "ce", cwd=workspace, check=False)
    assert (done.returncode, "was trained on val_00_0" in done.stderr) == (3, True)


def test_without_a_winning_crf_the_scores_stay_the_same(workspace):
    edit(workspace, crf__tune__bi_w=[0.0], crf__tune__pos_w=[0.0])
    call("dvc", "repro", "evaluate_crf", cwd=workspace)
    plain, refined = (
        json.loads((workspace / f"results/{k}/ce-0/metrics.json").read_text())["test"] for k in ("runs", "crf")
    )
    assert {k: v for k, v in plain.items() if "iou" in k} == {k: v for k, v in refined.items() if "iou" in k}


def test_overrides_never_touch_what_dvc_tracks(workspace):
    before = tracked(workspace)
    segpipe("train", "--run", "ce", "--set", "train.epochs=1", cwd=workspace)
    segpipe("train", "--loss", "0.5*ce + 0.5*dice", "--set", "train.epochs=1", cwd=workspace)
    for command in ("predict", "crf", "evaluate"):
        done = segpipe(command, "--loss", "0.5*ce + 0.5*dice", "--set", "train.epochs=1", cwd=workspace)
        assert "runs/adhoc" in done.stdout
    segpipe("report", "--set", "report.metric=acc", cwd=workspace)
    assert (workspace / "runs/adhoc/report/report.html").exists()
    assert tracked(workspace) == before
    assert (workspace / "runs/adhoc/ce_dice-0/model.pt").exists()
    changed = segpipe("predict", "--run", "ce", "--set", "train.epochs=5", cwd=workspace, check=False)
    assert changed.returncode == 3  # no model was trained with five epochs


def test_train_by_loss_alone_makes_its_inputs(tmp_path):
    folder = make_workspace(tmp_path / "w")
    done = segpipe("train", "--loss", "focal", cwd=folder)
    assert "runs/adhoc/focal-0: val mIoU^D" in done.stdout
    assert "overlay: runs/overlays/focal-0.png" in done.stdout
    assert "next: segpipe predict --loss focal" in done.stdout
    assert "s left" in done.stderr
    for path in ("runs/adhoc/focal-0/model.pt", "runs/overlays/focal-0.png", "data/prepare/complete.json"):
        assert (folder / path).exists()
    assert not (folder / "data/train").exists()
    call("dvc", "repro", "stats", cwd=folder)  # what was made by hand does not disturb DVC


def test_verify_agrees_with_itself_and_names_what_differs(workspace, tmp_path):
    segpipe("verify", "--record", cwd=workspace)
    shutil.copytree(workspace / "results", tmp_path / "reference")
    done = segpipe("verify", "--against", tmp_path / "reference", cwd=workspace)
    assert "bytes must agree" in done.stdout
    assert "agrees" in done.stdout
    path = workspace / "results/runs/ce-0/headline.json"
    scores = json.loads(path.read_text())
    scores["test"]["miou_dataset"] += 0.001
    path.write_text(json.dumps(scores))
    reseal(path.parent)
    done = segpipe("verify", "--against", tmp_path / "reference", cwd=workspace, check=False)
    assert done.returncode == 1
    assert "runs/ce-0/headline.json differs" in done.stdout
    done = segpipe("verify", "--against", tmp_path / "reference", "--json", cwd=workspace, check=False)
    assert (done.returncode, json.loads(done.stdout)["agrees"]) == (1, False)
    (tmp_path / "reference/environment.json").write_text("{}")  # another machine
    done = segpipe("verify", "--against", tmp_path / "reference", cwd=workspace, check=False)
    assert (done.returncode, "miou_dataset differs, and too few runs have two seeds" in done.stdout) == (1, True)
    shutil.copytree(workspace / "results/runs/ce-0", tmp_path / "reference/runs/ce-0", dirs_exist_ok=True)
    assert "as those of two seeds" in segpipe("verify", "--against", tmp_path / "reference", cwd=workspace).stdout


def test_a_profile_kept_as_tables_is_verified_score_by_score(workspace, tmp_path):
    kept = tmp_path / "kept"
    shutil.copytree(workspace / "results/tables", kept / "tables")
    assert "agrees" in segpipe("verify", "--against", kept, cwd=workspace).stdout
    path = workspace / "results/tables/scores.csv"
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[4] = "0.01"  # miou_dataset
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:-1]]) + "\n")
    reseal(path.parent)
    done = segpipe("verify", "--against", kept, cwd=workspace, check=False)
    assert done.returncode == 1
    assert "miou_dataset differs, and too few runs have two seeds" in done.stdout
    (kept / "tables/scores.csv").write_text("what,folder,acc\nce,results/runs/ce-0,high\n")
    reseal(kept / "tables")
    broken = segpipe("verify", "--against", kept, cwd=workspace, check=False)
    assert (broken.returncode, "is no table of scores" in broken.stderr) == (3, True)
    assert f"{lines[-1].split(',')[3].removeprefix('results/')} is missing" in done.stdout


def test_metrics_follow_from_the_stored_counts(finished):
    from segpipe.metrics import summarize
    from segpipe.metrics.tables import read_tables

    for folder in ("runs/ce-0", "crf/ce-0", "ensembles/average", "ensembles/plurality"):
        path = finished / "results" / folder
        stored = json.loads((path / "metrics.json").read_text())
        for split in ("val", "test"):
            held = read_tables(path, split)
            counts = held.tables.counts
            assert len(held.images) == len(held.groups) == len(counts) == IMAGES
            again = summarize(counts, quantiles=(1, 5), thresholds=(0.5, 0.7))
            assert {key: stored[split][key] for key in again if key != "per_class"} == {
                key: value for key, value in again.items() if key != "per_class"
            }


def test_nothing_but_tests_reads_the_planted_errors(finished):
    from conftest import ROOT

    assert (finished / "data/download/scenes/truth.json").exists()
    readers = [p for p in (ROOT / "pipeline").rglob("*.py") if "truth.json" in p.read_text()]
    assert [p.name for p in readers] == ["download.py"]  # which writes it
