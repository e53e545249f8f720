"""Predictions of any framework beside label maps, from folders alone: what is audited, and the page."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.data import folders
from segpipe.data.files import read_image
from segpipe.data.guess.masks import palette
from segpipe.metrics.jackknife import Tables
from segpipe.metrics.naming import pretty
from segpipe.metrics.scores import summarize
from segpipe.report import analysis, failures, page
from segpipe.report.audit import pieces
from segpipe.report.audited import Audit
from segpipe.report.html import Fold, Group, Heading, Legend, Piece
from segpipe.report.judgement import Judgement, sentence
from segpipe.report.page import Answer, Section
from segpipe.report.tables import Table

Pairs = Mapping[str, tuple[Path, Path]]  # label map and prediction, by image
PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".webp")
_GREY = 160  # of an image that is not given
_WORST, _FAILS, _WIDEST = 4, 0.5, 720


@dataclass(frozen=True)
class Compared:
    """labels: the folder of label maps, whose value `ignored` is void. runs: by name and seed, the pairs and their
    counts. classes: their number. pictures: the image of each label map; none where they are not given.
    """

    labels: Path
    ignored: int
    runs: Mapping[str, Mapping[str, Pairs]]
    tables: Mapping[str, Mapping[str, Tables]]
    classes: int
    pictures: Sequence[Path] = ()


class FolderAudit(Audit):
    """Folders that were compared."""

    def __init__(self, compared: Compared) -> None:
        self.compared = compared
        self.trained = list(compared.runs)
        self.runs = {name: list(seeds.values()) for name, seeds in compared.tables.items()}
        # A run's names may lack a text that all of them share; the label map is the same for all runs.
        self.pairs = {name: [dict(pairs.values()) for pairs in seeds.values()] for name, seeds in compared.runs.items()}
        first = next(iter(compared.runs[self.trained[0]].values()))
        self.images = list(first)
        self.targets = [true for true, _ in first.values()]
        self.classes = [f"class {k}" for k in range(compared.classes)]
        self.palette = palette(compared.classes)

    def picture_at(self, position: int) -> NDArray[np.uint8]:
        """The image, or a grey one."""
        if self.compared.pictures:
            path = self.compared.pictures[position]
            image, target = read_image(path), self.target_at(position)
            if image.shape[:2] != target.shape:
                raise DataError(
                    f"{path} is {image.shape[1]} x {image.shape[0]}, its label map "
                    f"{target.shape[1]} x {target.shape[0]}; give the images that were labelled"
                )
            return image
        return np.full((*self.target_at(position).shape, 3), _GREY, np.uint8)

    def target_at(self, position: int) -> NDArray[np.uint8]:
        """The label map."""
        return self._read(self.trained[0], position, 0)[0]

    def labels(self, name: str, position: int, seed: int = 0) -> NDArray[np.uint8]:
        """The prediction."""
        return self._read(name, position, seed)[1]

    def _read(self, name: str, position: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        true = self.targets[position]
        return folders.read_pair(true, self.pairs[name][seed][true], self.compared.classes, self.compared.ignored)


def pictures_of(folder: Path, images: Sequence[str]) -> list[Path]:
    """The file of each image, by the name of its label map.

    Raises:
        DataError: an image is missing, or two have its name.
    """
    there = folders.by_name(folder, PICTURES)
    number = Counter(Path(name).name for name in there)
    bare = {Path(name).name: path for name, path in there.items() if number[Path(name).name] == 1}
    missing = [name for name in images if name not in there and Path(name).name not in bare]
    if missing:
        raise DataError(
            f"{folder} has no image for {len(missing)} of {len(images)} label maps, such as {missing[0]}; "
            "give images the names of their label maps"
        )
    return [there.get(name, bare.get(Path(name).name, Path())) for name in images]


def build(found: Judgement, compared: Compared) -> str:
    """The page: verdicts, scores by class, and where the predictions fail."""
    audited, metric = FolderAudit(compared), found.sample.metrics[0]
    seeds = sorted({len(one) for one in compared.tables.values()})
    told = f"{' or '.join(map(str, seeds))} seed{'s' if seeds != [1] else ''} per run"
    lead = f"{len(audited.images)} images, {compared.classes} classes, {told}; void pixels excluded."
    limits = f"{found.units} {found.unit}s, {told}. The ranking may change on other data."
    taken = (found.order(metric) or [audited.trained[0]])[0]
    answer = Answer(
        f"Which predictions are better, by {pretty(metric)}?", sentence(found, metric) or "Nothing is defined.",
        [("limits", limits)],
    )  # fmt: skip
    notes = [f"{note[:1].upper()}{note[1:]}." for note in found.notes]
    return page.build(f"segpipe compare: {compared.labels.name}", lead, answer, notes, [
        Section("Is the difference real?", analysis.differences(found, None, metric)),
        Section("Scores", [_scores(found), Heading("IoU of each class"), *_by_class(audited).narrow()]),
        Section("Where does it fail?", _failures(audited, taken)),
    ])  # fmt: skip


def _scores(found: Judgement) -> Table:
    """Means over seeds."""
    metrics = found.sample.metrics
    rows = [
        [name, *(f"{values[m]:.4f}" if m in values and not np.isnan(values[m]) else "–" for m in metrics)]
        for name, values in found.scores.items()
    ]
    return Table(["what", *map(pretty, metrics)], rows)


def _by_class(audited: Audit) -> Table:
    """IoU of each class, pixels of all images pooled, mean over seeds."""
    rows = []
    for name, tables in audited.runs.items():
        each = [summarize(one.counts, measures=("iou",))["per_class"]["iou_dataset"] for one in tables]
        of_class = zip(*each, strict=True)
        rows.append([name, *("–" if None in values else f"{statistics.fmean(values):.3f}" for values in of_class)])
    return Table(["IoU^D", *audited.classes], rows)


def _failures(audited: FolderAudit, taken: str) -> list[Piece]:
    """Worst images and pairs, and those on which all fail."""
    found: list[Piece] = [Legend(list(audited.classes), [list(color) for color in audited.palette])]
    if not audited.compared.pictures:
        found.append("Give the folder of the images with `--images` to see them here.")
    for part in (
        failures.worst_images(audited, _WORST),
        failures.worst_pairs(audited, _WORST),
        failures.common_failures(audited, _WORST, _FAILS),
    ):
        text, *rest = pieces(part)
        found += [Heading(part.heading), text, *([Fold(f"{len(part.cases)} shown", rest)] if rest else [])]
    return [
        Heading(f"Worst images of {taken}"),
        Group("sliders", failures.sliders(audited, taken, _WORST, _WIDEST)),
        *found,
    ]
