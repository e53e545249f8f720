"""Tables as text: CSV for machines and diffs, Markdown for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.metrics.bootstrap import Tables
from segpipe.metrics.confidence import Bins
from segpipe.metrics.counts import Counts

COUNTS_HEADER = ("split", "variant", "image", "group", "class", "tp", "fp", "fn")
BINS_HEADER = ("split", "variant", "image", "bin", "pixels", "confidence", "correct")
PAPER = 12  # columns of numbers that a printed page holds
OF_PIXELS = ("nll", "brier", "sce", "sce_jdt")  # columns of images.csv that belong to `Bins`


def csv_text(header: Sequence[str] | None, rows: Iterable[Sequence[Any]] = ()) -> str:
    """Rows as CSV with plain line ends; None is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as a Markdown table with aligned columns; the first is text, the others numbers. Bars are escaped."""
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(2, *(len(line[i]) for line in lines)) for i in range(len(header))]  # a rule has at least "-:"
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)


def narrow(header: Sequence[str], rows: Sequence[Sequence[str]], widest: int = PAPER) -> list[str]:
    """Markdown tables of at most `widest` columns beside the first, which each repeats: paper is not wide enough for
    all classes of some datasets.

    >>> for part in narrow(["run", "a", "b", "c"], [["x", "1", "2", "3"]], 2): print(part)
    | run |  a |  b |
    | --- | -: | -: |
    | x   |  1 |  2 |
    <BLANKLINE>
    | run |  c |
    | --- | -: |
    | x   |  3 |
    <BLANKLINE>
    """
    parts = range(1, len(header), widest)
    return [
        markdown([header[0], *header[i : i + widest]], [[row[0], *row[i : i + widest]] for row in rows]) for i in parts
    ]


def counts_rows(
    counts: Counts, split: str, variant: str, rows: Sequence[dict[str, Any]], classes: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Lines of counts.csv: one an image and class."""
    for i, row in enumerate(rows):
        for k, name in enumerate(classes):
            numbers = int(counts.tp[i, k]), int(counts.fp[i, k]), int(counts.fn[i, k])
            yield split, variant, row["id"], row["group"], name, *numbers


def bins_rows(bins: Bins, split: str, variant: str, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Lines of calibration.csv: one an image and bin that holds a pixel."""
    for i, row in enumerate(rows):
        for k in np.flatnonzero(bins.pixels[i]):
            confidence = f"{bins.confidence[i, k]:.6f}"
            yield split, variant, row["id"], int(k), int(bins.pixels[i, k]), confidence, int(bins.correct[i, k])


def read_counts(path: Path, split: str) -> tuple[Counts, list[str], list[str], list[str]]:
    """The counts of a split from counts.csv, with its image ids, their groups, and the class names.

    Raises:
        DataError: the file is missing or no such table.
    """
    rows = _rows(path, split)
    try:
        classes = list(dict.fromkeys(row["class"] for row in rows))
        images = list(dict.fromkeys(row["image"] for row in rows))
        groups = [row["group"] for row in rows[:: max(1, len(classes))]]
        tp, fp, fn = (
            np.array([int(row[name]) for row in rows], np.int64).reshape(len(images), len(classes))
            for name in ("tp", "fp", "fn")
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is no table of counts ({error}); run `segpipe evaluate` again") from None
    if not images:
        raise DataError(f"{path} holds no image of split '{split}'; run `segpipe evaluate` again")
    if min(tp.min(), fp.min(), fn.min()) < 0:
        raise DataError(f"{path} holds a negative count; run `segpipe evaluate` again")
    valid = (tp + fn).sum(1)
    return Counts(tp, fp, fn, valid, valid - (tp + fp).sum(1)), images, groups, classes


def read_tables(folder: Path, split: str) -> tuple[Tables, list[str], list[str], list[str]]:
    """Counts and, where there are some, calibration of a result folder; images, groups, classes."""
    counts, images, groups, classes = read_counts(folder / "counts.csv", split)
    return Tables(counts, _read_bins(folder, split, images)), images, groups, classes


def _read_bins(folder: Path, split: str, images: Sequence[str]) -> Bins | None:
    rows = _rows(folder / "calibration.csv", split)
    if not rows:
        return None
    place = {name: i for i, name in enumerate(images)}
    try:
        index = np.array([place[row["image"]] for row in rows]), np.array([int(row["bin"]) for row in rows])
        table: list[NDArray[np.float64]] = []
        for name in ("pixels", "confidence", "correct"):
            filled = np.zeros((len(images), int(index[1].max()) + 1))
            filled[index] = [float(row[name]) for row in rows]
            table.append(filled)
        of_images = {row["image"]: row for row in _rows(folder / "images.csv", split)}
        values = {name: np.array([float(of_images[image][name] or "nan") for image in images]) for name in OF_PIXELS}
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{folder} has tables that do not fit together ({error}); evaluate it again") from None
    pixels = table[0].sum(1)
    sums = {name: np.where(pixels > 0, values[name] * pixels, 0.0) for name in ("nll", "brier")}
    return Bins(
        table[0].astype(np.int64), table[1], table[2].astype(np.int64),
        sums["nll"], sums["brier"], values["sce"], values["sce_jdt"],
    )  # fmt: skip


def _rows(path: Path, split: str) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            return [row for row in csv.DictReader(stream) if row.get("split") == split]
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run `segpipe evaluate`") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file ({error}); run `segpipe evaluate` again") from None
