"""Where results fail, with pictures: worst images and pairs, common failures, near-duplicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from segpipe.config.context import Context
from segpipe.core.files import read_bytes
from segpipe.core.opencv import cv2
from segpipe.data.dataset import Index
from segpipe.data.duplicates import across, thumbnails
from segpipe.data.files import png_bytes
from segpipe.data.prepared import stored
from segpipe.metrics.counts import Counts
from segpipe.metrics.defined import Floats, mean
from segpipe.metrics.jackknife import Tables
from segpipe.metrics.scores import per_image, per_pair
from segpipe.metrics.suspects import unanimity
from segpipe.report.audit import Case, Part, lowest
from segpipe.report.audited import Audit, Audited
from segpipe.report.html import Fold, Group, Legend, Picture, Piece, Slider
from segpipe.report.pictures import blend, colorize, jpeg_bytes, reduced
from segpipe.report.results import Entry


def _seed_mean(tables: Sequence[Tables], score: Callable[[Counts], Floats]) -> Floats:
    found: Floats = mean(np.stack([score(item.counts) for item in tables]), 0)
    return found


def sliders(audited: Audit, name: str, number: int, widest: int) -> list[Piece]:
    """The worst images of a result, label and prediction over the image; wider ones are made smaller."""
    values, pairs = _seed_mean(audited.runs[name], per_image), _seed_mean(audited.runs[name], per_pair)
    found: list[Piece] = []
    for (i,) in lowest(values, number):
        picture, target = audited.picture_at(i), audited.target_at(i)
        both = [blend(picture, labels, audited.palette) for labels in (target, audited.labels(name, i))]
        height, width = picture.shape[:2]
        if width > widest:
            size = (widest, max(1, round(height * widest / width)))
            both = [np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_AREA), np.uint8) for one in both]
        classes = ", ".join(f"{audited.classes[k]} {pairs[i, k]:.2f}" for (k,) in lowest(pairs[i], 3))
        caption = f"{audited.images[i]}: mean IoU {values[i]:.3f}; lowest {classes}"
        found.append(Slider(jpeg_bytes(both[0]), jpeg_bytes(both[1]), ("label", "prediction"), caption))
    return found


def worst_images(audited: Audit, number: int) -> Part:
    """Of each result."""
    cases = []
    for name, tables in audited.runs.items():
        values = _seed_mean(tables, per_image)
        for (i,) in lowest(values, number):
            note = f"mean IoU {values[i]:.3f}"
            cases.append(Case("image", name, audited.images[i], values[i], note, audited.panels(name, i)))
    text = f"The {number} images of lowest mean IoU of each result, over the classes in the label: image, label, "
    return Part("Worst images", text + "prediction of the first seed, errors in red.", cases)


def worst_pairs(audited: Audit, number: int) -> Part:
    """Of image and class, of each result."""
    cases = []
    for name, tables in audited.runs.items():
        values = _seed_mean(tables, per_pair)
        size = tables[0].counts.tp + tables[0].counts.fn  # of the label: the same for every seed
        for i, k in lowest(values, number, size):
            note = f"{audited.classes[k]}, IoU {values[i, k]:.3f} of {size[i, k]} pixels"
            cases.append(Case("pair", name, audited.images[i], values[i, k], note, audited.panels(name, i, k)))
    text = (
        f"The {number} pairs of image and class of lowest IoU of each result, the largest of equal ones; the class is "
        "in the label, inside the frame."
    )
    return Part("Worst pairs of image and class", text, cases)


def common_failures(audited: Audit, number: int, fail: float) -> Part:
    """Images on which no run reaches `fail`, and whether the runs err alike."""
    names = audited.trained
    if not names:
        return Part("Images on which every run fails", "There is no run.", [])
    best = np.max(np.stack([_seed_mean(audited.runs[name], per_image) for name in names]), 0)  # NaN stays
    failed = [int(i) for i in np.argsort(best, kind="stable") if best[i] < fail]
    seeds = [(name, seed) for name in names for seed in range(len(audited.runs[name]))]
    cases = []
    for i in failed[:number]:
        verdict = _verdict([audited.labels(name, i, seed) for name, seed in seeds], audited.target_at(i))
        note = f"best mean IoU {best[i]:.3f}; {verdict}"
        cases.append(Case("common failure", "all runs", audited.images[i], best[i], note, audited.panels(names[0], i)))
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
