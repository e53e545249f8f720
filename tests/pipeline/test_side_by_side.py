"""`segpipe repro -j N`: the same results as `dvc repro`, only what changed, and a failure in one line."""

import shutil

import pytest

from segpipe.cli import repro
from segpipe.cli.repro import Plan

from conftest import IMAGES, segpipe


@pytest.fixture
def work(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "w", symlinks=True)
    return tmp_path / "w"


def test_only_what_changed_and_what_follows_runs(work):
    shutil.rmtree(work / "results/tables")
    (work / "results/report.html").unlink()
    assert segpipe("repro", cwd=work).stdout.startswith("1 stages ran")
    assert (work / "results/report.html").is_file()


@pytest.mark.parametrize("cut", ["", '{"write": {"data/'])
def test_a_lock_that_a_killed_dvc_left_half_written_is_in_nobodys_way(work, cut):
    (work / ".dvc/tmp").mkdir(exist_ok=True)
    (work / ".dvc/tmp/rwlock").write_text(cut)
    assert segpipe("repro", cwd=work).stdout.startswith("0 stages ran")


def test_a_lock_that_is_whole_stays(tmp_path):
    path = tmp_path / "rwlock"
    path.write_text('{"write": {}, "read": {}}')
    repro._free(path)
    assert path.exists()
    repro._free(tmp_path / "none")


def test_a_failed_stage_is_one_line_and_the_rest_waits(work):
    text = (work / "params.yaml").read_text()
    (work / "params.yaml").write_text(text.replace(f"limit: {IMAGES}", f"limit: {IMAGES - 1}"))
    shutil.rmtree(work / "data/download")
    (work / "data/download").write_text("in the way")
    done = segpipe("repro", "-j", 2, cwd=work, check=False)
    assert done.returncode
    assert "stage download failed: " in done.stderr
    assert "stages never began; see .segpipe/repro/download.log" in done.stderr
    assert "Traceback" not in done.stderr


def test_outside_of_a_workspace_it_says_what_to_do(tmp_path):
    done = segpipe("repro", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "run inside a workspace (segpipe init)" in done.stderr
    assert segpipe("repro", "-j", 0, cwd=tmp_path, check=False).returncode == 2


def test_a_stage_begins_when_all_before_it_are_done():
    plan = Plan({"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}})
    assert plan.ready({}) == ["a"]
    assert plan.ready({"a": None}) == []
    plan.done.add("a")
    assert plan.ready({"b": None}) == ["c"]
    plan.failed["b"] = 3
    plan.done.add("c")
    assert plan.ready({}) == []
    assert plan.left == ["d"]
