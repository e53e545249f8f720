"""dvc.yaml from params.yaml: DVC can template a matrix, but not a fan-in, so segpipe writes it.

Between the two marks the text is generated; what stands outside is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpipe.code import READS_CARD, ROOT, digest_of_stage, files_of_stage
from segpipe.core.errors import ConfigError
from segpipe.core.files import json_text
from segpipe.params import Params
from segpipe.stages import NAMES
from segpipe.stages.context import SECTIONS

FILE = Path("dvc.yaml")
CODE = Path(".segpipe/code.json")  # hashes of the installed package, where its files are not in the workspace
BEGIN = "# >>> written by `segpipe dag --write`; own stages go into a dvc.yaml of another folder"
END = "# <<<"
RESULTS = ("complete.json", "counts.csv", "calibration.csv", "metrics.json", "pictures")
_KEY = "${item.run}-${item.seed}"
_RUN = "--run ${item.run} --seed ${item.seed}"


def is_fresh(params: Params) -> bool:
    """True when dvc.yaml holds exactly what `write` would put there."""
    return FILE.is_file() and FILE.read_text(encoding="utf-8") == text(params, FILE.read_text(encoding="utf-8"))


def text(params: Params, old: str = "") -> str:
    """The content of dvc.yaml; the parts of `old` outside the marks are kept."""
    before, after = "", ""
    if BEGIN in old:
        before, rest = old.split(BEGIN, 1)
        if f"\n{END}\n" not in rest:
            raise ConfigError(f"{FILE} has no end mark '{END}'; restore it or delete the file")
        after = rest.split(f"\n{END}\n", 1)[1]
    return f"{before}{BEGIN}\n{_body(params)}{_plots(params)}{END}\n{after}"


def code_text() -> str:
    """The content of .segpipe/code.json: one hash a stage."""
    return json_text({stage: digest_of_stage(stage) for stage in NAMES})


def in_repository() -> bool:
    """True when the package runs from this folder's own source."""
    return Path("pipeline/segpipe").is_dir() and Path("pipeline/segpipe").samefile(ROOT)


def _body(params: Params) -> str:
    runs, refined = list(params.runs), list(dict.fromkeys(key.rpartition("-")[0] for key in params.crf_keys()))
    methods, members = list(params.ensemble), params.all_keys()
    dataset, every = "data/download/${download.dataset}", "run: ${runs}\nseed: ${seeds}"
    source = [params.download.source] if params.download.source else []
    predicted, refined_by, of_method = f"data/predict/{_KEY}", f"data/crf/{_KEY}", "data/ensemble/${item.method}"
    data = [dataset, "data/prepare"]
    parts = [
        _stage("download", "download", "", source, outs=[dataset]),
        _stage("prepare", "prepare", "", [dataset], outs=["data/prepare"]),
        _stage("stats", "stats", "", data, kept=["data/stats.json"]),
        _stage("train", "train", _RUN, ["data/prepare", "data/stats.json"], outs=[f"data/train/{_KEY}"], matrix=every),
        _stage("predict", "predict", _RUN, ["data/prepare", f"data/train/{_KEY}"], outs=[predicted], matrix=every),
        _stage("evaluate", "evaluate", _RUN, [*data, predicted], results=f"results/runs/{_KEY}", matrix=every),
    ]
    if refined:
        some = f"run: [{', '.join(refined)}]\nseed: ${{seeds}}"
        results = f"results/crf/{_KEY}"
        parts += [
            _stage("crf", "crf", _RUN, [*data, predicted], outs=[refined_by], matrix=some),
            _stage("evaluate_crf", "evaluate", f"{_RUN} --crf", [*data, refined_by], results=results, matrix=some),
        ]
    if methods:
        used = sorted({key for method in methods for key in params.members_of(method)}, key=members.index)
        each, results = f"method: [{', '.join(methods)}]", "results/ensembles/${item.method}"
        inputs = ["data/prepare", *(f"data/predict/{key}" for key in used)]
        name = "--ensemble ${item.method}"
        parts += [
            _stage("ensemble", "ensemble", "--method ${item.method}", inputs, outs=[of_method], matrix=each),
            _stage("evaluate_ensemble", "evaluate", name, [*data, of_method], results=results, matrix=each),
        ]
    evaluated = [f"results/runs/{run}-{seed}" for run in runs for seed in params.seeds]
    evaluated += [f"results/crf/{key}" for key in params.crf_keys()] + [f"results/ensembles/{m}" for m in methods]
    inputs = ["data/prepare", *(f"data/train/{key}" for key in members), *(f"data/crf/{k}" for k in params.crf_keys())]
    inputs += [f"{folder}/{name}" for folder in evaluated for name in ("complete.json", "metrics.json", "pictures")]
    parts.append(_stage("report", "report", "", inputs, kept=["results/report.html", "results/tables"]))
    return "stages:\n" + "\n".join(parts)


def _stage(
    name: str,
    command: str,
    selectors: str,
    deps: list[str],
    *,
    outs: Sequence[str] = (),
    kept: Sequence[str] = (),
    results: str = "",
    matrix: str = "",
) -> str:
    """One stage as text. `outs` go to DVC's cache; `kept` and the files of `results` live in git."""
    sections = [path.format(run="${item.run}", method="${item.method}") for path in SECTIONS[command]]
    if results:
        kept = [f"{results}/{part}" for part in RESULTS]
    blocks = {
        "deps": [*deps, *(_code(command) if in_repository() else ())],
        "params": sections if in_repository() else [*sections, f"{CODE.as_posix()}:\n          - {command}"],
        "outs": [*outs, *(f"{path}:\n          cache: false" for path in kept)],
        "metrics": [f"{results}/headline.json:\n          cache: false"] if results else [],
    }
    text = f"  {name}:\n"
    if matrix:
        text += "    matrix:\n" + "".join(f"      {line}\n" for line in matrix.splitlines())
    text += f"    cmd: segpipe {command} {selectors}".rstrip() + "\n"
    for heading, items in blocks.items():
        if items:
            text += f"    {heading}:\n" + "".join(f"      - {item}\n" for item in items)
    return text


def _code(command: str) -> list[str]:
    """The files of the package that a stage depends on."""
    found = [f"pipeline/segpipe/{path.as_posix()}" for path in files_of_stage(command)]
    return found + (["pipeline/segpipe/data/cards/${download.dataset}.toml"] if command in READS_CARD else [])


def _plots(params: Params) -> str:
    """What `dvc plots show` draws."""
    lines = ["plots:", "  - validation mIoU^D:", "      x: epoch", "      y:"]
    lines += [f"        data/train/{key}/history.csv: val_miou_dataset" for key in params.all_keys()]
    return "\n" + "\n".join(lines) + "\n"
