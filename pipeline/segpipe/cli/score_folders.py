"""What `segpipe evaluate` does beside the pipeline: two folders of label maps, other tools' conventions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segpipe.core.errors import ConfigError, suggestion
from segpipe.data import folders
from segpipe.metrics.conventions import CONVENTIONS
from segpipe.metrics.evaluation import Evaluation
from segpipe.metrics.tables import read_tables


def score_folders(
    labels: Path | None,
    predictions: Path | None,
    classes: int | None,
    ignore_index: int,
    convention: str | None,
    as_json: bool,
) -> None:
    """Score predicted label maps against true ones of the same names; print the table or JSON."""
    if labels is None or predictions is None or classes is None:
        raise ConfigError("evaluating folders takes all of --labels DIR, --predictions DIR and --classes N")
    if not 1 <= classes <= 255:
        raise ConfigError(f"--classes {classes}: wanted 1..255")
    _check_convention(convention)
    found = folders.pairs(labels, predictions)
    collected = Evaluation(classes)
    for true, predicted in tqdm(found.values(), "evaluate", unit="image", disable=None):
        target, ids = folders.read_pair(true, predicted, classes, ignore_index)
        collected.add(target, labels=ids)
    counts = collected.tables.counts
    if convention is not None:
        _print_convention(convention, counts, {}, as_json)
        return
    scores = collected.scores([str(true) for true, _ in found.values()])
    if classes > 1 and counts.valid.sum() and not (counts.tp + counts.fn)[:, 1:].any():
        print(
            f"warning: labels hold only 0 and void ({ignore_index}); if 255 means foreground, write 1", file=sys.stderr
        )
    if counts.valid.sum() == 0:
        print("warning: no pixel is valid; every score is undefined", file=sys.stderr)
    if as_json:
        print(json.dumps({"images": len(found), **scores}, allow_nan=False))
    else:
        _print(scores, len(found))


def print_convention(folder: Path, convention: str, as_json: bool) -> None:
    """What another tool would print for an evaluated run, from its counts."""
    _check_convention(convention)
    tables = {split: read_tables(folder, split).tables.counts for split in ("val", "test")}
    _print_convention(convention, tables["test"], {"val": tables["val"]}, as_json)


def _check_convention(convention: str | None) -> None:
    if convention is not None and convention not in CONVENTIONS:
        raise ConfigError(f"unknown convention '{convention}'{suggestion(convention, CONVENTIONS)}")


def _print_convention(convention: str, counts: Any, others: dict[str, Any], as_json: bool) -> None:
    scores = CONVENTIONS[convention](counts)
    if as_json:
        found = {split: CONVENTIONS[convention](table) for split, table in others.items()}
        print(json.dumps(found | {"test": scores} if others else scores))
        return
    width = max(map(len, scores))
    for name, value in scores.items():
        print(f"{name:<{width}}  {_number(value)}")


def _print(scores: dict[str, Any], images: int) -> None:
    """The table for people."""
    print(f"{images} images, coverage {_number(scores['coverage'])} (share of valid pixels that were not rejected)\n")
    columns = ("dataset", "image", "class", "image_q5", "class_q5")
    titles = ("^D dataset", "^I image", "^C class", "^I worst 5 %", "^C worst 5 %")
    print(" " * 6 + "".join(f"{title:>14}" for title in titles))
    for metric, title in (("iou", "mIoU"), ("dice", "mDice"), ("acc", "mAcc")):
        print(f"{title:<6}" + "".join(f"{_number(scores[f'm{metric}_{column}']):>14}" for column in columns))
    print(f"Acc   {_number(scores['acc']):>14}\n")
    unit = f"{scores['intervals']['units']} {scores['intervals']['unit']}s"
    for name, bounds in scores["intervals"]["scores"].items():
        if bounds is not None:
            print(f"{name:<14} {scores[name]:.4f}, 95 % interval {bounds['low']:.4f} to {bounds['high']:.4f} ({unit})")
    if scores["intervals"]["caution"]:
        print(f"note: {scores['intervals']['caution']}")
    borders = scores["borders"]
    print(f"\nboundary IoU^D {_number(borders['boundary_iou_dataset'])}, BF^C {_number(borders['bf_class'])}")
    widths = (f"{width} px {_number(value)}" for width, value in borders["trimap_miou_dataset"].items())
    print(f"trimap mIoU^D {', '.join(widths)}")
    table = scores["per_class"]
    print(f"\n{'class':<6}{'images':>8}{'IoU^D':>10}{'IoU^C':>10}{'Dice^D':>10}{'Acc^D':>10}")
    for k, number in enumerate(table["images"]):
        values = (table[name][k] for name in ("iou_dataset", "iou_class", "dice_dataset", "acc_dataset"))
        print(f"{k:<6}{number:>8}" + "".join(f"{_number(value):>10}" for value in values))


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
