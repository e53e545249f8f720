"""dvc.yaml from params.yaml: DVC can template a matrix, but not a fan-in, so segpipe writes it.

Between the two marks the text is generated; what stands outside is kept.
"""

from __future__ import annotations

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
    methods, members = list(params.ensemble), params.keys()
    dataset, every = "data/download/${download.dataset}", "run: ${runs}\nseed: ${seeds}"
    source = [params.download.source] if params.download.source else []
    parts = [
        _stage("download", "download", "", source, outs=[dataset]),
        _stage("prepare", "prepare", "", [dataset], outs=["data/prepare"]),
        _stage("stats", "stats", "", [dataset, "data/prepare"], files=["data/stats.json"]),
        _stage(
            "train", "train", _RUN, ["data/prepare", "data/stats.json"], outs=[f"data/train/{_KEY}"], matrix=every
        ),
        _stage("predict", "predict", _RUN, ["data/prepare", f"data/train/{_KEY}"], outs=[f"data/predict/{_KEY}"], matrix=every),
        _stage("evaluate", "evaluate", _RUN, [dataset, "data/prepare", f"data/predict/{_KEY}"], results=f"results/runs/{_KEY}", matrix=every),
    ]  # fmt: skip
    if refined:
        some = f"run: [{', '.join(refined)}]\nseed: ${{seeds}}"
        parts += [
            _stage("crf", "crf", _RUN, [dataset, "data/prepare", f"data/predict/{_KEY}"], outs=[f"data/crf/{_KEY}"], matrix=some),
            _stage("evaluate_crf", "evaluate", f"{_RUN} --crf", [dataset, "data/prepare", f"data/crf/{_KEY}"], results=f"results/crf/{_KEY}", matrix=some),
        ]  # fmt: skip
    if methods:
        used = sorted({key for method in methods for key in params.members_of(method)}, key=members.index)
        each = f"method: [{', '.join(methods)}]"
        of_method = "data/ensemble/${item.method}"
        parts += [
            _stage("ensemble", "ensemble", "--method ${item.method}", ["data/prepare", *(f"data/predict/{key}" for key in used)], outs=[of_method], matrix=each),
            _stage("evaluate_ensemble", "evaluate", "--ensemble ${item.method}", [dataset, "data/prepare", of_method], results="results/ensembles/${item.method}", matrix=each),
        ]  # fmt: skip
    evaluated = [f"results/runs/{run}-{seed}" for run in runs for seed in params.seeds]
    evaluated += [f"results/crf/{key}" for key in params.crf_keys()] + [f"results/ensembles/{m}" for m in methods]
    inputs = ["data/prepare", *(f"data/train/{key}" for key in members), *(f"data/crf/{k}" for k in params.crf_keys())]
    inputs += [f"{folder}/{name}" for folder in evaluated for name in ("complete.json", "metrics.json", "pictures")]
    parts.append(_stage("report", "report", "", inputs, files=["results/report.html", "results/tables"]))
    return "stages:\n" + "\n".join(parts)


def _stage(
    name: str, command: str, selectors: str, deps: list[str], *,
    outs: list[str] | None = None, files: list[str] | None = None, results: str = "", matrix: str = "",
) -> str:  # fmt: skip
    """One stage as text. `files` and `results` live in git, so DVC does not cache them."""
    lines = [f"{name}:"]
    if matrix:
        lines += ["  matrix:", *(f"    {line}" for line in matrix.splitlines())]
    lines += [f"  cmd: segpipe {command} {selectors}".rstrip(), "  deps:"]
    lines += [f"    - {path}" for path in deps]
    sections = [path.format(run="${item.run}", method="${item.method}") for path in SECTIONS[command]]
    if in_repository():
        lines += [f"    - pipeline/segpipe/{path.as_posix()}" for path in files_of_stage(command)]
        if command in READS_CARD:
            lines.append("    - pipeline/segpipe/data/cards/${download.dataset}.toml")
    elif lines[-1] == "  deps:":
        lines.pop()
    lines += ["  params:", *(f"    - {section}" for section in sections)]
    if not in_repository():
        lines += [f"    - {CODE.as_posix()}:", f"        - {command}"]
    if outs:
        lines += ["  outs:", *(f"    - {path}" for path in outs)]
    kept = list(files or [])
    if results:
        kept += [f"{results}/{part}" for part in ("complete.json", "counts.csv", "calibration.csv", "metrics.json", "pictures")]
    if kept:
        lines += ["  outs:"]
        for path in kept:
            lines += [f"    - {path}:", "        cache: false"]
    if results:
        lines += ["  metrics:", f"    - {results}/headline.json:", "        cache: false"]
    return "".join(f"  {line}\n" for line in lines)


def _plots(params: Params) -> str:
    """What `dvc plots show` draws."""
    lines = ["plots:", "  - validation mIoU^D:", "      x: epoch", "      y:"]
    lines += [f"        data/train/{key}/history.csv: val_miou_dataset" for key in params.keys()]
    return "\n" + "\n".join(lines) + "\n"
