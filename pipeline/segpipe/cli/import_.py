"""Command import: predictions of another tool as a run of the workspace."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError, DataError
from segpipe.core.outputs import digest_file, digest_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segpipe.config.context import Context
    from segpipe.data.dataset import Index, Row
    from segpipe.data.foreign.files import Files

PredictionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--predictions",
        help="A folder of predictions, or of a folder for each seed; repeatable, one for each seed.",
        show_default=False,
    ),
]
HoldsOption = Annotated[
    Literal["labels", "probs", "logits"] | None,
    typer.Option(help="What the files hold; default: inferred from their values.", show_default=False),
]
IdsOption = Annotated[
    str | None,
    typer.Option(help="The class of each id, if ids are other numbers; for example 7=0,8=1.", show_default=False),
]
ShiftOption = Annotated[
    int | None,
    typer.Option(help="Added to every id; -1 where the first class is 1.", min=-65535, max=65535, show_default=False),
]
AddsOption = Annotated[
    int | None, typer.Option(help="Multiply-adds of an image, if you know them: costs are compared by them.", min=1)
]
RunOption = Annotated[
    bool, typer.Option("--run/--no-run", help="Score them now, or only write params.yaml and dvc.yaml.")
]


def import_(
    name: Annotated[str, typer.Argument(help="The name of the run.", show_default=False)],
    predictions: PredictionsOption = None,
    holds: HoldsOption = None,
    ids: IdsOption = None,
    shift: ShiftOption = None,
    resize: Annotated[bool, typer.Option("--resize", help="Resize predictions to the size of the labels.")] = False,
    multiply_adds: AddsOption = None,
    run: RunOption = True,
    seed: options.Seed = 0,
    jobs: options.Jobs = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Add predictions from another tool as a run: label maps, probabilities or logits, matched by image name."""
    from segpipe.cli.repro import run_stage
    from segpipe.config.context import start

    if predictions is not None and seed:
        raise ConfigError("--seed goes with an import of params.yaml; give --predictions once for each seed")
    if predictions is None:
        if holds or ids or shift is not None or resize or multiply_adds:
            raise ConfigError("these options go with --predictions FOLDER; without it they are read from params.yaml")
        _stage(name, seed, jobs, dry_run=dry_run, as_json=as_json)
        return
    context = start(jobs=jobs, quiet=as_json)
    _refuse(name, predictions, context)
    if ids and shift:
        raise ConfigError("--ids and --shift exclude each other; give the class of each id with --ids")
    given: dict[str, Any] = {"holds": holds, "ids": _read_ids(ids), "shift": shift or 0, "resize": resize}
    entry = _entry(context, predictions, given, dry_run=dry_run)
    if multiply_adds is not None:
        entry["multiply_adds"] = multiply_adds
    if dry_run:
        context.log(f"would write imports.{name} into params.yaml: {entry}")
        return
    _write(name, entry, context)
    following = _following(name, context)
    if run and Path(".dvc").is_dir():
        run_stage(f"evaluate_import_{name}", quiet=as_json)
    else:
        following = "dvc repro"
    context.log(f"next: {following}")
    if as_json:
        import json

        print(json.dumps({"name": name, **entry}))


def _following(name: str, context: Context) -> str:
    """A comparison with the first run that is scored; else what scores them."""
    for run in (*context.params.runs, *context.params.imports):
        member = context.member(context.params.keys_of(run)[0])
        if run != name and member.is_fresh("evaluate", member.path("evaluate")):
            return f"segpipe compare {name} {run}"
    return "dvc repro"


def _stage(name: str, seed: int, jobs: int | None, *, dry_run: bool, as_json: bool) -> None:
    """The stage: what params.yaml says of the import is read and kept."""
    from segpipe.cli.printing import announce, finish
    from segpipe.config.context import start
    from segpipe.config.params import load

    if name not in load().imports:
        raise ConfigError(f"params.yaml imports no '{name}'; give --predictions FOLDER to import predictions as {name}")
    context = start(run=name, seed=seed, jobs=jobs, quiet=as_json)
    out, prepared = context.path("predict"), context.require("prepare")
    if dry_run:
        announce(context, out, prepared, *map(Path, context.params.imports[name].predictions))
        return
    from segpipe.stages import import_ as stage

    with context.writing(out):
        result = stage.run(context)
    told = ", ".join(f"{number} {split}" for split, number in result["images"].items())
    finish(context, result, [f"{out}: predictions of {told} images"], context.command("evaluate"))


def _refuse(name: str, predictions: Sequence[Path], context: Context) -> None:
    """ConfigError for a name that cannot be, DataError for a folder that is none."""
    from segpipe.config.schema import NAME, NAME_RULE

    if not NAME.match(name):
        raise ConfigError(f"'{name[:80]}': a name must match {NAME_RULE}")
    if name in {*context.params.runs, *context.params.ensemble}:
        raise ConfigError(f"'{name}' is a run or ensemble of params.yaml; choose another name")
    for folder in predictions:
        if not folder.expanduser().is_dir():
            raise DataError(f"{folder} is not a folder; give --predictions a folder of predictions")


def _read_ids(text: str | None) -> dict[str, int]:
    """Ids and their classes in a text such as 7=0,8=1."""
    pairs = [part.strip().partition("=") for part in text.split(",")] if text else []
    if not all(number.isdecimal() and kind.isdecimal() and len(number + kind) < 10 for number, _, kind in pairs):
        raise ConfigError(f"--ids {text}: wanted each id and its class, for example 7=0,8=1")
    return {str(int(number)): int(kind) for number, _, kind in pairs}


def _entry(
    context: Context, predictions: Sequence[Path], given: dict[str, Any], *, dry_run: bool
) -> dict[str, Any]:  # fmt: skip
    """What params.yaml will say of the import, after every file has been read once."""
    from segpipe.cli.adhoc import make_upstream
    from segpipe.data.dataset import Index

    if dry_run:
        context.require("prepare")
    else:
        make_upstream(context)
    index = Index.read(context.path("prepare"))
    folders = _seeds(predictions, index)
    first = _found(folders[0], index)
    splits = [split for split in ("val", "test") if any(row.id in first for row in index.splits[split])]
    entry: dict[str, Any] = {"predictions": [_shown(folder) for folder in folders], "splits": splits, **given}
    _say(entry, index)
    digests: dict[str, Path] = {}
    for number, folder in enumerate(folders):
        found = first if number == 0 else _found(folder, index)
        _refuse_copy(folder, found, digests)
        entry = _understood(context, folder, found, index, entry)
    return {key: value for key, value in entry.items() if value or key in ("predictions", "holds", "splits")}


def _refuse_copy(folder: Path, found: dict[str, Files], digests: dict[str, Path]) -> None:
    """DataError when two seeds hold the same predictions: they would pass for two trainings."""
    digest = digest_json({name: [digest_file(path) for path in paths] for name, paths in found.items()})
    if digest in digests:
        raise DataError(
            f"{folder} and {digests[digest]} hold the same predictions, so they are one training; give each once"
        )
    digests[digest] = folder


def _say(entry: dict[str, Any], index: Index) -> None:
    """What was guessed of folders and splits."""
    number = len(entry["predictions"])
    seeds = f"{number} seeds" if number > 1 else "1 seed"
    told = " and ".join(f"{len(index.splits[split])} {split} images" for split in entry["splits"])
    print(f"found: {seeds}, predictions of {told}", file=sys.stderr)
    if entry["splits"] == ["test"]:
        print("note: CRF, rules and ensembles are fitted on val; predict val too to use them", file=sys.stderr)


def _seeds(predictions: Sequence[Path], index: Index) -> list[Path]:
    """The folder of each seed: as they are given, or those in a folder that each hold all test images."""
    if len(predictions) > 1:
        return list(predictions)
    inside = sorted(path for path in predictions[0].expanduser().iterdir() if path.is_dir())
    others = [row for split in ("train", "val") for row in index.splits[split]]
    whole = [path for path in inside if _holds_test(path, index.splits["test"], others, index.classes)]
    return whole if len(whole) > 1 or (whole and len(inside) == 1) else list(predictions)


def _holds_test(folder: Path, rows: Sequence[Row], others: Sequence[Row], classes: Sequence[str]) -> bool:
    """Whether a folder has predictions of all test images; others: the images of other splits."""
    from segpipe.data.foreign.files import find

    try:
        return len(find(folder, {"test": rows}, classes, others)) == len(rows)
    except DataError:
        return False


def _found(folder: Path, index: Index) -> dict[str, Files]:
    """The files of all images, of val and test or of test."""
    from segpipe.data.foreign.files import find
    from segpipe.stages.import_ import refuse_missing

    splits = {split: index.splits[split] for split in ("val", "test")}
    found = find(folder.expanduser(), splits, index.classes, index.splits["train"])
    for split, rows in splits.items():
        if split == "test" or any(row.id in found for row in rows):
            refuse_missing(folder, split, rows, found)
    return found


def _understood(
    context: Context, folder: Path, found: dict[str, Files], index: Index, entry: dict[str, Any]
) -> dict[str, Any]:
    """The entry with what the files hold, once all have been read with it."""
    from tqdm import tqdm

    from segpipe.config.imported import Import
    from segpipe.data.foreign.values import look
    from segpipe.stages.import_ import meaning_of

    rows = [row for split in entry["splits"] for row in index.splits[split]]
    sizes = [(row.geometry.original_height, row.geometry.original_width) for row in rows]
    known = len(index.classes), index.palette, entry["holds"]
    work = ((found[row.id], size, *known) for row, size in zip(rows, sizes, strict=True))
    seen = list(tqdm(context.pool().map(look, work), f"reading {folder}", len(rows), unit="image", disable=None))
    holds = {one.holds for one in seen}
    if entry["holds"] is None:
        if len(holds) > 1:
            told = " in some files and ".join(sorted(holds))
            raise DataError(f"{folder} holds {told} in others; write one kind, or give --holds")
        (entry["holds"],) = holds
        print(
            f"guessed: {entry['holds']}\n         because the values look like them; otherwise: --holds",
            file=sys.stderr,
        )
    ids: set[int] = set().union(*(one.ids for one in seen))
    if entry["holds"] == "labels" and len(index.classes) == 2 and ids == {0, 255} and not entry["ids"]:
        entry["ids"] = {"0": 0, "255": 1}
        print(
            f"guessed: 255 is {index.classes[1]}\n         because the only other id is 0; otherwise: --ids",
            file=sys.stderr,
        )
    if entry["holds"] == "labels":
        given = set(map(int, entry["ids"]))
        if 255 in ids <= {0, 255} and len(index.classes) > 2 and not given:
            raise DataError(
                f"{folder} holds no id but {' and '.join(map(str, sorted(ids)))}, and 255 means that nothing is "
                f"predicted; write the ids of the {len(index.classes)} classes, or give --ids"
            )
        entry["rejects"] = entry.get("rejects", False) or (255 in ids and 255 not in given)
    meaning = meaning_of(Import.model_validate({key: value for key, value in entry.items() if value is not None}))
    for row, size, one in zip(rows, sizes, seen, strict=True):
        one.check(str((found[row.id] or (row.id,))[0]), size, len(index.classes), meaning)
    return entry


def _shown(folder: Path) -> str:
    """A folder as params.yaml names it: below the workspace relative, else absolute."""
    resolved, here = folder.expanduser().resolve(), Path().resolve()
    return resolved.relative_to(here).as_posix() if resolved.is_relative_to(here) else str(resolved)


def _write(name: str, entry: dict[str, Any], context: Context) -> None:
    """params.yaml and dvc.yaml with the import; another `segpipe import` waits."""
    with context.writing(Path("params.yaml"), wait=True):
        _edit(name, entry, context)


def _edit(name: str, entry: dict[str, Any], context: Context) -> None:
    from segpipe.config import dag as generator
    from segpipe.config import params as parameters
    from segpipe.config import yaml
    from segpipe.core import files

    text = parameters.read_text()
    if "imports" not in yaml.load(text):
        text = f"{text.rstrip()}\n\nimports: {{}}  # predictions of other tools, as `segpipe import` writes them\n"
    new = yaml.edit(text, {"imports": {**(yaml.load(text)["imports"] or {}), name: entry}})
    # The blank line behind the comment would come between the section's name and its first entry.
    new = re.sub(r"^(imports:)[ ]+(#.*\n)\n(?= )", r"\1  \2", new, flags=re.MULTILINE)
    params = parameters.parse(new)
    generator.check_names(params)
    old = generator.FILE.read_text(encoding="utf-8") if generator.FILE.is_file() else ""
    plan = generator.text(params, old)
    files.write_text(parameters.FILE, new)
    files.write_text(generator.FILE, plan)
    verb = "replaced" if name in context.params.imports else "wrote"
    context.log(f"{verb} imports.{name} in {parameters.FILE}, and {generator.FILE}")
