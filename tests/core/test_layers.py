"""The arrows: cli -> stages -> library -> core, and one name in every place."""

import ast
import keyword
import subprocess
import sys

import pytest
import yaml

from segpipe.config import dag
from segpipe.config.code import STAGES
from segpipe.core import registry

from conftest import ROOT

PACKAGE = ROOT / "pipeline" / "segpipe"
# What a package may import beside itself and core. The first four are rooms for people and for DVC.
MAY_IMPORT = {
    "cli": {"*"},
    "stages": {"*"},
    "report": {"config", "data", "metrics"},
    "config": {"*"},
    "losses": set(),
    "metrics": set(),
    "models": {"crf"},
    "crf": set(),
    "refine": {"crf", "metrics"},
    "ensembles": {"data", "metrics"},
    "data": set(),
    "training": {"data", "losses", "metrics", "models"},
}
NEVER = {"cli": set(), "stages": {"cli"}, "config": {"cli", "report", "stages"}}
LIBRARY = ("losses", "metrics", "models", "crf", "refine", "ensembles", "data", "training")
OUTSIDE = {"typer", "yaml", "ruamel", "dvc", "pydantic"}  # the library works without them
MOST_INNER_IMPORTS = 60  # lines, outside of cli
MOST_ANY = 60  # parameters


def imports(node):
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom) and found.module:
            yield found.module
            yield from (f"{found.module}.{alias.name}" for alias in found.names)


def parsed(*folders):
    for folder in folders or [PACKAGE]:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text())


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_lies_below_it(package):
    allowed = {package, "core", *MAY_IMPORT[package]}
    for path, tree in parsed(package):
        for name in imports(tree):
            parts = name.split(".")
            if parts[0] == "segpipe" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                assert "*" in allowed or parts[1] in allowed, (path, name)
                assert parts[1] not in NEVER.get(package, ()), (path, name)


def test_core_knows_nothing_of_segpipe_but_itself():
    for path, tree in parsed("core"):
        for name in imports(tree):
            assert not name.startswith("segpipe.") or name.startswith("segpipe.core"), (path, name)


@pytest.mark.parametrize("package", [*LIBRARY, "core"])
def test_the_library_needs_no_package_of_the_rooms_above(package):
    for path, tree in parsed(package):
        assert not {name.split(".")[0] for name in imports(tree)} & OUTSIDE, path


def test_no_files_import_each_other_in_a_circle():
    files = {}
    for path, tree in parsed():
        name = ".".join(("segpipe", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        files[name] = {at for at in imports(tree) if at != name}
    graph = {name: {at for at in found if at in files} for name, found in files.items()}
    for name in graph:  # a package's table of contents names its files, and they do not name it
        graph[name] = {at for at in graph[name] if not name.startswith(f"{at}.")}
    from graphlib import TopologicalSorter

    assert list(TopologicalSorter(graph).static_order())


def test_imports_stand_at_the_top():
    inner = [
        (path.name, line)
        for path, tree in parsed()
        if "cli" not in path.parts
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for line in ast.walk(function)
        if isinstance(line, ast.Import | ast.ImportFrom)
    ]
    assert len(inner) <= MOST_INNER_IMPORTS


def test_types_are_real():
    vague = [
        (path.relative_to(PACKAGE).as_posix(), function.name, argument.arg)
        for path, tree in parsed()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for argument in (*function.args.args, *function.args.kwonlyargs)
        if isinstance(argument.annotation, ast.Name) and argument.annotation.id == "Any"
    ]
    assert len(vague) <= MOST_ANY, vague


def test_nothing_outgrows_an_idea():
    for path, tree in parsed():
        assert len(path.read_text().splitlines()) <= 350, path
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                assert function.end_lineno - function.lineno < 50, (path, function.name)


def test_no_module_hides_an_import():
    lazy = {"core/registry.py", "cli/doctor.py"}  # by the names in params.yaml; what is installed
    for path, tree in parsed():
        name = path.relative_to(PACKAGE).as_posix()
        if path.name != "__init__.py" and name not in lazy:
            assert "importlib.import_module" not in set(imports(tree)), path


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_one_name_everywhere(name):
    from segpipe.cli.app import app

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    file = f"{name}_.py" if keyword.iskeyword(name) else f"{name}.py"
    assert (PACKAGE / "stages" / file).exists()
    assert (PACKAGE / "cli" / file).exists()
    if name == "import":  # one stage for each entry, of which the shipped pipeline has none
        assert not params["imports"]
    else:
        assert stages[name]["cmd"].startswith(f"segpipe {name}")
        assert name in params
    assert name in [command.name or command.callback.__name__ for command in app.registered_commands]


def test_the_room_of_stages_holds_the_stages_alone():
    assert {path.stem.rstrip("_") for path in (PACKAGE / "stages").glob("[!_]*.py")} == set(STAGES)


def test_names_are_listed_without_importing_torch():
    script = (
        "import sys; from segpipe import losses, models, refine; losses.names(); models.names(); refine.names();"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_registered_part_loads_and_names_its_source():
    for package in ("segpipe.losses", "segpipe.models", "segpipe.refine", "segpipe.metrics.measures"):
        for name, entry in registry.entries(package).items():
            assert callable(entry.load()), name
            assert entry.source, name
            assert entry.summary.endswith((".", ":")) or entry.summary, name


def test_the_clone_is_known_by_a_file_that_is_there():
    assert (ROOT / dag.SOURCE / "config/dag.py").is_file()
