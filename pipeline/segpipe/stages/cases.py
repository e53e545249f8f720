"""Where results fail, with pictures: worst images and pairs, common failures, label suspects, near-duplicates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segpipe.core.errors import DataError
from segpipe.stages.context import Context
from segpipe.stages.gathered import of_method

SUSPECTS = (
    "rank", "image", "label", "predicted", "area", "core", "surprise", "score", "top", "left", "bottom", "right",
)  # fmt: skip
NOT_MEASURED = (
    "Not measured: a label can only be doubted by networks that did not learn it. Train a run with folds held out "
    "(folds.runs in params.yaml, then segpipe dag --write and dvc repro; or segpipe init scenes --profile audit)."
)


class View:
    """What is audited: the images of a split, the tables and predictions of every result."""

    def __init__(self, context: Context, split: str, entries: Sequence[Any]) -> None:
        from segpipe.core import files
        from segpipe.data import catalog, masks  # noqa: F401 - `read_labels` chooses among masks by name
        from segpipe.reporting.judgement import read_runs

        self.context, self.split = context, split
        self.root = context.require("download")
        self.index = files.read_json(context.require("prepare") / "index.json")
        self.card = catalog.card(self.index["dataset"])
        self.rows: list[dict[str, Any]] = self.index["splits"][split]
        self.entries = {entry.name: entry for entry in entries}
        self.runs, _ = read_runs({name: entry.folders for name, entry in self.entries.items()}, split)

    def picture(self, row: dict[str, Any]) -> Any:
        """The original image."""
        from segpipe.data.files import read_image

        return read_image(self.root / row["image"])

    def target(self, row: dict[str, Any], split: str | None = None) -> Any:
        """The labels that are scored."""
        from segpipe.data import catalog

        sample = catalog.Sample(row["id"], split or self.split, row["group"], row["image"], tuple(row["labels"]))
        return catalog.read_labels(self.root, sample, self.card, self.index["labels"])

    def labels(self, name: str, position: int, seed: int = 0) -> Any:
        """What a result predicts for an image of the split (its first seed, unless another is asked)."""
        from segpipe.core.argmax import label_and_confidence
        from segpipe.data.maps import Maps

        entry, row = self.entries[name], self.rows[position]
        key = entry.folders[seed].name
        if entry.kind == "run":
            source = self.context.member(key).require("predict")
            return label_and_confidence(_restored(source / f"{self.split}.npy", position, row))[0]
        if entry.kind == "crf":
            source = self.context.member(key).require("crf")
        else:
            source = of_method(self.context, key).require("ensemble")
        return Maps(source / f"{self.split}_labels")[position]

    def shown(self, name: str, position: int, framed: int | None = None) -> bytes:
        """The four panels of a result on an image, with a frame around a class of the label."""
        import numpy as np

        from segpipe.data.files import png_bytes
        from segpipe.reporting.audit import panels

        row = self.rows[position]
        target, box = self.target(row), None
        if framed is not None:
            ys, xs = np.nonzero(target == framed)
            box = (int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1)
        return png_bytes(panels(self.picture(row), target, self.labels(name, position), self.index["palette"], box))


def _restored(path: Path, position: int, row: dict[str, Any]) -> Any:
    from segpipe.core.files import read_array
    from segpipe.data.geometry import Geometry, restore

    return restore(read_array(path)[position], Geometry(**row["geometry"]))


def _seed_mean(tables: Sequence[Any], function: Any) -> Any:
    import numpy as np

    from segpipe.metrics.defined import mean

    return mean(np.stack([function(item.counts) for item in tables]), 0)


def sliders(view: View, name: str, number: int, widest: int) -> list[Any]:
    """The worst images of a result, label and prediction over the image; wider ones are made smaller."""
    from segpipe.core.vision import cv2
    from segpipe.metrics.scores import per_image, per_pair
    from segpipe.reporting.audit import lowest
    from segpipe.reporting.html import Slider
    from segpipe.reporting.pictures import blend, jpeg_bytes

    values, pairs = (_seed_mean(view.runs[name], score) for score in (per_image, per_pair))
    found = []
    for (i,) in lowest(values, number):
        row, picture = view.rows[i], view.picture(view.rows[i])
        both: list[Any] = [
            blend(picture, labels, view.index["palette"]) for labels in (view.target(row), view.labels(name, i))
        ]
        height, width = picture.shape[:2]
        if width > widest:
            size = (widest, max(1, round(height * widest / width)))
            both = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in both]
        classes = ", ".join(f"{view.index['classes'][k]} {pairs[i, k]:.2f}" for (k,) in lowest(pairs[i], 3))
        caption = f"{row['id']}: mean IoU {values[i]:.3f}; lowest {classes}"
        found.append(Slider(jpeg_bytes(both[0]), jpeg_bytes(both[1]), ("label", "prediction"), caption))
    return found


def worst_images(view: View, number: int) -> Any:
    """Of each result."""
    from segpipe.metrics.scores import per_image
    from segpipe.reporting.audit import Case, Part, lowest

    cases = []
    for name, tables in view.runs.items():
        values = _seed_mean(tables, per_image)
        for (i,) in lowest(values, number):
            note = f"mean IoU {values[i]:.3f}"
            cases.append(Case("image", name, view.rows[i]["id"], values[i], note, view.shown(name, i)))
    text = f"The {number} images of lowest mean IoU of each result, over the classes in the label: image, label, "
    return Part("Worst images", text + "prediction of the first seed, errors in red.", cases)


def worst_pairs(view: View, number: int) -> Any:
    """Of image and class, of each result."""
    from segpipe.metrics.scores import per_pair
    from segpipe.reporting.audit import Case, Part, lowest

    cases = []
    for name, tables in view.runs.items():
        values = _seed_mean(tables, per_pair)
        size = tables[0].counts.tp + tables[0].counts.fn  # of the label: the same for every seed
        for i, k in lowest(values, number, size):
            note = f"{view.index['classes'][k]}, IoU {values[i, k]:.3f} of {size[i, k]} pixels"
            cases.append(Case("pair", name, view.rows[i]["id"], values[i, k], note, view.shown(name, i, k)))
    text = (
        f"The {number} pairs of image and class of lowest IoU of each result, the largest of equal ones; the class is "
        "in the label, inside the frame."
    )
    return Part("Worst pairs of image and class", text, cases)


def common_failures(view: View, number: int, fail: float) -> Any:
    """Images on which no run reaches `fail`, and whether the runs err alike."""
    import numpy as np

    from segpipe.metrics.scores import per_image
    from segpipe.metrics.suspects import unanimity
    from segpipe.reporting.audit import Case, Part

    names = [name for name, entry in view.entries.items() if entry.kind == "run"]
    if not names:
        return Part("Images on which every run fails", "There is no run.", [])
    best = np.max(np.stack([_seed_mean(view.runs[name], per_image) for name in names]), 0)  # NaN stays
    failed = [int(i) for i in np.argsort(best, kind="stable") if best[i] < fail]
    cases = []
    for i in failed[:number]:
        seeds = [(name, seed) for name in names for seed in range(len(view.entries[name].folders))]
        predicted = [view.labels(name, i, seed) for name, seed in seeds]
        share = unanimity(predicted, view.target(view.rows[i]))
        if len(predicted) < 2:
            verdict = "one network alone cannot tell model from label"
        elif share is None:
            verdict = "model suspect: on no pixel are most networks wrong"
        elif share >= 0.5:
            verdict = f"label suspect: on {100 * share:.0f} % of what most get wrong they agree with each other"
        else:
            verdict = f"model suspect: they agree with each other on {100 * share:.0f} % of what most get wrong"
        note = f"best mean IoU {best[i]:.3f}; {verdict}"
        cases.append(Case("common failure", "all runs", view.rows[i]["id"], best[i], note, view.shown(names[0], i)))
    text = (
        f"{len(failed)} of {len(best)} images on which no run reaches a mean IoU of {fail:g} (`segpipe audit --fail`). "
        "Networks erring alike point at the label, or at something none can see; each in its own way, at the model."
    )
    return Part("Images on which every run fails", text, cases)


def suspects(view: View, number: int, smallest: int) -> tuple[Any, str]:
    """Regions whose label networks that did not see the image contradict; and all of them as label_suspects.csv."""
    from tqdm import tqdm

    from segpipe.data.files import png_bytes
    from segpipe.metrics.suspects import confusion_of, regions
    from segpipe.reporting.audit import Case, Part, panels
    from segpipe.reporting.tables import csv_text, markdown

    keys, classes = view.context.params.fold_keys(), view.index["classes"]
    if not keys:
        return Part("Label suspects", NOT_MEASURED, []), ""
    rows, probs_of = view.index["splits"]["train"], held_out(view.context, keys, view.index)
    found: list[tuple[Any, int]] = []
    for i, row in enumerate(tqdm(rows, "train labels", unit="image", disable=None)):
        found += [(region, i) for region in regions(probs_of(i), view.target(row, "train"), smallest=smallest)]
    found.sort(key=lambda pair: (-pair[0].score, rows[pair[1]]["id"], pair[0].box))
    lines = [
        [
            n,
            rows[i]["id"],
            classes[r.label],
            classes[r.predicted],
            r.area,
            r.core,
            f"{r.surprise:.4f}",
            f"{r.score:.3f}",
            *r.box,
        ]
        for n, (r, i) in enumerate(found, 1)
    ]
    cases = []
    for region, i in found[: 4 * number]:
        predicted = probs_of(i).argmax(0).astype("uint8")
        picture = panels(
            view.picture(rows[i]), view.target(rows[i], "train"), predicted, view.index["palette"], region.box
        )
        note = (
            f"labelled {classes[region.label]}, predicted {classes[region.predicted]} "
            f"({region.area} pixels, p of the label {math.exp(-region.surprise):.1g})"
        )
        cases.append(Case("label suspect", "out of fold", rows[i]["id"], region.score, note, png_bytes(picture)))
    table = markdown(
        ["label → predicted", "regions", "pixels"],
        [[f"{classes[a]} → {classes[b]}", str(n), str(p)] for a, b, n, p in confusion_of([r for r, _ in found])[:12]],
    )
    text = (
        f"{len(found)} regions of train in which networks that did not see the image contradict the label, by how "
        "improbable the label is to them, times the log of the region's size without its rim; all in "
        "label_suspects.csv. The table counts them by label and prediction."
    )
    return Part("Label suspects", text, cases, table), csv_text(SUSPECTS, lines)


def gallery(context: Context, index: dict[str, Any], entries: Sequence[Any]) -> list[Any]:
    """Input, label and each entry's prediction (first seed) of the test images whose label maps were kept."""
    from segpipe.core.files import read_array
    from segpipe.data.files import png_bytes
    from segpipe.reporting.html import Fold, Group, Legend, Picture
    from segpipe.reporting.pictures import colorize

    prepared, palette = context.require("prepare"), index["palette"]
    images, labels = (read_array(prepared / f"test_{name}.npy") for name in ("images", "labels"))
    found: list[Any] = []
    for i, row in enumerate(index["splits"]["test"]):
        files = [(e.name, e.folders[0] / "pictures" / f"{row['id']}.png") for e in entries]
        kept = [(name, path) for name, path in files if path.exists()]
        if kept:
            size = (slice(row["geometry"]["resized_height"]), slice(row["geometry"]["resized_width"]))
            pair = [
                Picture(png_bytes(images[i][size]), f"{row['id']}: image"),
                Picture(png_bytes(colorize(labels[i][size], palette)), "label"),
            ]
            group = Group("pictures", [*pair, *(Picture(path.read_bytes(), name) for name, path in kept)])
            found.append(group if not found else Fold(row["id"], [group]))
    return [Legend(index["classes"], palette), *found] if found else []


def held_out(context: Context, keys: Sequence[str], index: dict[str, Any]) -> Any:
    """A function: position in train -> probabilities (C, H, W), the mean over the networks that did not see it."""
    import numpy as np

    from segpipe.core.files import read_json

    places: dict[int, list[tuple[Path, int]]] = {}
    for key in keys:
        for fold in range(context.params.folds.number):
            source = context.member(key, fold).require("predict")
            for place, position in enumerate(read_json(source / "rows.json")):
                places.setdefault(position, []).append((source / "train.npy", place))
    missing = len(index["splits"]["train"]) - len(places)
    if missing:
        raise DataError(f"{missing} train images are in no fold; run `dvc repro` again")

    def probs(position: int) -> Any:
        row = index["splits"]["train"][position]
        found = [_restored(path, place, row) for path, place in places[position]]
        return np.mean(found, axis=0)

    return probs


def duplicates(view: View, number: int, alike: float) -> Any:
    """Images of two splits that are nearly the same."""
    from segpipe.core.files import read_array
    from segpipe.data.duplicates import across, thumbnails
    from segpipe.data.geometry import Geometry
    from segpipe.reporting.audit import Case, Part

    prepared = view.context.require("prepare")
    splits: dict[str, tuple[Sequence[str], Any]] = {}
    for name, rows in view.index["splits"].items():
        images = read_array(prepared / f"{name}_images.npy")
        sizes = [Geometry(**row["geometry"]) for row in rows]
        cut = (image[: g.resized_height, : g.resized_width] for image, g in zip(images, sizes, strict=True))
        splits[name] = ([row["id"] for row in rows], thumbnails(cut))
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
