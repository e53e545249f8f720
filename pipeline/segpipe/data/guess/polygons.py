"""Guesses for text files of polygons, as YOLO's segmentation has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.data.guess.annotations import classes_by_name
from segpipe.data.guess.card import Guess
from segpipe.data.layouts.yolo import read_line

_DOCUMENTS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_LOOKED_AT = 200  # files
_LONGEST = 20_000  # characters of a document


def polygon_files(folder: Path, stems: set[str]) -> list[Path]:
    """The text files of images: those named as one of them."""
    return sorted(path for path in folder.rglob("*.txt") if path.stem in stems and path.is_file())


def yolo(files: Sequence[Path], root: Path, names: Sequence[str] | None, found: Guess) -> None:
    """Keys for text files of polygons, once they are paired.

    Raises:
        DataError: a line that is no polygon, or fewer names than classes.
    """
    most = -1
    for path in files[:: max(1, len(files) // _LOOKED_AT)][:_LOOKED_AT]:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
            if line.strip():
                most = max(most, read_line(line, f"{path}:{number}")[0])
    known, why = _names(root), "a YAML file next to the images names them"
    if not known:
        known, why = [f"class_{k}" for k in range(most + 1)], f"lines begin with ids up to {most}"
    if len(known) <= most:
        raise DataError(
            f"{len(known)} names of classes in {root}, but lines begin with up to {most}; complete the names"
        )
    found.keys["layout"] = "yolo"
    found.say(
        f"{len(files)} text files of polygons",
        "each line holds a class and points, as YOLO writes them",
        "edit the card",
    )
    if names is not None and len(names) == len(known) and names[0] != "background":
        names = ["background", *names]
    if names is not None and len(names) == len(known) + 1:
        known, names, why = list(names)[1:], None, "--classes says so"
    classes_by_name(known, names, why, found)


def _names(root: Path) -> list[str]:
    """The names of classes in a document near the images: those after `names:`, as a list or by number.

    A few lines are looked at, because the library does not depend on a YAML parser.
    """
    path = next((root / name for name in _DOCUMENTS if (root / name).is_file()), None)
    text = path.read_text(encoding="utf-8-sig", errors="replace")[:_LONGEST] if path else ""
    inline = re.search(r"^names:[ ]*[\[{](.*?)[\]}]", text, re.MULTILINE | re.DOTALL)
    block = re.search(r"^names:[ ]*(?:#.*)?\n((?:[ ]*(?:-|\d+:)[ ].*\n?)+)", text, re.MULTILINE)
    parts = inline.group(1).split(",") if inline else block.group(1).splitlines() if block else []
    found = [re.fullmatch(r"\s*(?:-|(\d+)\s*:)?\s*(['\"]?)(.*?)\2\s*", part) for part in parts]
    numbers = [match.group(1) for match in found if match]
    if any(number is not None for number in numbers) and numbers != [str(k) for k in range(len(parts))]:
        return []
    return [match.group(3) for match in found if match]
