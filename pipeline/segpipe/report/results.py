"""What was evaluated, gathered for tables and figures: one entry a run, CRF variant or ensemble."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.core.files import read_csv, read_json
from segpipe.core.spreadsheet import csv_text
from segpipe.metrics.naming import lower_is_better, pretty
from segpipe.report.figures import MOST
from segpipe.report.tables import Table

COLUMNS = {
    "miou_dataset": "mIoU^D",
    "miou_image": "mIoU^I",
    "miou_class": "mIoU^C",
    "miou_image_q5": "worst 5 % mIoU^I",
    "acc": "Acc",
    "ece_dataset": "ECE^D",
    "nll_dataset": "NLL^D",
}


@dataclass(frozen=True)
class Entry:
    """One line of the result table: a run, a run with CRF, or an ensemble, with its results by seed."""

    name: str
    kind: str  # "run", "import", "crf", "ensemble" or "decided"
    loss: str
    folders: tuple[Path, ...]
    metrics: tuple[dict[str, Any], ...]
    curves: dict[str, Any]  # reliability and risk of the first seed; empty without probabilities

    def values(self, metric: str, split: str = "test") -> list[float]:
        """The metric of every seed that defines it."""
        found = (m[split].get(metric) for m in self.metrics)
        return [value for value in found if value is not None and math.isfinite(value)]

    def mean(self, metric: str) -> float | None:
        """Mean over seeds on test; None unless all define it."""
        values = self.values(metric)
        return statistics.fmean(values) if len(values) == len(self.metrics) > 0 else None

    def spread(self, metric: str) -> float | None:
        """Standard deviation over seeds on test; None with one seed."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) == len(self.metrics) > 1 else None

    @property
    def collapsed(self) -> str:
        """What a network of it finds on test if that is one class or none, in words; "" for other results."""
        for m in self.metrics:
            table = m["test"]["per_class"]
            classes = zip(table["names"], table["iou_dataset"], table["images"], strict=True)
            labelled = {name: iou or 0.0 for name, iou, images in classes if images}
            found = [name for name, iou in labelled.items() if iou > 0]
            if len(labelled) > 1 and len(found) < 2:
                return f"no class but {found[0]}" if found else "no class"
        return ""


def read_entry(name: str, kind: str, loss: str, folders: Sequence[Path]) -> Entry:
    """Read the metrics of an entry."""
    metrics = tuple(read_json(folder / "metrics.json") for folder in folders)
    return Entry(name, kind, loss, tuple(folders), metrics, read_json(folders[0] / "curves.json"))


def spreads(entries: Sequence[Entry], metric: str) -> tuple[float | None, float | None]:
    """Standard deviation between the runs' means, and within runs between seeds (pooled)."""
    runs = [e for e in entries if e.kind == "run"]
    means = [m for m in (e.mean(metric) for e in runs) if m is not None]
    within = [s * s for s in (e.spread(metric) for e in runs) if s is not None]
    between = statistics.stdev(means) if len(means) > 1 else None
    return between, math.sqrt(statistics.fmean(within)) if within else None


def ranked(entries: Sequence[Entry], metric: str) -> list[Entry]:
    """Best first; entries that do not define the metric come last, ties keep their order."""
    sign = 1 if lower_is_better(metric) else -1

    def key(item: Entry) -> float:
        mean = item.mean(metric)
        return math.inf if mean is None else sign * mean

    return sorted(entries, key=key)


def foremost(entries: Sequence[Entry], metric: str, most: int = MOST) -> tuple[list[Entry], str]:
    """The best `most`, and words for a caption that say so; all in their order where they are no more."""
    if len(entries) <= most:
        return list(entries), ""
    defined = [item for item in ranked(entries, metric) if item.mean(metric) is not None][:most]
    if not defined:
        return list(entries[:most]), f" Shown are the first {most} of {len(entries)}; none defines {pretty(metric)}."
    return defined, f" Shown are the best {len(defined)} by {pretty(metric)}."


def read_history(folder: Path) -> dict[str, list[float]]:
    """history.csv by column."""
    rows = read_csv(folder / "history.csv")
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def format_cell(item: Entry, metric: str) -> str:
    """`0.5123 ± 0.0040`, without the spread when there is one seed, a dash when undefined."""
    mean, spread = item.mean(metric), item.spread(metric)
    if mean is None:
        return "–"
    return f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}")


def by_class(entries: Sequence[Entry]) -> dict[str, list[float | None]]:
    """IoU^D of each class on test, the mean over seeds; None unless all define it."""
    found = {}
    for entry in entries:
        each = zip(*(m["test"]["per_class"]["iou_dataset"] for m in entry.metrics), strict=True)
        found[entry.name] = [None if None in values else statistics.fmean(values) for values in each]
    return found


def tables(entries: Sequence[Entry], metric: str, classes: Sequence[str]) -> dict[str, str]:
    """The scores and the IoU of each class, as Markdown and CSV."""
    order = ranked(entries, metric)
    means = by_class(order)
    scores = [[e.name, *(format_cell(e, column) for column in COLUMNS)] for e in order]
    of_seeds = [
        [e.name, e.kind, e.loss, folder.as_posix(), *(m["test"].get(column) for column in COLUMNS)]
        for e in order
        for folder, m in zip(e.folders, e.metrics, strict=True)
    ]
    of_class = [[name, *("–" if v is None else f"{v:.3f}" for v in row)] for name, row in means.items()]
    return {
        "scores.md": Table(["what", *COLUMNS.values()], scores).markdown(),
        "scores.csv": csv_text(["what", "kind", "loss", "folder", *COLUMNS], of_seeds),
        "classes.md": Table(["IoU^D", *classes], of_class).markdown(),
        "classes.csv": csv_text(["what", *classes], [[name, *row] for name, row in means.items()]),
    }


def summary(entries: Sequence[Entry], metric: str) -> str:
    """The finding in words: the best run, beside the noise between seeds."""
    name = COLUMNS.get(metric, metric)
    runs = [e for e in ranked(entries, metric) if e.kind == "run" and e.mean(metric) is not None]
    if not runs:
        return f"No run defines {name} on test."
    best = runs[0]
    between, within = spreads(entries, metric)
    first = "Lowest" if lower_is_better(metric) else "Highest"
    text = f"{first} {name} of a run on test: {best.name} ({best.loss}) with {best.mean(metric):.4f}."
    if between is not None and within is not None:
        text += (
            f" The runs differ by {between:.4f} (standard deviation of their means), seeds of one run by {within:.4f}."
        )
    elif within is None:
        text += " With one seed nothing can be said about the noise of training: add seeds before choosing."
    return text
