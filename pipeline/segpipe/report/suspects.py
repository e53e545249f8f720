"""Suspected label errors: regions where networks that never saw the image disagree with the label."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from segpipe.config.context import Context
from segpipe.core.errors import DataError
from segpipe.core.files import read_json
from segpipe.core.spreadsheet import csv_text
from segpipe.data.dataset import Index
from segpipe.data.files import png_bytes
from segpipe.data.predictions import read_probs
from segpipe.metrics.suspects import Region, confusion_of, regions
from segpipe.report.audit import Case, Part, panels
from segpipe.report.audited import Audited
from segpipe.report.tables import Table

_HEADER = (
    "rank", "image", "label", "predicted", "area", "core", "surprise", "score", "top", "left", "bottom", "right",
)  # fmt: skip
_NOT_MEASURED = (
    "Not measured: a label can only be doubted by networks that did not learn it. Train a run with folds held out "
    "(folds.runs in params.yaml, then segpipe dag --write and dvc repro; or segpipe init scenes --profile audit)."
)
_MOST_CONFUSIONS = 12  # lines of the table


def suspects(audited: Audited, number: int, smallest: int) -> tuple[Part, str]:
    """Regions whose label networks that did not see the image contradict; and all of them as label_suspects.csv."""
    keys, classes = audited.context.params.fold_keys(), audited.index.classes
    if not keys:
        return Part("Label suspects", _NOT_MEASURED, []), ""
    rows, probs_of = audited.index.splits["train"], held_out(audited.context, keys, audited.index)
    found: list[tuple[Region, int]] = []
    for i, row in enumerate(tqdm(rows, "train labels", unit="image", disable=None)):
        found += [(region, i) for region in regions(probs_of(i), audited.target(row, "train"), smallest=smallest)]
    found.sort(key=lambda pair: (-pair[0].score, rows[pair[1]].id, pair[0].box))
    cases = [_case(audited, region, i, probs_of(i)) for region, i in found[: 4 * number]]
    confusions = confusion_of([region for region, _ in found])[:_MOST_CONFUSIONS]
    table = Table(
        ["label → predicted", "regions", "pixels"],
        [[f"{classes[a]} → {classes[b]}", str(n), str(pixels)] for a, b, n, pixels in confusions],
    )
    text = (
        f"{len(found)} regions of train in which networks that did not see the image contradict the label, by how "
        "improbable the label is to them, times the log of the region's size without its rim; all in "
        "label_suspects.csv. The table counts them by label and prediction."
    )
    lines = [
        (n, rows[i].id, classes[r.label], classes[r.predicted], r.area, r.core, f"{r.surprise:.4f}", f"{r.score:.3f}",
         *r.box)
        for n, (r, i) in enumerate(found, 1)
    ]  # fmt: skip
    return Part("Label suspects", text, cases, table), csv_text(_HEADER, lines)


def _case(audited: Audited, region: Region, i: int, probs: NDArray[np.floating]) -> Case:
    """A region with its picture."""
    row, index = audited.index.splits["train"][i], audited.index
    target, predicted = audited.target(row, "train"), probs.argmax(0).astype(np.uint8)
    picture = panels(audited.picture(row), target, predicted, index.palette, region.box)
    note = (
        f"labelled {index.classes[region.label]}, predicted {index.classes[region.predicted]} "
        f"({region.area} pixels, p of the label {math.exp(-region.surprise):.1g})"
    )
    return Case("label suspect", "out of fold", row.id, region.score, note, png_bytes(picture))


def held_out(context: Context, keys: Sequence[str], index: Index) -> Callable[[int], NDArray[np.floating]]:
    """A function: position in train -> probabilities (C, H, W), the mean over the networks that did not see it."""
    places: dict[int, list[tuple[Path, int]]] = {}
    for key in keys:
        for fold in range(context.params.folds.number):
            source = context.member(key, fold).require("predict")
            for place, position in enumerate(read_json(source / "rows.json")):
                places.setdefault(position, []).append((source, place))
    missing = len(index.splits["train"]) - len(places)
    if missing:
        raise DataError(f"{missing} train images are in no fold; run `dvc repro` again")

    def probs(position: int) -> NDArray[np.floating]:
        row = index.splits["train"][position]
        found: NDArray[np.floating] = np.mean(
            [read_probs(source, "train", row, place) for source, place in places[position]], axis=0
        )
        return found

    return probs
