"""dvc.yaml: generated, checked, and honest about the code that each stage imports."""

import json
import subprocess
import sys

import pytest
import yaml

from segpipe.config import code, dag, params, yaml

from conftest import ROOT, call, segpipe

TRACE = """
import sys, atexit, json, os
def report():
    import segpipe
    root = os.path.dirname(segpipe.__file__)
    files = [getattr(m, "__file__", None) for n, m in list(sys.modules.items()) if n.startswith("segpipe")]
    names = sorted(os.path.relpath(f, root) for f in files if f)
    json.dump(names, open(os.environ["TRACE_FILE"], "w"))
atexit.register(report)
sys.argv = sys.argv[1:]
os.environ["DVC_STAGE"] = "traced"
import segpipe.cli
segpipe.cli._refuse_stale_dag = lambda arguments: None
segpipe.cli.main()
"""


def test_the_committed_dag_fits(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "up to date" in segpipe("dag", "--check", cwd=ROOT).stdout


def test_the_default_pipeline_is_small():
    loaded = params.load(ROOT / "params.yaml")
    runs, seeds = len(loaded.runs), len(loaded.seeds)
    stages = 3 + 3 * runs * seeds + 2 * len(loaded.crf_keys()) + 2 * len(loaded.ensemble) + 1
    assert (runs, seeds, loaded.threads) == (4, 2, 2)
    assert stages <= 45


@pytest.mark.parametrize(
    ("stage", "arguments"),
    [
        ("download", []),
        ("prepare", []),
        ("stats", []),
        ("train", ["--run", "ce_jml"]),
        ("predict", ["--run", "ce"]),
        ("crf", ["--run", "ce"]),
        ("ensemble", ["--method", "plurality"]),
        ("evaluate", ["--ensemble", "average"]),
        ("report", []),
    ],
)
def test_code_dependencies_are_what_a_stage_imports(workspace, tmp_path, stage, arguments):
    trace = tmp_path / "trace.json"
    call(sys.executable, "-c", TRACE, "segpipe", stage, *arguments, cwd=workspace, env={"TRACE_FILE": str(trace)})
    loaded = {name for name in json.loads(trace.read_text()) if not name.startswith("commands/")}
    # The command line imports every stage and the generator: they choose what runs, not what it computes.
    outside = {"cli.py", "__main__.py", "dag.py", "code.py", "data/cards/__init__.py"} | {
        n for n in loaded if n.startswith("stages/")
    }
    listed = {path.as_posix() for path in code.files_of_stage(stage)}
    assert loaded - listed <= outside
    by_name = ("losses/", "models/", *(("crf/",) if stage in ("train", "predict") else ()))  # a network may end in one
    chosen_by_name = {path for path in listed if path.startswith(by_name)}
    by_what_is_read = {f"data/{name}.py" for name in ("archives", "fetch", "fill", "geotiff", "masks", "obtain")} | {
        *(name for name in listed if name.startswith("data/layouts/")),
        "data/scenes.py",
        "data/paint.py",
        "data/annotators.py",
        "data/geometry.py",
    }
    assert listed - loaded <= chosen_by_name | by_what_is_read


def test_adding_a_run_is_noticed_until_the_dag_is_written(workspace):
    text = (workspace / "params.yaml").read_text()
    runs = {"ce": {"loss": "ce"}, "ce_jml": {"loss": "0.25*ce + 0.75*jml"}, "dice": {"loss": "dice"}}
    (workspace / "params.yaml").write_text(yaml.edit(text, {"runs": runs}))
    done = segpipe("dag", "--check", cwd=workspace, check=False)
    assert done.returncode == 2
    assert "segpipe dag --write" in done.stderr
    stopped = call("dvc", "repro", cwd=workspace, check=False)
    assert stopped.returncode
    assert "segpipe dag --write" in stopped.stdout + stopped.stderr
    segpipe("dag", "--write", cwd=workspace)
    report = yaml.safe_load((workspace / "dvc.yaml").read_text())["stages"]["report"]["deps"]
    assert "results/runs/dice-0/metrics.json" in report


def test_a_file_of_someone_else_is_not_overwritten(workspace):
    (workspace / "dvc.yaml").write_text("stages:\n  mine:\n    cmd: echo\n")
    done = segpipe("dag", "--write", cwd=workspace, check=False)
    assert (done.returncode, "would be lost" in done.stderr) == (2, True)
    assert "mine" in (workspace / "dvc.yaml").read_text()


def test_text_outside_the_marks_is_kept(workspace):
    path = workspace / "dvc.yaml"
    path.write_text("# mine above\n" + path.read_text() + "# mine below\n")
    segpipe("dag", "--write", cwd=workspace)
    assert path.read_text().startswith("# mine above\n")
    assert path.read_text().endswith("# mine below\n")
    path.write_text(path.read_text().replace(dag.END, ""))
    assert segpipe("dag", "--write", cwd=workspace, check=False).returncode == 2


def test_without_crf_and_ensembles_the_dag_is_valid(workspace):
    text = yaml.edit((workspace / "params.yaml").read_text(), {"crf.runs": [], "ensemble": {}})
    (workspace / "params.yaml").write_text(text)
    segpipe("dag", "--write", cwd=workspace)
    listed = call("dvc", "stage", "list", "--name-only", cwd=workspace).stdout.split()
    assert "report" in listed
    assert not any(name.startswith(("crf", "ensemble")) for name in listed)


def test_a_changed_package_is_noticed_in_a_workspace(workspace):
    path = workspace / dag.CODE
    hashes = json.loads(path.read_text())
    path.write_text(json.dumps({**hashes, "train": "of an older version"}))
    done = segpipe("dag", "--check", cwd=workspace, check=False)
    assert (done.returncode, "code.json" in done.stderr) == (2, True)


def test_the_shell_finds_nothing_of_typer_in_the_library():
    script = (
        "import sys, importlib.abc\n"
        "class Block(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('typer', 'dvc', 'yaml', 'pydantic'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import segpipe.losses, segpipe.metrics, segpipe.models, segpipe.crf, segpipe.ensembles\n"
        "import segpipe.training.loop\n"
        "segpipe.losses.create('ce'); segpipe.models.create('unet', 3)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
