"""Tables of counts or scores of each image that somebody else made, as `segpipe compare --csv` reads them.

One line an image and class with columns tp, fp, fn, or one line an image with a column for every score:

run,seed,image,group,class,tp,fp,fn          run,seed,image,group,dice,hd95

`seed` and `group` may be left out: one training a run, and every image a group of its own. An empty score is undefined
and must be so for all runs.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.spreadsheet import csv_rows
from segpipe.metrics.counts import Counts
from segpipe.metrics.defined import Floats, divide
from segpipe.metrics.jackknife import Scored, Tables
from segpipe.metrics.naming import foreign

MOST = 2**30  # bytes of a packed table
LARGEST = 1e15  # of a score or a number of pixels: sums of them stay exact
COUNTED = ("tp", "fp", "fn")
KEYS = ("run", "seed", "image", "group", "class")
Line = dict[str, str]


@dataclass(frozen=True)
class Values:
    """Scores of each image by name, (N,) each; a score of many images is their mean, NaN left out."""

    columns: dict[str, Floats]

    @property
    def images(self) -> int:
        """N."""
        return len(next(iter(self.columns.values())))

    @property
    def classes(self) -> int:
        """0: a score is of all classes."""
        return 0

    def scores(self, weights: NDArray[Any], names: Collection[str]) -> dict[str, Floats]:
        """(R,) of the named columns under (R, N) weights."""
        found = {}
        for name in names:
            if name in self.columns:
                values = self.columns[name]
                defined = ~np.isnan(values)
                total = weights @ np.where(defined, values, 0.0)
                found[name] = divide(total, weights @ defined.astype(np.float64))
        return found

    def support(self, members: NDArray[np.int64], metric: str) -> list[int]:
        """How many units define a column."""
        return [len(np.unique(members[~np.isnan(self.columns[metric])]))]


@dataclass(frozen=True)
class Elsewhere:
    """By run and seed what a table holds, the group of each image, and by column how a score is called (none: it holds
    counts).
    """

    runs: dict[str, dict[str, Scored]]
    groups: list[str]
    columns: dict[str, str]


def read_elsewhere(path: Path, lower: Collection[str] = ()) -> Elsewhere:
    """Read and check such a table.

    Args:
        path: of a CSV file, packed where its name ends in .gz.
        lower: columns of which lower is better, beside those whose names say so.

    Raises:
        DataError: a column is missing, a cell is no number, a line repeats, or runs have other images.
    """
    lines = lines_of(path)
    if not lines:
        raise DataError(f"{path} holds no line; wanted columns run, image and tp, fp, fn with class, or scores")
    missing = [name for name in ("run", "image") if name not in lines[0]]
    if missing:
        raise DataError(f"{path} has no column '{missing[0]}'; it has {', '.join(lines[0])}: name one of them so")
    counted = all(name in lines[0] for name in (*COUNTED, "class"))
    columns = [] if counted else [name for name in lines[0] if name not in KEYS]
    if not counted and (not columns or "class" in lines[0] or any(name in columns for name in COUNTED)):
        raise DataError(f"{path}: wanted all of class, tp, fp, fn, or columns of scores; it has {', '.join(lines[0])}")
    parts: dict[str, dict[str, list[Line]]] = {}
    for line in lines:
        parts.setdefault(line["run"], {}).setdefault(line.get("seed") or "0", []).append(line)
    first_run, first = next((run, seed) for run, seeds in parts.items() for seed in seeds.values())
    strange = [name for name in lower if name not in columns]
    if strange:
        raise DataError(f"{path} has no score '{strange[0]}'; it has {', '.join(columns) or 'counts alone'}")
    called = {name: foreign(name, lower=True if name in lower else None) for name in columns}
    images = list(dict.fromkeys(line["image"] for line in first))
    classes = list(dict.fromkeys(line["class"] for line in first)) if counted else [""]
    made: dict[str, dict[str, Scored]] = {}
    for run, seeds in parts.items():
        for seed, own in seeds.items():
            where = f"{path}: run {run}, seed {seed}"
            placed = _placed(own, images, classes, where, first_run)
            one: Scored = _counts(placed, where) if counted else _values(placed, called, where)
            made.setdefault(run, {})[seed] = one
    if counted:
        _refuse_other_labels(made, images, path)
    else:
        _refuse_gaps(made, images, called, path)
    return Elsewhere(made, _groups(lines, images, path), called)


def lines_of(path: Path) -> list[Line]:
    """The lines of a CSV file that somebody else made, in UTF-8 with or without a mark before the first name.

    Raises:
        DataError: there is no such file, or it is no table.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file; give a table in CSV")
    try:
        text = _unpacked(path).decode("utf-8-sig")
        header = next(csv.reader(text.splitlines()[:1]), [])
        lines = csv_rows("\n".join(line for line in text.splitlines() if line.strip()))
    except (UnicodeDecodeError, csv.Error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is no CSV table in UTF-8: {error}") from None
    separator = next((sign for sign in (";", "\t") if len(header) == 1 and sign in header[0]), "")
    if separator:
        raise DataError(f"{path}: its columns are separated by {separator!r}, wanted a comma")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns '{twice[0]}'; give each once")
    return lines


def _unpacked(path: Path) -> bytes:
    """The bytes of a file; those in it where it ends in .gz."""
    if path.suffix != ".gz":
        return path.read_bytes()
    with gzip.open(path) as stream:
        content = stream.read(MOST + 1)
    if len(content) > MOST:
        raise DataError(f"{path} unpacks to more than {MOST} bytes; give fewer runs at once")
    return content


def _placed(
    lines: Sequence[Line], images: Sequence[str], classes: Sequence[str], where: str, first: str
) -> list[list[Line]]:  # fmt: skip
    """(images, classes) lines in order."""
    found: dict[tuple[str, str], Line] = {}
    for line in lines:
        key = line["image"], line["class"] if classes != [""] else ""
        if key in found:
            of_class = f", class '{key[1]}'" if key[1] else ""
            raise DataError(f"{where}: image '{key[0]}'{of_class} stands there twice; give each once")
        found[key] = line
    wanted = {(image, name) for image in images for name in classes}
    for what, odd in (("lacks", wanted - found.keys()), ("also has", found.keys() - wanted)):
        if odd:
            image, name = min(odd)
            of_class = f", class '{name}'" if name else ""
            raise DataError(f"{where} {what} image '{image}'{of_class}, unlike run {first}; compare the same images")
    return [[found[image, name] for name in classes] for image in images]


def _counts(placed: Sequence[Sequence[Line]], where: str) -> Tables:
    tp, fp, fn = (np.array([[_number(line, name, where) for line in row] for row in placed]) for name in COUNTED)
    for name, table in zip(COUNTED, (tp, fp, fn), strict=True):
        if not (np.isfinite(table) & (table >= 0) & (table == np.rint(table))).all():
            raise DataError(f"{where}: column {name} holds what is no whole number of pixels from 0")
    tp, fp, fn = (part.astype(np.int64) for part in (tp, fp, fn))
    valid = (tp + fn).sum(1)
    return Tables(Counts(tp, fp, fn, valid, np.maximum(0, valid - (tp + fp).sum(1))))


def _values(placed: Sequence[Sequence[Line]], called: Mapping[str, str], where: str) -> Values:
    return Values({key: np.array([_number(row[0], name, where) for row in placed]) for name, key in called.items()})


def _number(line: Line, name: str, where: str) -> float:
    """A cell, NaN where it is empty."""
    try:
        value = float(line[name] or "nan")
    except (ValueError, TypeError):
        value = math.inf
    if abs(value) > LARGEST:
        raise DataError(
            f"{where}, image '{line['image']}': {name} is {line[name]!r}, wanted a number up to {LARGEST:g}"
        )
    return value


def _refuse_other_labels(runs: Mapping[str, Mapping[str, Scored]], images: Sequence[str], path: Path) -> None:
    """Pixels of a class in the label, tp + fn, are the same whoever predicts."""
    of_run = [(run, one.counts) for run, seeds in runs.items() for one in seeds.values() if isinstance(one, Tables)]
    first, known = of_run[0]
    for run, counts in of_run:
        odd = np.argwhere(counts.tp + counts.fn != known.tp + known.fn)
        if len(odd):
            image = images[odd[0][0]]
            raise DataError(
                f"{path}: image '{image}' has another label for run {run} than before (run {first}): tp + fn differ"
            )


def _refuse_gaps(
    runs: dict[str, dict[str, Scored]], images: Sequence[str], called: Mapping[str, str], path: Path
) -> None:  # fmt: skip
    """A mean over other images is no comparison."""
    for name, key in called.items():
        gaps = {
            (run, seed): np.isnan(values.columns[key])
            for run, seeds in runs.items()
            for seed, values in seeds.items()
            if isinstance(values, Values)
        }
        common = next(iter(gaps.values()))
        for (run, seed), found in gaps.items():
            odd = np.flatnonzero(found != common)
            if len(odd):
                raise DataError(
                    f"{path}: {name} of image '{images[odd[0]]}' is empty for some runs and not for others "
                    f"(see run {run}, seed {seed}); fill it in, or leave the image out everywhere"
                )


def _groups(lines: Sequence[Line], images: Sequence[str], path: Path) -> list[str]:
    """The group of each image."""
    found: dict[str, str] = {}
    for line in lines:
        group = line.get("group") or line["image"]
        if found.setdefault(line["image"], group) != group:
            raise DataError(f"{path}: image '{line['image']}' is in groups '{found[line['image']]}' and '{group}'")
    return [found[image] for image in images]
