"""Tables as text: CSV for machines and diffs, Markdown for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.core.errors import DataError
from segpipe.metrics import Bins, Counts

COUNTS_HEADER = ("split", "variant", "image", "group", "class", "tp", "fp", "fn")
BINS_HEADER = ("split", "variant", "image", "bin", "pixels", "confidence", "correct")


def csv_text(header: Sequence[str] | None, rows: Iterable[Sequence[Any]] = ()) -> str:
    """Rows as CSV with plain line ends; None is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as a Markdown table with aligned columns; the first is text, the others numbers."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)


def counts_rows(
    counts: Counts, split: str, variant: str, rows: Sequence[dict[str, Any]], classes: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Lines of counts.csv: one an image and class."""
    for i, row in enumerate(rows):
        for k, name in enumerate(classes):
            numbers = int(counts.tp[i, k]), int(counts.fp[i, k]), int(counts.fn[i, k])
            yield split, variant, row["id"], row["group"], name, *numbers


def read_counts(path: Path, split: str) -> tuple[Counts, list[str], list[str]]:
    """The counts of a split from counts.csv, with its image ids and their groups."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == split]
        classes = list(dict.fromkeys(row["class"] for row in rows))
        images = list(dict.fromkeys(row["image"] for row in rows))
        groups = [row["group"] for row in rows[:: max(1, len(classes))]]
        tp, fp, fn = (
            np.array([int(row[name]) for row in rows], np.int64).reshape(len(images), len(classes))
            for name in ("tp", "fp", "fn")
        )
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run `segpipe evaluate`") from None
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} is no table of counts ({error}); run `segpipe evaluate` again") from None
    valid = (tp + fn).sum(1)
    return Counts(tp, fp, fn, valid, valid - (tp + fp).sum(1)), images, groups


def bins_rows(bins: Bins, split: str, variant: str, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Lines of calibration.csv: one an image and bin that holds a pixel."""
    for i, row in enumerate(rows):
        for k in np.flatnonzero(bins.pixels[i]):
            confidence = f"{bins.confidence[i, k]:.6f}"
            yield split, variant, row["id"], int(k), int(bins.pixels[i, k]), confidence, int(bins.correct[i, k])
