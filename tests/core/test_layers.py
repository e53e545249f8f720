"""The arrows: cli -> stages -> library -> core, and one name in every place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from segpipe.config import code
from segpipe.core import registry
from segpipe.stages import NAMES

from conftest import ROOT

PACKAGE = ROOT / "pipeline" / "segpipe"
LIBRARY = ("losses", "metrics", "models", "crf", "ensembles", "data", "training", "reporting")
# Of the siblings a library package may import; all others meet in core.
SIBLINGS = {
    "training": {"data", "metrics", "losses", "models"},
    "reporting": {"metrics"},
    "crf": {"metrics"},
    "ensembles": {"metrics"},
    "models": {"crf"},
}
OUTSIDE = {"typer", "yaml", "dvc", "pydantic"}  # the library works without them


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", LIBRARY)
def test_the_library_knows_only_core_and_named_siblings(package):
    allowed = {package, "core", *SIBLINGS.get(package, ())}
    for path in (PACKAGE / package).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] not in OUTSIDE, (path, name)
            known = parts[0] != "segpipe" or len(parts) == 1 or parts[1] in allowed
            assert known or (path.name == "agreement.py" and parts[1] == "params"), (path, name)


def test_core_knows_nothing_of_segpipe_but_itself():
    for path in (PACKAGE / "core").glob("*.py"):
        for name in imports(path):
            assert not name.startswith("segpipe.") or name.startswith("segpipe.core"), (path, name)


def test_stages_do_not_know_the_command_line():
    for path in (PACKAGE / "stages").glob("*.py"):
        assert not any(name.startswith(("segpipe.cli", "segpipe.commands")) for name in imports(path)), path


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_has_one_name_everywhere(name):
    dag = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert (PACKAGE / "stages" / f"{name}.py").exists()
    assert name in dag
    assert dag[name]["cmd"].startswith(f"segpipe {name}")
    assert name in params
    from segpipe import cli

    assert name in [command.name or command.callback.__name__ for command in cli.app.registered_commands]


def test_names_are_listed_without_importing_torch():
    script = (
        "import sys; from segpipe import losses, models; losses.names(); models.names(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_registered_function_loads_and_names_its_source():
    for package in ("segpipe.losses", "segpipe.models"):
        for name, entry in registry.entries(package).items():
            assert callable(entry.load()), name
            assert entry.source, name
            assert entry.summary.endswith((".", ":")) or entry.summary, name


def test_no_file_outgrows_an_idea():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path


def test_stage_code_follows_imports():
    train = {path.as_posix() for path in code.files_of_stage("train")}
    assert {"stages/train.py", "training/loop.py", "losses/region.py", "models/unet.py", "core/errors.py"} <= train
    assert not {"stages/report.py", "data/scenes.py", "reporting/page.py", "cli.py"} & train
    evaluate = {path.as_posix() for path in code.files_of_stage("evaluate")}
    assert not {"training/loop.py", "losses/region.py"} & evaluate
    assert all((code.ROOT / path).is_file() for path in map(Path, train))
