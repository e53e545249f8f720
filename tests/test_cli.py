"""The command line: quick, grouped, one line an error, the right exit code."""

import json
import re
import resource
import subprocess
import sys

import pytest

from segpipe import losses
from segpipe.config import yaml

from conftest import call, make_workspace, segpipe


def cpu_seconds(*command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_answers_at_once_and_imports_nothing_heavy():
    # The time of a machine that does other things as well varies: one undisturbed answer is enough.
    assert any(cpu_seconds(sys.executable, "-m", "segpipe", "--help") < 0.3 for _ in range(20))
    done = call(sys.executable, "-X", "importtime", "-m", "segpipe", "--help", cwd=".")
    loaded = set(re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE))
    assert not loaded & {"torch", "numpy", "cv2", "sklearn", "matplotlib", "PIL", "pydantic", "yaml", "rich", "scipy"}


def test_help_groups_the_commands_and_each_has_a_sentence():
    text = segpipe("--help", cwd=".").stdout
    assert text.index("Stages, in the order") < text.index("Workspace:") < text.index("Library:")
    for name in re.findall(r"^  (\w+)  +\S", text[text.index("Stages,") :], re.MULTILINE):
        if name != "losses":
            assert "Usage: segpipe" in segpipe(name, "--help", cwd=".").stdout


def test_completion_knows_the_commands():
    done = call(
        sys.executable, "-m", "segpipe", cwd=".", check=False,
        env={"_SEGPIPE_COMPLETE": "complete_bash", "COMP_WORDS": "segpipe tr", "COMP_CWORD": "1"},
    )  # fmt: skip
    assert "train" in done.stdout


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A workspace in which nothing has run."""
    return make_workspace(tmp_path_factory.mktemp("empty") / "w")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "--loss", "focl"], 2, "unknown loss 'focl'; did you mean 'focal'?"),
        (["train", "--run", "cee"], 2, "unknown run 'cee'; did you mean 'ce'?"),
        (["train"], 2, "give --run NAME"),
        (["train", "--loss", "ce(class_weights=medain_frequency)"], 2, "did you mean 'median_frequency'"),
        (["train", "--run", "ce", "--set", "threads=["], 2, "not valid YAML"),
        (["train", "--run", "ce", "--loss", "ce"], 2, "exclude each other"),
        (["train", "--run", "ce", "--seed", "-1"], 2, "--seed"),
        (["train", "--run", "ce", "--device", "tpu"], 2, "unknown device 'tpu'"),
        (["train", "--run", "ce", "--set", "train.epoch=1"], 2, "did you mean 'epochs'"),
        (["trian"], 2, "trian"),
        (["predict", "--run", "ce"], 3, "data/train/ce-0 is missing; run `segpipe train --run ce --seed 0`"),
        (["crf", "--run", "ce"], 3, "is missing"),
        (["evaluate", "--run", "ce"], 3, "is missing"),
        (["evaluate"], 2, "give one of"),
        (["evaluate", "--ensemble", "averag"], 2, "did you mean 'average'"),
        (["ensemble", "--method", "plurality"], 3, "is missing"),
        (["evaluate", "--ensemble", "average"], 3, "run `segpipe ensemble --method average`"),
        (["prepare", "--set", "download.limit=5"], 3, "run `segpipe download --set download.limit=5`"),
        (["report"], 3, "is missing"),
        (["verify"], 3, "run `dvc repro`"),
        (["init", "scene"], 2, "unknown dataset 'scene'; did you mean 'scenes'?"),
        (["init", "cityscapes"], 2, "needs --source DIR"),
        (["init", "dark_zurich"], 2, "cannot be trained on"),
        (["datasets", "show", "camvd"], 2, "did you mean 'camvid'"),
        (["init", "camvid", "--source", "/nowhere"], 3, "is not a folder"),
        (["init", "scenes", "--profile", "tinny"], 2, "did you mean 'tiny'"),
        (["init", "scenes", "--set", "a.b=1"], 2, "no parameter 'a.b'"),
        (["losses", "show", "jmll"], 2, "did you mean 'jml'"),
    ],
)
def test_a_mistake_is_one_line_with_the_right_code(empty, arguments, code, words):
    done = segpipe(*arguments, cwd=empty, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert (done.returncode, words in last) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["losses"]])
def test_a_bare_command_prints_its_help(empty, arguments):
    done = segpipe(*arguments, cwd=empty, check=False)
    assert done.returncode == 2
    assert "Usage: segpipe" in done.stdout
    assert len(done.stdout.splitlines()) > 5


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("report.metric", "miou_datset", "did you mean 'miou_dataset'"),
        ("crf.tune.metric", "ece_dataset", "unknown metric"),
        ("download.dataset", "scene", "did you mean 'scenes'"),
    ],
)
def test_unknown_names_are_said_before_anything_runs(workspace, path, value, words):
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(yaml.edit(text, {path: value}))
    done = segpipe("dag", "--check", cwd=workspace, check=False)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_debug_shows_the_traceback(empty):
    done = segpipe("train", "--loss", "focl", "--debug", cwd=empty, check=False)
    assert "Traceback" in done.stderr
    assert done.returncode == 2


def test_outside_of_a_workspace_the_next_step_is_named(tmp_path):
    done = segpipe("stats", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "segpipe init scenes" in done.stderr


def test_dry_run_writes_nothing(empty):
    before = sorted(empty.rglob("*"))
    done = segpipe("train", "--loss", "dice", "--dry-run", cwd=empty)
    assert "runs/adhoc/dice-0" in done.stdout
    done = segpipe("train", "--loss", "dice", "--dry-run", "--json", cwd=empty)
    assert json.loads(done.stdout)["writes"] == "runs/adhoc/dice-0"
    assert sorted(empty.rglob("*")) == before


def test_json_goes_to_stdout_and_words_to_stderr(workspace):
    done = segpipe("evaluate", "--run", "ce", "--json", cwd=workspace)
    assert 0 <= json.loads(done.stdout)["test"]["miou_dataset"] <= 1
    assert "next: segpipe report" in done.stderr


def test_losses_are_listed_and_shown():
    listed = segpipe("losses", "list", cwd=".").stdout
    assert all(name in listed for name in losses.names())
    shown = segpipe("losses", "show", "focal", cwd=".").stdout
    assert "gamma=2.0" in shown
    assert "1708.02002" in shown


def test_doctor_finds_this_machine_fit(empty):
    done = segpipe("doctor", cwd=empty)
    assert "torch" in done.stdout
    assert "error" not in done.stdout
    assert json.loads(segpipe("doctor", "--json", cwd=empty).stdout)


def test_init_refuses_a_folder_that_is_not_empty(empty):
    done = segpipe("init", "scenes", "--into", empty, cwd=empty.parent, check=False)
    assert (done.returncode, "not empty" in done.stderr) == (2, True)


def test_a_folder_without_permission_is_one_line(tmp_path, empty, monkeypatch):
    import os

    if os.geteuid() == 0:
        target = tmp_path / "file"
        target.write_text("")  # root may write anywhere; a file in the way is refused for all
        done = segpipe("init", "scenes", "--into", target / "w", cwd=tmp_path, check=False)
    else:
        tmp_path.chmod(0o500)
        done = segpipe("init", "scenes", "--into", tmp_path / "w", cwd=empty, check=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
