"""Tables of counts and calibration as a result folder holds them, written and read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.files import read_csv
from segpipe.metrics.confidence import Bins
from segpipe.metrics.counts import Counts
from segpipe.metrics.jackknife import Tables

COUNTS_HEADER = ("split", "variant", "image", "group", "class", "tp", "fp", "fn")
BINS_HEADER = ("split", "variant", "image", "bin", "pixels", "confidence", "correct")
OF_PIXELS = ("nll", "brier", "sce", "sce_jdt")  # columns of images.csv that belong to `Bins`
Line = tuple[Any, ...]


@dataclass(frozen=True)
class Stored:
    """What a result folder holds of a split: its tables, and the ids and groups of its images, and the classes."""

    tables: Tables
    images: list[str]
    groups: list[str]
    classes: list[str]


def counts_rows(
    counts: Counts, split: str, variant: str, images: Sequence[tuple[str, str]], classes: Sequence[str]
) -> Iterator[Line]:
    """Lines of counts.csv: one an image, given by id and group, and class."""
    for i, (image, group) in enumerate(images):
        for k, name in enumerate(classes):
            numbers = int(counts.tp[i, k]), int(counts.fp[i, k]), int(counts.fn[i, k])
            yield split, variant, image, group, name, *numbers


def bins_rows(bins: Bins, split: str, variant: str, images: Sequence[tuple[str, str]]) -> Iterator[Line]:
    """Lines of calibration.csv: one an image and bin that holds a pixel."""
    for i, (image, _) in enumerate(images):
        for k in np.flatnonzero(bins.pixels[i]):
            confidence = f"{bins.confidence[i, k]:.6f}"
            yield split, variant, image, int(k), int(bins.pixels[i, k]), confidence, int(bins.correct[i, k])


def read_tables(folder: Path, split: str) -> Stored:
    """Counts and, where there are some, calibration of a result folder; images, groups, classes.

    Raises:
        DataError: a file is missing or no such table.
    """
    path = folder / "counts.csv"
    rows = _rows(path, split)
    try:
        counts, stored = _counts(rows)
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is no table of counts ({error}); run `segpipe evaluate` again") from None
    if not stored.images:
        raise DataError(f"{path} holds no image of split '{split}'; run `segpipe evaluate` again")
    if min(counts.tp.min(), counts.fp.min(), counts.fn.min()) < 0:
        raise DataError(f"{path} holds a negative count; run `segpipe evaluate` again")
    return replace(stored, tables=Tables(counts, _read_bins(folder, split, stored.images)))


def _counts(rows: Sequence[dict[str, str]]) -> tuple[Counts, Stored]:
    """The counts in the lines of a split, and what they are of."""
    classes = list(dict.fromkeys(row["class"] for row in rows))
    images = list(dict.fromkeys(row["image"] for row in rows))
    groups = [row["group"] for row in rows[:: max(1, len(classes))]]
    tp, fp, fn = (
        np.array([int(row[name]) for row in rows], np.int64).reshape(len(images), len(classes))
        for name in ("tp", "fp", "fn")
    )
    valid = (tp + fn).sum(1)
    counts = Counts(tp, fp, fn, valid, valid - (tp + fp).sum(1))
    return counts, Stored(Tables(counts), images, groups, classes)


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
    return [row for row in read_csv(path) if row.get("split") == split]
