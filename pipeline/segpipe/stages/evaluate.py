"""Stage evaluate: counts per image and class at the original resolution, and all scores from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from segpipe.config.context import Context
from segpipe.core import files, outputs
from segpipe.core.errors import DataError
from segpipe.core.parallel import Pool
from segpipe.core.seeding import mix
from segpipe.core.spreadsheet import csv_text
from segpipe.data import catalog
from segpipe.data.dataset import Index, Row, read_target
from segpipe.data.files import png_bytes
from segpipe.data.predictions import read_stored, refuse_leak
from segpipe.ensembles.gain import write_gain
from segpipe.metrics import temperature
from segpipe.metrics.evaluation import HEADLINE, Evaluation, Options
from segpipe.metrics.tables import BINS_HEADER, COUNTS_HEADER, bins_rows, counts_rows
from segpipe.stages import SPLITS

FIT_PIXELS = 50_000  # of val, over all images: what the temperature is fitted on
_VARIANT = {"runs": "plain", "crf": "crf", "folds": "folds"}  # in the tables
_COVERED = 0.5  # a prediction that rejects more pixels is warned of
Drawn = tuple[NDArray[np.float64], NDArray[np.int64]]  # pixels for the temperature


def run(context: Context) -> dict[str, Any]:
    """Write the tables (counts, images, calibration), metrics.json, headline.json, curves.json and pictures/;
    of an ensemble also members.json: what its members and its gain are.
    """
    settings, read_from = context.params.evaluate, sources(context)
    index = Index.read(context.path("prepare"))
    name = "decided" if context.rule else _VARIANT.get(context.kind, context.method)
    written = _Written(index.classes, name)
    scores: dict[str, Any] = {}
    fitted: dict[str, Any] | None = None
    with outputs.folder(context.path("evaluate"), context.describe("evaluate")) as folder:
        for split in splits(context):
            options = Options(**settings.model_dump(exclude={"pictures"}))
            collected = Evaluation(len(index.classes), options, fitted["value"] if fitted else None)
            places = _places(context, index, split, read_from)
            drawn = _collect(context, index, split, places, folder, collected, context.pool())
            if split == "val" and drawn:
                fitted = _fit(drawn)
                if fitted["value"] is None:
                    context.log(f"warning: temperature refused: {fitted['reason']}")
            folds = context.params.folds.number if context.kind == "folds" else 1
            scores[split] = collected.scores(index.groups(split), folds)
            scores[split]["per_class"]["names"] = index.classes
            _warn(context, name, split, scores[split])
            written.add(split, index.splits[split], collected)
        headline = {split: {k: scores[split][k] for k in HEADLINE if k in scores[split]} for split in splits(context)}
        written.write(folder)
        passport = _passport(context, index, scores)
        files.write_json(folder / "metrics.json", {"passport": passport, "temperature": fitted, **scores})
        files.write_json(folder / "headline.json", headline)
        if context.kind == "crf":  # the report's tables follow from results/ alone
            files.write_bytes(folder / "crf.json", files.read_bytes(read_from[0] / "crf.json"))
        if context.rule:
            files.write_bytes(folder / "decide.json", files.read_bytes(read_from[0] / "decide.json"))
        if context.method and not context.rule:
            pixels = [row.geometry.original_height * row.geometry.original_width for row in index.splits["test"]]
            write_gain(
                read_from[0], folder, collected.tables, index.groups("test"), pixels=sum(pixels) / len(pixels),
            )  # fmt: skip
    return {"path": str(context.path("evaluate")), **headline}


def splits(context: Context) -> tuple[str, ...]:
    """What is scored: val and test, of some imports test alone, or the train images out of fold."""
    if context.imported and context.origin == "runs":
        return tuple(split for split in SPLITS if split in context.params.imports[context.run].splits)
    return ("train",) if context.kind == "folds" else SPLITS


def sources(context: Context) -> list[Path]:
    """The folders of predictions, fresh: one, or that of each fold."""
    if context.kind != "folds":
        return [context.require(context.source)]
    key, numbers = context.key, range(context.params.folds.number)
    return [context.member(key, fold).require("predict") for fold in numbers]


def _places(context: Context, index: Index, split: str, read_from: Sequence[Path]) -> list[tuple[Path, int]]:
    """Where the prediction of each image of a split lies: folder and position in it."""
    rows = index.splits[split]
    if context.kind != "folds":
        return [(read_from[0], i) for i in range(len(rows))]
    found: dict[int, tuple[Path, int]] = {}
    for folder in read_from:
        positions = files.read_json(folder / "rows.json")
        refuse_leak(folder, [rows[position].id for position in positions], "score the images")
        found |= {position: (folder, place) for place, position in enumerate(positions)}
    if len(found) < len(rows):
        raise DataError(f"{len(rows) - len(found)} train images are in no fold; run `dvc repro` again")
    return [found[i] for i in range(len(rows))]


class _Written:
    """The tables and curves as they grow, split by split."""

    def __init__(self, classes: list[str], name: str) -> None:
        self.classes, self.name = classes, name
        self.counts, self.bins, self.images = csv_text(COUNTS_HEADER), csv_text(BINS_HEADER), ""
        self.curves: dict[str, Any] = {}

    def add(self, split: str, rows: list[Row], collected: Evaluation) -> None:
        """The images of a split."""
        tables, images = collected.tables, [(row.id, row.group) for row in rows]
        self.counts += csv_text(None, counts_rows(tables.counts, split, self.name, images, self.classes))
        each = collected.image_rows()
        header = ("split", "variant", "image", "group", *each[0]) if not self.images else None
        lines = ((split, self.name, *one, *values.values()) for one, values in zip(images, each, strict=True))
        self.images += csv_text(header, lines)
        if collected.calibration is not None and tables.bins is not None:
            self.bins += csv_text(None, bins_rows(tables.bins, split, self.name, images))
            self.curves[split] = collected.calibration.curves()
        if collected.calibrated is not None:
            self.curves[f"{split} calibrated"] = collected.calibrated.curves()

    def write(self, folder: Path) -> None:
        """All of it."""
        files.write_text(folder / "counts.csv", self.counts)
        files.write_text(folder / "images.csv", self.images)
        files.write_text(folder / "calibration.csv", self.bins)
        files.write_json(folder / "curves.json", self.curves)


def _warn(context: Context, name: str, split: str, scores: dict[str, Any]) -> None:
    """Say which classes a split lacks, and when most of it is rejected."""
    per_class = scores["per_class"]
    absent = [c for c, n in zip(per_class["names"], per_class["images"], strict=True) if not n]
    if absent:
        context.log(f"warning: no label of {split} holds {', '.join(absent)}: left out of ^I and ^C")
    covered = scores["coverage"]
    if covered is not None and covered < _COVERED:
        context.log(f"warning: {name} rejects {1 - covered:.0%} of the pixels of {split}")


def _collect(
    context: Context,
    index: Index,
    split: str,
    places: Sequence[tuple[Path, int]],
    folder: Path,
    collected: Evaluation,
    pool: Pool,
) -> list[Drawn]:
    """Feed all images of a split, keep pictures of some test images; of val, pixels to fit a temperature on."""
    card, rows = catalog.card(index.dataset), index.splits[split]
    palette: list[tuple[int, ...]] = [tuple(color) for color in card.palette] + [(0, 0, 0)] * (256 - len(card.palette))
    kept = pictured(len(rows), context.params.evaluate.pictures) if split != "val" else []
    pixels = max(1, FIT_PIXELS // len(rows)) if split == "val" else 0
    measuring = _Measuring(places, context.path("download"), index, split, collected, pixels)
    done = pool.map(measuring.image, ((i, row, i in kept) for i, row in enumerate(rows)))
    sampled: list[Drawn] = []
    bar = tqdm(done, f"{context.method or context.key} {split}", len(rows), unit="image", disable=None)
    for row, (part, labels, drawn) in zip(rows, bar, strict=True):
        collected.merge(part)
        if labels is not None:
            files.write_bytes(folder / "pictures" / f"{row.id}.png", png_bytes(labels, palette))
        if drawn is not None:
            sampled.append(drawn)
    return sampled


class _Measuring:
    """What is done with one image of a split, in any thread or process. `pixels`: drawn for the temperature."""

    def __init__(
        self, places: Sequence[tuple[Path, int]], root: Path, index: Index, split: str, collected: Evaluation,
        pixels: int,
    ) -> None:  # fmt: skip
        self.places, self.root, self.index, self.split, self.pixels = places, root, index, split, pixels
        self.options = (collected.num_classes, collected.options, collected.temperature)

    def image(
        self, i: int, row: Row, pictured: bool
    ) -> tuple[Evaluation, NDArray[np.uint8] | None, Drawn | None]:  # fmt: skip
        """What is counted of it, its labels where they are pictured, and the pixels for the temperature."""
        target = read_target(self.root, self.index, row, self.split)
        several = len(row.labels) > 1
        card = catalog.card(self.index.dataset)
        raters = catalog.read_annotators(self.root, row.sample(self.split), card) if several else ()
        folder, place = self.places[i]
        stored, probs = read_stored(folder, self.split, row, place)
        part = Evaluation(*self.options)
        labels = part.add(target, labels=stored, probs=probs, raters=raters)
        drawn = None
        if self.pixels and probs is not None:
            drawn = temperature.sample(probs, target, self.pixels, mix(0, i))
        return part, labels if pictured else None, drawn


def _fit(sampled: list[Drawn]) -> dict[str, Any]:
    """The temperature of a val split, as metrics.json holds it."""
    found = temperature.fit(*(np.concatenate(parts) for parts in zip(*sampled, strict=True)))
    return {"fitted_on": "val", "bounds": list(temperature.BOUNDS), **vars(found)}


def pictured(number: int, wanted: int) -> list[int]:
    """Evenly spaced positions of the images that the report shows."""
    wanted = min(number, wanted)
    return [(2 * i + 1) * number // (2 * wanted) for i in range(wanted)]


def _passport(context: Context, index: Index, scores: dict[str, Any]) -> dict[str, Any]:
    """What the numbers mean."""
    settings = context.params.evaluate
    return {
        "dataset": index.dataset,
        "labels": index.labels,
        "classes": index.classes,
        "resolution": "original: predictions are resized to the labels, never labels to predictions",
        "void": "pixels whose label is void count nowhere, whatever was predicted there",
        "absent": "image and class averages leave a class out of an image whose label does not hold it; "
        "dataset averages leave out a class that is in no label and in no prediction",
        "rejected": "a rejected pixel is a miss of its class; `accepted` scores leave it out; `coverage`: share kept",
        "headline": "miou_dataset",
        "unit": "fractions from 0 to 1",
        "images": {split: len(index.splits[split]) for split in splits(context)},
        "images_of_class": {split: scores[split]["per_class"]["images"] for split in splits(context)},
        "calibration_bins": settings.bins,
        "worst_case": "mean of the max(1, floor(n q / 100)) lowest of n values",
        "borders": f"boundary IoU in bands of {settings.boundary:g} of the diagonal; trimap: within w pixels",
        "intervals": "jackknife over groups of images, t: of these networks on other images; for the train images by "
        "cross-validation wider, since the networks of all folds share training images",
    }
