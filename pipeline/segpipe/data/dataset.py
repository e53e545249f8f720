"""A dataset as stages download and prepare leave it on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core import files, outputs
from segpipe.data import catalog
from segpipe.data.catalog import Sample
from segpipe.data.geometry import Geometry
from segpipe.data.reading import Reading


@dataclass(frozen=True)
class Row:
    """One prepared image: the files it came from, and the way back to its original size."""

    id: str
    group: str
    image: str
    labels: tuple[str, ...]  # a mask of each annotator
    geometry: Geometry

    @staticmethod
    def of(sample: Sample, geometry: Geometry) -> Row:
        """The row of a sample that was placed on the grid."""
        return Row(sample.id, sample.group, sample.image, sample.labels, geometry)

    def sample(self, split: str) -> Sample:
        """The sample that the row was made of."""
        return Sample(self.id, split, self.group, self.image, self.labels)

    @property
    def inside(self) -> tuple[slice, slice]:
        """The part of the grid that is no padding."""
        return slice(self.geometry.resized_height), slice(self.geometry.resized_width)


@dataclass(frozen=True)
class Index:
    """What stage prepare wrote down: classes, grid, and the rows of every split. `labels`: which annotator's.

    height, width: of the grid; None where every image is kept at its own size.
    """

    dataset: str
    classes: list[str]
    palette: list[list[int]]
    labels: str
    normalization: str
    height: int | None
    width: int | None
    reading: Reading
    splits: dict[str, list[Row]]

    @property
    def native(self) -> bool:
        """Whether every image is kept at its own size."""
        return self.height is None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the grid; of images at their own size the middle one of the train split."""
        if self.height is not None and self.width is not None:
            return self.height, self.width
        sizes = sorted((row.geometry.padded_height, row.geometry.padded_width) for row in self.splits["train"])
        return sizes[len(sizes) // 2]

    @staticmethod
    def read(prepared: Path) -> Index:
        """The index of a prepared dataset."""
        values: dict[str, Any] = files.read_json(prepared / "index.json")
        splits = {split: [_row(row) for row in rows] for split, rows in values.pop("splits").items()}
        return Index(**{**values, "reading": Reading(**values["reading"])}, splits=splits)

    def write(self, prepared: Path) -> None:
        """Write index.json."""
        rows = {split: [_plain(row) for row in rows] for split, rows in self.splits.items()}
        files.write_json(prepared / "index.json", {**vars(self), "reading": vars(self.reading), "splits": rows})

    def groups(self, split: str) -> list[str]:
        """The group of each image of a split."""
        return [row.group for row in self.splits[split]]

    def digest(self, split: str) -> str:
        """A name for the images of a split and their order."""
        return outputs.digest_json([row.id for row in self.splits[split]])


def _row(values: dict[str, Any]) -> Row:
    return Row(**{**values, "labels": tuple(values["labels"]), "geometry": Geometry(**values["geometry"])})


def _plain(row: Row) -> dict[str, Any]:
    return {**vars(row), "labels": list(row.labels), "geometry": row.geometry.as_dict()}


def read_samples(downloaded: Path) -> list[Sample]:
    """The samples of a downloaded dataset."""
    rows = files.read_json(downloaded / "samples.json")
    return [Sample(**{**row, "labels": tuple(row["labels"])}) for row in rows]


def read_left_out(downloaded: Path) -> dict[str, str]:
    """The files of a dataset that are part of no sample, with the reason."""
    path = downloaded / "left_out.json"
    return dict(files.read_json(path)) if path.is_file() else {}


def read_target(downloaded: Path, index: Index, row: Row, split: str) -> NDArray[np.uint8]:
    """The label map (H, W) of a row at its original size."""
    return catalog.read_labels(downloaded, row.sample(split), catalog.card(index.dataset), index.labels)
