"""What is audited: label maps, pictures and predictions of a split, of a workspace or of folders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segpipe.config.context import Context
from segpipe.data.dataset import Index, Row, read_target
from segpipe.data.files import png_bytes, read_image
from segpipe.data.predictions import read_predicted_labels
from segpipe.metrics.jackknife import Tables
from segpipe.report.audit import panels
from segpipe.report.results import Entry
from segpipe.report.runs import read_runs

Box = tuple[int, int, int, int]  # top, left, bottom, right


class Audit(ABC):
    """Results and the images that they are scored on.

    images: their names. runs: by result, the tables of each seed. trained: the results that are networks of their own.
    """

    images: Sequence[str]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    runs: Mapping[str, Sequence[Tables]]
    trained: Sequence[str]

    @abstractmethod
    def picture_at(self, position: int) -> NDArray[np.uint8]:
        """An image (H, W, 3)."""

    @abstractmethod
    def target_at(self, position: int) -> NDArray[np.uint8]:
        """The labels (H, W) that are scored, 255 void."""

    @abstractmethod
    def labels(self, name: str, position: int, seed: int = 0) -> NDArray[np.uint8]:
        """What a result predicts for an image (its first seed, unless another is asked)."""

    def panels(self, name: str, position: int, framed: int | None = None) -> bytes:
        """The four panels of a result on an image, with a frame around a class of the label."""
        target = self.target_at(position)
        box: Box | None = None
        if framed is not None:
            ys, xs = np.nonzero(target == framed)
            box = (int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1)
        picture = self.picture_at(position)
        return png_bytes(panels(picture, target, self.labels(name, position), self.palette, box))


class Audited(Audit):
    """The results of a workspace on a split."""

    def __init__(self, context: Context, split: str, entries: Sequence[Entry]) -> None:
        self.context, self.split = context, split
        self.root = context.require("download")
        self.index = Index.read(context.require("prepare"))
        self.rows = self.index.splits[split]
        self.entries = {entry.name: entry for entry in entries if split in entry.metrics[0]}
        runs, _ = read_runs({name: entry.folders for name, entry in self.entries.items()}, split)
        self.runs = {name: list(seeds.values()) for name, seeds in runs.items()}
        self.trained = [name for name, entry in self.entries.items() if entry.kind in ("run", "import")]
        self.images = [row.id for row in self.rows]
        self.classes, self.palette = self.index.classes, self.index.palette

    def picture_at(self, position: int) -> NDArray[np.uint8]:
        """The original image."""
        return self.picture(self.rows[position])

    def target_at(self, position: int) -> NDArray[np.uint8]:
        """The labels that are scored."""
        return self.target(self.rows[position])

    def picture(self, row: Row) -> NDArray[np.uint8]:
        """The original image."""
        return read_image(self.root / row.image, self.index.reading)

    def target(self, row: Row, split: str | None = None) -> NDArray[np.uint8]:
        """The labels that are scored."""
        return read_target(self.root, self.index, row, split or self.split)

    def labels(self, name: str, position: int, seed: int = 0) -> NDArray[np.uint8]:
        """What a result predicts for an image of the split (its first seed, unless another is asked)."""
        entry, row = self.entries[name], self.rows[position]
        key = entry.folders[seed].name
        if entry.kind == "decided":
            source = self.context.decided(key, entry.folders[seed].parent.name).require("decide")
        elif entry.kind == "ensemble":
            source = self.context.of_ensemble(key).require("ensemble")
        else:
            source = self.context.member(key).require("crf" if entry.kind == "crf" else "predict")
        return read_predicted_labels(source, self.split, row, position)
