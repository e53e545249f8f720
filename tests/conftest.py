"""Shared by all tests: the plain versions on the path, a command-line runner, tiny workspaces."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

# Before torch is loaded: two test processes of as many threads as cores wait for each other, and take twice as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from filelock import FileLock

from segpipe.core import instructions

import zygote

instructions.pin()  # before torch and NumPy are loaded

ROOT = Path(__file__).parents[1]
IMAGES = 6  # of a split of the tiny workspaces: most of a stage's time is spent on its images
sys.path.insert(0, str(ROOT / "tests"))

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PATH"] = f"{ROOT / 'tests/bin'}{os.pathsep}{os.environ['PATH']}"
os.environ["DVC_TEST"] = "true"  # no look for a newer DVC, which is a process of its own after each command
for name in ("DVC_STAGE", "DVC_ROOT"):
    os.environ.pop(name, None)


def pytest_configure(config):
    """Begin the server of commands in each process that runs tests."""
    alone = not config.getoption("numprocesses", None)
    if zygote.ADDRESS not in os.environ and (alone or hasattr(config, "workerinput")):
        os.environ[zygote.ADDRESS] = zygote.start()


def call(*command, cwd, check=True, env=None, timeout=600):
    """Run a program; on failure show what it printed."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )
    if check and result.returncode:
        raise AssertionError(f"{command} gave {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return result


def segpipe(*arguments, cwd, check=True, env=None, seconds=None):
    """Run the command line in a process of its own, forked from one that has loaded it already (see zygote.py)."""
    words, environment = [str(word) for word in arguments], {**os.environ, **(env or {})}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull) as nothing:
        streams = [stream.fileno() for stream in (nothing, out, err)]
        address, folder = os.environ[zygote.ADDRESS], str(Path(cwd).resolve())
        code = zygote.ask(address, ["segpipe", *words], folder, environment, streams, seconds)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    result = subprocess.CompletedProcess(words, code, *texts)
    if check and code:
        raise AssertionError(f"{words} gave {code}:\n{result.stdout}\n{result.stderr}")
    return result


def segpipe_here(*arguments, cwd, check=True):
    """The same in this process, without the second that a process of its own takes to load: for commands that read."""
    from segpipe.cli.app import main

    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    try:
        with chdir(cwd), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([str(word) for word in arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)
    done = subprocess.CompletedProcess(arguments, ended.value.code, out.getvalue(), err.getvalue())
    if check and done.returncode:
        raise AssertionError(f"{arguments} gave {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def make_workspace(folder, *arguments):
    """`segpipe init scenes --profile tiny`, with half of the images."""
    segpipe("init", "scenes", "--profile", "tiny", "--into", folder, *arguments, cwd=folder.parent)
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("limit: 12", f"limit: {IMAGES}"))
    return folder


def reseal(folder):
    """Let a folder of outputs pass for whole after a test has changed its files."""
    from segpipe.core import outputs

    marker = folder / outputs.MARKER
    held = {key: value for key, value in json.loads(marker.read_text()).items() if key not in ("files", "sha256")}
    inside = sorted(path for path in folder.rglob("*") if path.is_file() and path != marker)
    sums = {path.relative_to(folder).as_posix(): outputs.digest_file(path) for path in inside}
    marker.write_text(json.dumps(outputs.sealed({**held, "files": sums}), indent=1, ensure_ascii=False) + "\n")


def tracked(folder):
    """{path: bytes} of every tracked output: what DVC caches and what lies in results/."""
    found = {}
    for top in ("data", "results"):
        for path in sorted((folder / top).rglob("*")):
            if path.is_file() and path.name != "README.md":
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def run_all(folder):
    """Every stage of a workspace, as `dvc repro` runs them, and what it writes down of them. DVC itself would take most
    of the time; tests of the pipeline run it.
    """
    from segpipe.config.context import Context
    from segpipe.config.params import load
    from segpipe.report.provenance import commands

    with chdir(folder):
        loaded = load()
        lines = ["segpipe code", *commands(Context(loaded, loaded))]
    for line in lines:
        segpipe(*shlex.split(line)[1:], cwd=folder, env={"DVC_STAGE": "a test"})
    call("dvc", "commit", "--force", cwd=folder)


def made_once(factory, name, *arguments):
    """A tiny workspace after all its stages, made once for all test processes, which wait for it."""
    top = factory.getbasetemp()
    top = top.parent if "PYTEST_XDIST_WORKER" in os.environ else top
    folder = top / name / "w"
    with FileLock(top / f"{name}.lock"):
        if not (top / name / "done").exists():
            shutil.rmtree(folder.parent, ignore_errors=True)
            folder.parent.mkdir()
            run_all(make_workspace(folder, *arguments))
            (top / name / "done").touch()
    return folder


@pytest.fixture(scope="session")
def committed(tmp_path_factory):
    """A folder with params.yaml and results/ of git's HEAD; what this machine trains is compared by `verify` alone."""
    import readme

    return readme.committed(tmp_path_factory.mktemp("committed"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A tiny workspace after all its stages; read only, copy it to change it."""
    return made_once(tmp_path_factory, "finished")


@pytest.fixture(scope="session")
def folded(tmp_path_factory):
    """A workspace whose runs are also trained on two folds; read only."""
    overrides = ["folds.runs=[ce, ce_jml]", "folds.number=2", "crf.runs=[]", "ensemble={}", "train.epochs=2"]
    return made_once(tmp_path_factory, "folded", *(word for override in overrides for word in ("--set", override)))


@pytest.fixture
def workspace(finished, tmp_path):
    """A copy of the finished workspace, free to change."""
    folder = tmp_path / "w"
    shutil.copytree(finished, folder, symlinks=True)
    return folder


@pytest.fixture
def real_data():
    """The folder of real datasets, which CI provides."""
    path = os.environ.get("SEGPIPE_TEST_DATA")
    if not path:
        pytest.skip("SEGPIPE_TEST_DATA is unset: set it to a folder with CamVid/ and CHASE_DB1/ to run this test")
    return Path(path)
