"""What was evaluated, gathered for tables and figures: one entry a run, CRF variant or ensemble."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.core.files import read_json
from segpipe.metrics.comparison import lower_is_better

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
    kind: str  # "run", "crf" or "ensemble"
    loss: str
    folders: tuple[Path, ...]
    metrics: tuple[dict[str, Any], ...]
    curves: dict[str, Any]  # reliability and risk of the first seed; empty without probabilities

    def values(self, metric: str, split: str = "test") -> list[float]:
        """The metric of every seed that defines it."""
        found = (m[split].get(metric) for m in self.metrics)
        return [value for value in found if value is not None]

    def mean(self, metric: str) -> float | None:
        """Mean over seeds on test."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """Standard deviation over seeds on test; None with one seed."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None


def entry(name: str, kind: str, loss: str, folders: Sequence[Path]) -> Entry:
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


def read_history(folder: Path) -> dict[str, list[float]]:
    """history.csv by column."""
    with open(folder / "history.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def format_cell(item: Entry, metric: str) -> str:
    """`0.5123 ± 0.0040`, without the spread when there is one seed, a dash when undefined."""
    mean, spread = item.mean(metric), item.spread(metric)
    if mean is None:
        return "–"
    return f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}")
