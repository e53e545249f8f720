"""dvc.yaml: generated, checked, short; and what of it is told when it does not fit."""

import json
import subprocess
import sys

import pytest

from segpipe.config import dag, params, yaml

from conftest import ROOT, call, segpipe, segpipe_here


def test_the_committed_dag_fits(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "up to date" in segpipe_here("dag", "--check", cwd=ROOT).stdout


def test_the_default_pipeline_is_small():
    loaded = params.load(ROOT / "params.yaml")
    runs, seeds = len(loaded.runs), len(loaded.seeds)
    stages = 4 + 3 * runs * seeds + 2 * len(loaded.crf_keys()) + 2 * len(loaded.ensemble) + 1
    assert (runs, seeds, loaded.threads) == (4, 5, 2)
    assert stages <= 90


def test_no_stage_but_code_depends_on_a_file_of_the_package():
    stages = yaml.load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["code"]["deps"] == ["params.yaml", "pipeline/segpipe"]
    for name, stage in stages.items():
        assert name == "code" or not [dep for dep in stage.get("deps", ()) if dep.startswith("pipeline")]
        assert name == "code" or any("data/code.json" in one for one in stage["params"] if isinstance(one, dict)), name


def test_adding_a_run_is_noticed_until_the_dag_is_written(workspace):
    text = (workspace / "params.yaml").read_text()
    runs = {"ce": {"loss": "ce"}, "ce_jml": {"loss": "0.25*ce + 0.75*jml"}, "dice": {"loss": "dice"}}
    (workspace / "params.yaml").write_text(yaml.edit(text, {"runs": runs}))
    done = segpipe_here("dag", "--check", cwd=workspace, check=False)
    assert done.returncode == 2
    assert "segpipe dag --write" in done.stderr
    stopped = call("dvc", "repro", cwd=workspace, check=False)
    assert stopped.returncode
    assert "segpipe dag --write" in stopped.stdout + stopped.stderr
    segpipe_here("dag", "--write", cwd=workspace)
    report = yaml.load((workspace / "dvc.yaml").read_text())["stages"]["report"]["deps"]
    assert "results/runs/dice-0/metrics.json" in report


def test_a_file_of_someone_else_is_not_overwritten(workspace):
    (workspace / "dvc.yaml").write_text("stages:\n  mine:\n    cmd: echo\n")
    done = segpipe_here("dag", "--write", cwd=workspace, check=False)
    assert (done.returncode, "would be lost" in done.stderr) == (2, True)
    assert "mine" in (workspace / "dvc.yaml").read_text()


def test_text_outside_the_marks_is_kept(workspace):
    path = workspace / "dvc.yaml"
    path.write_text("# mine above\n" + path.read_text() + "# mine below\n")
    segpipe_here("dag", "--write", cwd=workspace)
    assert path.read_text().startswith("# mine above\n")
    assert path.read_text().endswith("# mine below\n")
    path.write_text(path.read_text().replace(dag.END, ""))
    assert segpipe_here("dag", "--write", cwd=workspace, check=False).returncode == 2


def test_without_crf_and_ensembles_the_dag_is_valid(workspace):
    text = yaml.edit((workspace / "params.yaml").read_text(), {"crf.runs": [], "ensemble": {}})
    (workspace / "params.yaml").write_text(text)
    segpipe_here("dag", "--write", cwd=workspace)
    listed = call("dvc", "stage", "list", "--name-only", cwd=workspace).stdout.split()
    assert "report" in listed
    assert not any(name.startswith(("crf", "ensemble")) for name in listed)


def test_a_change_of_the_installed_package_is_told_by_the_stages_it_concerns(workspace):
    path = workspace / "data/code.json"
    digests = json.loads(path.read_text())
    digests["train"]["ce_jml"] = digests["stats"] = "of an older version"
    path.write_text(json.dumps(digests))
    told = segpipe_here("dag", "--check", cwd=workspace).stdout
    assert "code or parameters changed since the last `dvc repro`: stats, train ce_jml; run `dvc repro`" in told


def test_a_damaged_file_of_digests_is_told_with_the_command_that_mends_it(workspace):
    for content in ("", "{", "[]", '{"train": {}}'):
        (workspace / "data/code.json").write_text(content)
        done = segpipe("stats", cwd=workspace, check=False, env={"DVC_STAGE": "stats"})
        assert done.returncode == 2
        assert done.stderr == (
            "segpipe: data/code.json is damaged; run `dvc repro --force --single-item code`, then dvc repro\n"
        )
    call("dvc", "repro", "--force", "--single-item", "code", cwd=workspace)
    assert "didn't change" in call("dvc", "repro", cwd=workspace).stdout
    assert "data/code.json" not in call("dvc", "status", cwd=workspace).stdout


def test_a_dag_of_the_old_form_is_told_with_the_command_that_mends_it(workspace):
    stages = yaml.load((workspace / "dvc.yaml").read_text())["stages"]
    del stages["code"]
    for stage in stages.values():
        stage["params"] = [one for one in stage.get("params", ()) if isinstance(one, str)]
    old = json.dumps({"stages": stages}, indent=1)  # JSON is YAML
    (workspace / "dvc.yaml").write_text(f"{dag.BEGIN}\n{old}\n{dag.END}\n")
    (workspace / "data/code.json").unlink()
    done = call("dvc", "repro", "--force", "stats", cwd=workspace, check=False)
    assert done.returncode
    assert (
        "segpipe: data/code.json is missing: dvc.yaml is of an older segpipe; run `segpipe dag --write`" in done.stderr
    )
    segpipe_here("dag", "--write", cwd=workspace)
    assert "code" in yaml.load((workspace / "dvc.yaml").read_text())["stages"]


def test_a_package_that_does_not_parse_is_told_by_file_and_line(tmp_path):
    from segpipe.config.meaning import Package
    from segpipe.core.errors import ConfigError

    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "a.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(ConfigError, match=r"a.py:2: .*; fix it or reinstall segpipe"):
        Package(tmp_path).digest([("segpipe.a", "f")])


def test_the_shell_finds_nothing_of_typer_in_the_library():
    script = (
        "import sys, importlib.abc\n"
        "class Block(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('typer', 'dvc', 'yaml', 'ruamel', 'pydantic'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import segpipe.losses, segpipe.metrics, segpipe.models, segpipe.crf, segpipe.ensembles, segpipe.refine\n"
        "import segpipe.training.loop, segpipe.refine.crf, segpipe.ensembles.members, segpipe.data.predictions\n"
        "segpipe.losses.create('ce'); segpipe.models.create('unet', 3)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
