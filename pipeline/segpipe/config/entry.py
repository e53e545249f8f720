"""A stage of dvc.yaml as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from segpipe.config.code import FILE as CODE
from segpipe.config.depends import READS

RESULTS = ("complete.json", "counts.csv", "images.csv", "calibration.csv", "curves.json", "metrics.json", "pictures")


def stage(
    name: str,
    command: str,
    selectors: str,
    deps: list[str],
    *,
    outs: Sequence[str] = (),
    kept: Sequence[str] = (),
    results: str = "",
    matrix: str = "",
    more: Sequence[str] = (),
    run: str = "${item.run}",
) -> str:
    """One stage as text. `outs` go to DVC's cache; `kept` and the files of `results` live in git."""
    sections = [path.format(run=run, method="${item.method}") for path in (*READS[command], *more)]
    if results:
        more_files = (
            ("members.json",) if "/ensembles/" in results else ("decide.json",) if "/decided/" in results else ()
        )
        kept = [f"{results}/{part}" for part in (*RESULTS, *more_files)]
    blocks = {
        "deps": deps,
        "params": [*sections, f"{CODE.as_posix()}:\n          - {_digest_key(command, run)}"],
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


def _digest_key(command: str, run: str) -> str:
    """Where data/code.json has the digest of a stage's code."""
    of = {"train": run, "predict": run, "import": run, "ensemble": "${item.method}"}.get(command)
    return command if of is None else f"{command}.{of}"


def quoted(path: str) -> str:
    """A folder of the user's as YAML and DVC's templating read it back."""
    return json.dumps(str(Path(path).expanduser()), ensure_ascii=False).replace("${", "\\\\${")
