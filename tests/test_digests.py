"""A change reruns what it means: the package is edited in a copy, and the digests that DVC compares tell what runs."""

import ast
import json
import shutil
import sys
from dataclasses import replace

import pytest

from segpipe.config import depends, digests, params, source
from segpipe.config.code import ROOT as PACKAGE
from segpipe.config.meaning import Package, Part

from conftest import ROOT, call

PARAMS = params.load(ROOT / "params.yaml")
RUNS = {f"train {run}" for run in PARAMS.runs}
PREDICT = {f"predict {run}" for run in PARAMS.runs}
ENSEMBLES = {f"ensemble {method}" for method in PARAMS.ensemble}
NEW_LOSS = '''

@register("mine", source="nobody")
def mine(batch: Batch, *, strength: float = 1.0) -> Tensor:
    """Half of nothing."""
    return strength * batch.log_probs.sum() * 0
'''
NEW_MEASURE = '''

@register("kappa", source="nobody")
def kappa(tp: Any, fp: Any, fn: Any) -> Floats:
    """Something else."""
    return divide(tp - fp, tp + fn)
'''
NEW_REFINER = '''
from segpipe.core.registry import register
from segpipe.refine.base import Refiner


@register("blur", source="nobody", tuned=("width",), may_be_zero=())
class Blur(Refiner):
    """Nothing yet."""

    def __init__(self, *, width: float = 1.0) -> None:
        self.width = width

    def apply(self, image, probs):
        return probs
'''
NEW_MODEL = '''
from torch import nn
from segpipe.core.registry import register


@register("nothing", source="nobody")
class Nothing(nn.Module):
    """A network."""

    def __init__(self, num_classes: int, *, width: int = 1) -> None:
        super().__init__()
'''
# (name, file, what is replaced or None for the end of the file, by what, the digests that change)
EDITS = [
    ("a docstring", "losses/pixel.py", '    """Cross entropy', '    """Cross  entropy', set()),
    ("a comment", "training/loop.py", "import numpy as np\n", "import numpy as np  # arrays\n", set()),
    ("the message of an error", "training/loop.py", "is no longer finite", "is not finite any more", set()),
    ("a warning for people", "training/validation.py", "of val is predicted as", "of val falls into", set()),
    ("help", "cli/options.py", "The random seed.", "The seed of chance.", set()),
    ("a line that is printed", "cli/train.py", "snapshots: segpipe predict", "snapshots; segpipe predict", set()),
    ("a type", "core/batch.py", "-> Batch:", "-> 'Batch':", set()),
    ("the order of imports", "data/decode.py", "import gzip\nimport io\n", "import io\nimport gzip\n", set()),
    ("the type of a field", "training/settings.py", "    epochs: int\n", "    epochs: 'int'\n", set()),
    ("a new command", "cli/mine.py", None, "def mine() -> None:\n    print(1)\n", set()),
    ("a new loss in an old file", "losses/pixel.py", None, NEW_LOSS, set()),
    ("a new loss in its own file", "losses/mine.py", None,
     "from torch import Tensor\nfrom segpipe.core.batch import Batch\nfrom segpipe.core.registry import register\n"
     + NEW_LOSS, set()),
    ("a new measure", "metrics/measures.py", None, NEW_MEASURE, set()),
    ("a new refiner", "refine/blur.py", None, NEW_REFINER, set()),
    ("a new network", "models/nothing.py", None, NEW_MODEL, set()),
    ("a new card", "data/cards/mine.toml", None, 'title = "x"\n', set()),
    ("a new convention", "metrics/conventions.py", None, "\n\ndef mine(counts: Counts) -> Scores:\n    return {}\n",
     set()),
    ("a new method of an old class", "metrics/counts.py", "    def __len__(self)",
     "    def unused_by_all(self) -> int:\n        return 0\n\n    def __len__(self)", set()),
    ("a function moves to another file", "core/upsample.py", None, "\n\ndef unused() -> int:\n    return 1\n", set()),
    ("the formula of focal", "losses/pixel.py", "pow(gamma)", "pow(gamma + 0.001)", {"train focal"}),
    ("what all region losses share", "core/regions.py", "self.tp + smooth", "smooth + self.tp", {"train ce_jml"}),
    ("a score that is only reported", "metrics/measures.py", "2 * tp, 2 * tp + fp + fn", "2 * tp, 2.0 * tp + fp + fn",
     {"evaluate", "report"}),
    ("the score that picks the best epoch", "metrics/measures.py", "divide(tp, tp + fp + fn)",
     "divide(tp, fp + tp + fn)", {*RUNS, *ENSEMBLES, "crf", "decide", "evaluate", "report"}),
    ("the audit's cases", "report/failures.py", "4 * number", "5 * number", {"report"}),
    ("the loop", "training/loop.py", "self.optimizer.zero_grad(set_to_none=True)\n        if self.lookahead",
     "self.optimizer.zero_grad(set_to_none=False)\n        if self.lookahead", RUNS),
    ("augmentation", "data/augment.py", "TRIES = 10", "TRIES = 11", RUNS),
    ("the curve of normalisation", "data/normalize.py", "def curve(chosen: dict[str, Any]) -> Curve:",
     "def curve(chosen: dict[str, Any], more: int = 0) -> Curve:", {*RUNS, *PREDICT}),
    ("the grid, with which prepare computes", "data/geometry.py", "cv2.INTER_NEAREST_EXACT", "cv2.INTER_NEAREST",
     {"prepare"}),
    ("the network", "models/unet.py", "super().__init__()", "super().__init__()\n        self.more = 1",
     {*RUNS, *PREDICT}),
    ("the CRF's kernels", "crf/dense.py", "SMALLEST = 1e-30", "SMALLEST = 1e-29", {"crf"}),
    ("what a majority is", "ensembles/pixelwise.py", "support > 0.5 + _TIED", "support > 0.5", {"ensemble majority"}),
    ("a formula in place", "ensembles/pixelwise.py", "np.log(part, out=part)", "np.log(part * 0.5, out=part)",
     {"ensemble average", "ensemble weighted"}),
    ("a formula of the parameters", "config/sections.py", "round(self.epochs * self.budget)",
     "int(self.epochs * self.budget)", RUNS),
    ("a new section of params.yaml", "config/names.py", "class Named(Section):\n",
     "class More(Section):\n    value: int = 0\n\n\nclass Named(Section):\n    more: More = More()\n", set()),
    ("a new field of a section", "config/sections.py", "    patience: Count | None = None\n",
     "    patience: Count | None = None\n    more: int = 0\n", set()),
    ("the teacher of a run", "config/context.py", 'self.member(f"{name}-{self.seed}")', 'self.member(f"{name}-0")',
     {*RUNS, "report"}),  # the report orders its commands by teachers
]  # fmt: skip


@pytest.fixture(scope="module")
def before():
    return digests._flat(digests.every(PARAMS))


def after(monkeypatch, folder, edited=None):
    """The digests of the package in a folder; where one file was edited, the others need not be parsed again."""
    package = Package(folder, digests._LEFT_OUT, digests._VALUES)
    if edited is not None:
        name = "segpipe." + edited.removesuffix(".py").replace("/", ".")
        known = digests._package()
        package._modules = {at: module for at, module in known._modules.items() if module and at != name}
        package._uses = {part: uses for part, uses in known._uses.items() if part.module != name}
    monkeypatch.setattr(digests, "_package", lambda: package)
    return digests._flat(digests.every(PARAMS))


@pytest.mark.parametrize(("name", "file", "old", "new", "changed"), EDITS, ids=[edit[0] for edit in EDITS])
def test_an_edit_changes_the_digests_of_what_it_means(monkeypatch, tmp_path, before, name, file, old, new, changed):
    copy = tmp_path / "segpipe"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / file
    text = path.read_text() if path.exists() else ""
    if old is not None:
        assert old in text, name
    path.write_text(text.replace(old, new) if old is not None else text + (new or ""))
    found = after(monkeypatch, copy, file)
    assert {stage for stage in found if found[stage] != before[stage]} == changed


def test_a_function_that_moves_to_another_file_means_the_same(monkeypatch, tmp_path, before):
    copy = tmp_path / "segpipe"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / "core/upsample.py"
    (copy / "core/elsewhere.py").write_text(source.read_text())
    source.unlink()
    for path in copy.rglob("*.py"):
        text = path.read_text()
        if "core.upsample" in text:
            path.write_text(text.replace("core.upsample", "core.elsewhere"))
    assert after(monkeypatch, copy) == before


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_two_functions_that_change_places_are_noticed(tmp_path, depth):
    """The functions differ in what the last of a chain of functions of the same text returns."""
    for name, (a, b) in (("one", ("x", "y")), ("two", ("y", "x"))):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        for module, value in (("x", 1), ("y", 2)):
            chain = "".join(f"def f{k}():\n    return f{k + 1}()\n\n\n" for k in range(1, depth))
            (folder / f"{module}.py").write_text(chain + f"def f{depth}():\n    return {value}\n")
        (folder / "a.py").write_text(
            f"from segpipe.{a} import f1\nfrom segpipe.{b} import f1 as g\n\n\ndef run():\n    return f1() - g()\n"
        )
    assert len({Package(tmp_path / name).digest([("segpipe.a", "run")]) for name in ("one", "two")}) == 2


def test_a_run_that_names_a_new_loss_depends_on_it(monkeypatch, tmp_path):
    loaded = params.load(ROOT / "params.yaml", ["runs.focal.loss=tversky"])
    first = digests.digest(loaded, "train", run="focal")
    copy = tmp_path / "segpipe"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / "losses/region.py"
    path.write_text(
        path.read_text().replace("def tversky(\n    batch: Batch,", "def tversky(\n    batch: Batch, other: int = 0,")
    )
    monkeypatch.setattr(digests, "_package", lambda: Package(copy, digests._LEFT_OUT, digests._VALUES))
    assert digests.digest(loaded, "train", run="focal") != first


TRACE = """
import atexit, json, os, sys
import segpipe
root = os.path.dirname(segpipe.__file__)
stage = os.path.join(root, "stages", sys.argv[2] + ".py")
import threading
config, seen, running, checking = os.path.join(root, "config"), set(), [0], threading.local()
def profile(frame, event, _):
    code = frame.f_code
    if event not in ("call", "return") or not code.co_filename.startswith(root) or not code.co_flags & 1:
        return  # not a call, not ours, or the body of a class
    step = 1 if event == "call" else -1
    if code.co_filename == stage and code.co_name == "run":
        running[0] += step
    if code.co_filename.startswith(config):  # what checks parameters is not what computes
        checking.depth = getattr(checking, "depth", 0) + step
    elif event == "call" and running[0] and not getattr(checking, "depth", 0):
        seen.add((os.path.relpath(code.co_filename, root), code.co_name, code.co_firstlineno))
sys.argv = sys.argv[1:]
os.environ["DVC_STAGE"] = "traced"
import importlib
import segpipe.cli.app
importlib.import_module("segpipe.stages." + sys.argv[1])
threading.setprofile(profile)
sys.setprofile(profile)
atexit.register(lambda: (sys.setprofile(None), json.dump(sorted(seen), open(os.environ["TRACE_FILE"], "w"))))
segpipe.cli.app.main()
"""
# What runs in a stage's process and means nothing for its result: the room of commands, the reading and checking of
# parameters, the words of errors, the registry that lists names for messages, progress, and where outputs lie.
NO_RESULT = ("cli/", "config/", "core/errors.py", "core/spoken.py", "training/progress.py")


@pytest.mark.parametrize(
    ("stage", "arguments", "key"),
    [
        ("download", [], {}),
        ("prepare", [], {}),
        ("stats", [], {}),
        ("train", ["--run", "ce_jml"], {"run": "ce_jml"}),
        ("predict", ["--run", "ce"], {"run": "ce"}),
        ("crf", ["--run", "ce"], {}),
        ("ensemble", ["--method", "stacking"], {"method": "stacking"}),
        ("evaluate", ["--ensemble", "average"], {}),
        ("report", [], {}),
    ],
)
def test_no_function_that_runs_escapes_the_digest(workspace, tmp_path, monkeypatch, stage, arguments, key):
    """Functions are traced while a stage of the tiny pipeline runs; each must be a part that the digest has seen."""
    trace = tmp_path / "trace.json"
    call(sys.executable, "-c", TRACE, "segpipe", stage, *arguments, cwd=workspace, env={"TRACE_FILE": str(trace)})
    monkeypatch.chdir(workspace)
    loaded = params.load(workspace / "params.yaml")
    roots = [(f"segpipe.stages.{stage}", "run")]
    roots += digests._chosen(loaded, stage, key.get("run", ""), key.get("method", ""))
    package = digests._package()
    reached = package.reached(roots)
    lines = {}
    for part in reached:
        lines.setdefault(part.module, []).extend(package.lines(part))
    escaped = []
    for file, name, line in json.loads(trace.read_text()):
        module = "segpipe." + file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        module = "segpipe" if file == "__init__.py" else module
        inside = any(first <= line <= last for first, last in lines.get(module, ()))
        if not file.startswith(NO_RESULT) and name != "<module>" and not inside:
            escaped.append((file, name, line))
    escaped = [one for one in escaped if not harmless(one)]
    assert not escaped, escaped


def harmless(escaped):
    """What runs when a module is imported: lazy tables of contents, classes' bodies, and `register`, which is inert."""
    file, name, _ = escaped
    inert = {("core/registry.py", "register"), ("core/registry.py", "keep")}
    return file.endswith("__init__.py") or (file, name) in inert


def test_what_a_text_of_a_loss_becomes_is_part_of_the_digest():
    other = PARAMS.model_copy(deep=True)
    read = replace(PARAMS.runs["ce"].loss, terms=PARAMS.runs["focal"].loss.terms)
    object.__setattr__(other.runs["ce"], "loss", read)
    assert digests.digest(other, "train", run="ce") != digests.digest(PARAMS, "train", run="ce")


def test_the_name_of_an_output_is_part_of_the_digest(monkeypatch, before):
    monkeypatch.setitem(depends.DEPENDS, "download", ("download", "threads"))
    found = digests._flat(digests.every(PARAMS))
    assert {stage for stage in found if found[stage] != before[stage]} == {"download"}


def test_only_what_speaks_is_left_out_of_a_digest():
    spoken = [f"{owner}{verb}('x')" for owner in ("", "self.", "context.", "self.context.", "warnings.")
              for verb in ("log", "warn", "tell")]  # fmt: skip
    for line in ("print('x')", *spoken):
        assert source._speaks(ast.parse(line).body[0].value), line
    for line in ("np.log(x, out=x)", "torch.log(x)", "x.log('y')", "logs.append(x)", "x.print.run()"):
        assert not source._speaks(ast.parse(line).body[0].value), line


def test_parts_are_found_by_name():
    found = digests._package().reached([("segpipe.stages.train", "run")])
    assert Part("segpipe.training.loop", "_Training", "run") in found
    assert Part("segpipe.losses.pixel", "focal") not in found
    assert Part("segpipe.cli.train", "train") not in found


def test_a_value_that_params_yaml_leaves_to_its_default_is_part_of_the_digest():
    loaded = [params.load(ROOT / "params.yaml", [f"train.accumulate={number}"]) for number in (1, 2)]
    assert len({digests.digest(one, "train", run="ce") for one in loaded}) == 2
    assert len({digests.digest(one, "evaluate") for one in loaded}) == 1
