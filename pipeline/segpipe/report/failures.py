"""Where results fail, with pictures: worst images and pairs, common failures, near-duplicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from segpipe.config.context import Context
from segpipe.core.files import read_bytes
from segpipe.core.opencv import cv2
from segpipe.data import catalog
from segpipe.data.dataset import Index, Row, read_target
from segpipe.data.duplicates import across, thumbnails
from segpipe.data.files import png_bytes, read_image
from segpipe.data.predictions import read_predicted_labels
from segpipe.data.prepared import stored
from segpipe.metrics.counts import Counts
from segpipe.metrics.defined import Floats, mean
from segpipe.metrics.jackknife import Tables
from segpipe.metrics.scores import per_image, per_pair
from segpipe.metrics.suspects import unanimity
from segpipe.report.audit import Case, Part, lowest, panels
from segpipe.report.html import Fold, Group, Legend, Picture, Piece, Slider
from segpipe.report.judgement import read_runs
from segpipe.report.pictures import blend, colorize, jpeg_bytes, reduced
from segpipe.report.results import Entry

Box = tuple[int, int, int, int]  # top, left, bottom, right


class Audited:
    """What is audited: the images of a split, the tables and predictions of every result."""

    def __init__(self, context: Context, split: str, entries: Sequence[Entry]) -> None:
        self.context, self.split = context, split
        self.root = context.require("download")
        self.index = Index.read(context.require("prepare"))
        self.card = catalog.card(self.index.dataset)
        self.rows = self.index.splits[split]
        self.entries = {entry.name: entry for entry in entries if split in entry.metrics[0]}
        runs, _ = read_runs({name: entry.folders for name, entry in self.entries.items()}, split)
        self.runs = {name: list(seeds.values()) for name, seeds in runs.items()}

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

    def panels(self, name: str, position: int, framed: int | None = None) -> bytes:
        """The four panels of a result on an image, with a frame around a class of the label."""
        row = self.rows[position]
        target = self.target(row)
        box: Box | None = None
        if framed is not None:
            ys, xs = np.nonzero(target == framed)
            box = (int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1)
        return png_bytes(panels(self.picture(row), target, self.labels(name, position), self.index.palette, box))


def _seed_mean(tables: Sequence[Tables], score: Callable[[Counts], Floats]) -> Floats:
    found: Floats = mean(np.stack([score(item.counts) for item in tables]), 0)
    return found


def sliders(audited: Audited, name: str, number: int, widest: int) -> list[Piece]:
    """The worst images of a result, label and prediction over the image; wider ones are made smaller."""
    index = audited.index
    values, pairs = _seed_mean(audited.runs[name], per_image), _seed_mean(audited.runs[name], per_pair)
    found: list[Piece] = []
    for (i,) in lowest(values, number):
        row = audited.rows[i]
        picture = audited.picture(row)
        both = [blend(picture, labels, index.palette) for labels in (audited.target(row), audited.labels(name, i))]
        height, width = picture.shape[:2]
        if width > widest:
            size = (widest, max(1, round(height * widest / width)))
            both = [np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_AREA), np.uint8) for one in both]
        classes = ", ".join(f"{index.classes[k]} {pairs[i, k]:.2f}" for (k,) in lowest(pairs[i], 3))
        caption = f"{row.id}: mean IoU {values[i]:.3f}; lowest {classes}"
        found.append(Slider(jpeg_bytes(both[0]), jpeg_bytes(both[1]), ("label", "prediction"), caption))
    return found


def worst_images(audited: Audited, number: int) -> Part:
    """Of each result."""
    cases = []
    for name, tables in audited.runs.items():
        values = _seed_mean(tables, per_image)
        for (i,) in lowest(values, number):
            note = f"mean IoU {values[i]:.3f}"
            cases.append(Case("image", name, audited.rows[i].id, values[i], note, audited.panels(name, i)))
    text = f"The {number} images of lowest mean IoU of each result, over the classes in the label: image, label, "
    return Part("Worst images", text + "prediction of the first seed, errors in red.", cases)


def worst_pairs(audited: Audited, number: int) -> Part:
    """Of image and class, of each result."""
    cases = []
    for name, tables in audited.runs.items():
        values = _seed_mean(tables, per_pair)
        size = tables[0].counts.tp + tables[0].counts.fn  # of the label: the same for every seed
        for i, k in lowest(values, number, size):
            note = f"{audited.index.classes[k]}, IoU {values[i, k]:.3f} of {size[i, k]} pixels"
            cases.append(Case("pair", name, audited.rows[i].id, values[i, k], note, audited.panels(name, i, k)))
    text = (
        f"The {number} pairs of image and class of lowest IoU of each result, the largest of equal ones; the class is "
        "in the label, inside the frame."
    )
    return Part("Worst pairs of image and class", text, cases)


def common_failures(audited: Audited, number: int, fail: float) -> Part:
    """Images on which no run reaches `fail`, and whether the runs err alike."""
    names = [name for name, entry in audited.entries.items() if entry.kind in ("run", "import")]
    if not names:
        return Part("Images on which every run fails", "There is no run.", [])
    best = np.max(np.stack([_seed_mean(audited.runs[name], per_image) for name in names]), 0)  # NaN stays
    failed = [int(i) for i in np.argsort(best, kind="stable") if best[i] < fail]
    seeds = [(name, seed) for name in names for seed in range(len(audited.entries[name].folders))]
    cases = []
    for i in failed[:number]:
        row = audited.rows[i]
        verdict = _verdict([audited.labels(name, i, seed) for name, seed in seeds], audited.target(row))
        note = f"best mean IoU {best[i]:.3f}; {verdict}"
        cases.append(Case("common failure", "all runs", row.id, best[i], note, audited.panels(names[0], i)))
    text = (
        f"{len(failed)} of {len(best)} images on which no run reaches a mean IoU of {fail:g} (`segpipe audit --fail`). "
        "Networks erring alike point at the label, or at something none can see; each in its own way, at the model."
    )
    return Part("Images on which every run fails", text, cases)


def _verdict(predicted: Sequence[NDArray[np.uint8]], target: NDArray[np.uint8]) -> str:
    """Whether the label or the model is to blame for a failure."""
    share = unanimity(predicted, target)
    if len(predicted) < 2:
        return "one network alone cannot tell model from label"
    if share is None:
        return "model suspect: on no pixel are most networks wrong"
    if share >= 0.5:
        return f"label suspect: on {100 * share:.0f} % of what most get wrong they agree with each other"
    return f"model suspect: they agree with each other on {100 * share:.0f} % of what most get wrong"


def gallery(context: Context, index: Index, entries: Sequence[Entry]) -> list[Piece]:
    """Input, label and each entry's prediction (first seed) of the test images whose label maps were kept."""
    prepared = context.require("prepare")
    images, labels = (stored(prepared, index, "test", kind) for kind in ("images", "labels"))
    found: list[Piece] = []
    for i, row in enumerate(index.splits["test"]):
        files = [(e.name, e.folders[0] / "pictures" / f"{row.id}.png") for e in entries]
        kept = [Picture(read_bytes(path), name) for name, path in files if path.exists()]
        if kept:
            pair = [
                Picture(png_bytes(reduced(images[i][row.inside])), f"{row.id}: image"),
                Picture(png_bytes(colorize(reduced(labels[i][row.inside]), index.palette)), "label"),
            ]
            group = Group("pictures", [*pair, *kept])
            found.append(group if not found else Fold(row.id, [group]))
    return [Legend(index.classes, index.palette), *found] if found else []


def duplicates(audited: Audited, number: int, alike: float) -> Part:
    """Images of two splits that are nearly the same."""
    prepared = audited.context.require("prepare")
    splits: dict[str, tuple[Sequence[str], NDArray[np.float32]]] = {}
    for name, rows in audited.index.splits.items():
        images = stored(prepared, audited.index, name, "images")
        cut = (image[row.inside] for image, row in zip(images, rows, strict=True))
        splits[name] = ([row.id for row in rows], thumbnails(cut))
    found = across(splits, alike)
    cases = [
        Case("near-duplicate", f"{a} and {b}", f"{x} and {y}", likeness, f"correlation {likeness:.3f}")
        for a, x, b, y, likeness in found[: 4 * number]
    ]
    text = (
        f"{len(found)} pairs of images from two splits whose thumbnails correlate by at least {alike:g} "
        "(`segpipe audit --alike`): scores on them flatter."
    )
    return Part("Near-duplicates across splits", text, cases)
