"""What tests/statistics/rates.py counted, as the table of docs/statistics.md and its figure."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

KEPT = Path(__file__).parents[1] / "results" / "statistics" / "rates.csv"
Row = dict[str, str]


def read() -> list[Row]:
    """One row for each world and score."""
    with KEPT.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _equal(seeds: int, runs: Sequence[int]) -> Callable[[Row], bool]:
    def chosen(row: Row) -> bool:
        equal_spread = row["noisy"] == "1.0" and "run=()" in row["world"]
        return equal_spread and int(row["seeds"]) == seeds and int(row["runs"]) in runs

    return chosen


# What a row of the table is of; columns that mean nothing there are left out.
ROWS: tuple[tuple[str, Callable[[Row], bool], tuple[str, ...]], ...] = (
    *(
        (f"{seeds} seeds, {words}", _equal(seeds, runs), ("false", "family", "covered", "own"))
        for seeds in (2, 3, 5, 10)
        for words, runs in (("2 runs", (2,)), ("4 runs", (4,)), ("10 or 27 runs", (10, 27)))
    ),
    ("the pair twice as noisy as the rest", lambda row: row["noisy"] == "2.0", ("false", "family", "covered", "own")),
    ("runs that differ", lambda row: "run=(0" in row["world"], ("false", "covered", "own")),
    ("1 seed: these networks", lambda row: row["seeds"] == "1", ("false", "covered")),
)


def claimed(row: Row) -> bool:
    """Whether anything is claimed of such a score: not of a mean over fewer than 16 images."""
    images = int(row["groups"]) * int(row["size"])
    return not row["score"].endswith("_q10") or images // 10 >= 16


def table() -> str:
    """Lowest to highest share over the worlds and scores of each row."""
    header = ("worlds", "cells", "false", "family", "covered", "own")
    lines = [f"| {' | '.join(header)} |", "| :- | -: | -: | -: | -: | -: |"]
    rows = [row for row in read() if claimed(row)]
    for title, chosen, columns in ROWS:
        found = [row for row in rows if chosen(row)]
        if found:
            cells = [_range(found, name) if name in columns else "–" for name in header[2:]]
            lines.append(f"| {title} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _range(rows: Sequence[Row], name: str) -> str:
    values = [float(row[name]) for row in rows]
    return f"{min(values):.3f} to {max(values):.3f}"
