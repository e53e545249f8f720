"""The report's sections beyond scores: differences, calibration, borders."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from segpipe.metrics.comparison import pretty
from segpipe.report import diagrams
from segpipe.report.figures import mathematical
from segpipe.report.html import Figure, Fold, Piece
from segpipe.report.judgement import Judgement, ranking_table
from segpipe.report.page import Section
from segpipe.report.results import Entry, foremost
from segpipe.report.tables import Table

_RANKED = ("miou_dataset", "miou_image", "miou_class", "acc", "ece_dataset")  # each with a table and a diagram


def sections(entries: Sequence[Entry], found: Judgement, metric: str) -> list[Section]:
    """Differences, calibration, borders."""
    parts = []
    if found.differences:
        parts.append(Section("Is the difference real?", _differences(found, metric)))
    with_curves = [entry for entry in entries if entry.curves]
    if with_curves:
        parts.append(Section("Calibration", _calibration(with_curves, metric)))
    parts.append(Section("Near borders", _borders(entries, metric)))
    return parts


def _differences(found: Judgement, metric: str) -> list[Piece]:
    first, *others = [m for m in dict.fromkeys([metric, *_RANKED]) if found.order(m)] or [""]
    if not first:
        return []
    return [
        *_ranked(found, first),
        *([f"Note: {found.caution}."] if found.caution else []),
        f"Paired bootstrap: {found.units} {found.unit}s of test and the seeds are drawn anew, the same for all. Runs "
        "whose corrected p is above 0.05 or whose interval holds 0 are a tie. Intervals that overlap do not mean "
        "equal: only the paired difference, in points of 100, tells. With few seeds the noise of training is "
        f"underestimated. With many {found.unit}s small differences become significant: read the points, not p alone.",
        *(Fold(f"by {pretty(name)}", _ranked(found, name)) for name in others),
    ]


def _ranked(found: Judgement, metric: str) -> list[Piece]:
    pieces: list[Piece] = [ranking_table(found, metric)]
    ranking = found.rankings.get(metric)
    if ranking is not None:
        p = "" if ranking.p is None else f" Friedman's test over all: p = {ranking.p:.2g}."
        pieces.append(
            Figure(
                diagrams.critical_difference(ranking),
                f"Critical differences. Average rank by the {pretty(metric)} of each {found.unit}, 1 is best; a bar "
                f"joins runs that Nemenyi's test does not tell apart.{p}",
            )
        )
    return pieces


def _calibration(entries: Sequence[Entry], metric: str) -> list[Piece]:
    drawn, which = foremost(entries, metric)
    shown = {e.name: (e.curves["test"]["reliability"], e.curves.get("test calibrated", {}).get("reliability", []))
             for e in drawn}  # fmt: skip
    risks = {e.name: e.curves["test"]["risk"] for e in drawn}
    return [
        calibration_table(entries),
        "One temperature, fitted on val by NLL, changes confidence and no label. ECE in equal-width, ACE in equal-mass "
        "bins; SCE over the probabilities of all classes; AURC: error averaged while the least confident are left out.",
        Figure(
            diagrams.reliability(shown),
            f"Reliability: accuracy over confidence on test, first seed; dotted: perfect.{which}",
        ),
        Figure(
            diagrams.lines(risks, "coverage: share of the most confident pixels", "error among them"),
            f"Risk over coverage: the error that is left when the least confident pixels are left out.{which}",
        ),
    ]


def calibration_table(entries: Sequence[Entry]) -> Table:
    """Temperature, and calibration on test before and after it; means over seeds."""
    rows = []
    for entry in entries:
        if not entry.values("ece_dataset"):
            continue
        fits = [m["temperature"] for m in entry.metrics]
        values = [fit["value"] for fit in fits if fit and fit["value"] is not None]
        shown = f"{statistics.fmean(values):.2f}" if len(values) == len(fits) else "refused"
        cells = []
        for key in ("ece_dataset", "nll_dataset", "brier_dataset"):
            after = [(m["test"].get("calibrated") or {}).get(key) for m in entry.metrics]
            cells.append(f"{_mean([m['test'][key] for m in entry.metrics])} → {_mean(after)}")
        plain = [_mean([m["test"][key] for m in entry.metrics]) for key in ("ece_image", "sce_dataset", "ace", "aurc")]
        rows.append([entry.name, shown, *cells, *plain])
    header = ["what", "T", "ECE^D → after", "NLL^D → after", "Brier^D → after", "ECE^I", "SCE^D", "ACE", "AURC"]
    return Table(header, rows)


def _borders(entries: Sequence[Entry], metric: str) -> list[Piece]:
    drawn, which = foremost(entries, metric)
    widths = {
        entry.name: [(float(width), value) for width, value in _trimap(entry).items() if value is not None]
        for entry in drawn
    }
    return [
        borders_table(entries),
        "Boundary IoU compares bands along the borders (Cheng et al. 2021); BF asks how much of the contours lies "
        "within 0.75 % of the diagonal of each other; the last columns count only pixels within so many of a border.",
        Figure(
            diagrams.lines(
                widths, "width of the trimap in pixels", f"{mathematical(pretty('miou_dataset'))} inside", log=True
            ),
            f"mIoU^D over the width of the trimap: only pixels within so many of a border of the label count.{which}",
        ),
    ]


def borders_table(entries: Sequence[Entry]) -> Table:
    """Boundary IoU, BF and trimap mIoU on test; means over seeds."""
    keys = ("boundary_iou_dataset", "boundary_iou_class", "bf_class")
    widths = list(entries[0].metrics[0]["test"]["borders"]["trimap_miou_dataset"]) if entries else []
    rows = []
    for entry in entries:
        borders = [m["test"]["borders"] for m in entry.metrics]
        near = _trimap(entry)
        cells = [_mean([b[key] for b in borders]) for key in keys]
        rows.append([entry.name, *cells, *(_mean([near.get(width)]) for width in widths)])
    titles = ["boundary IoU^D", "boundary IoU^C", "BF^C", *(f"mIoU^D, {w} px" for w in widths)]
    return Table(["what", *titles], rows)


def _trimap(entry: Entry) -> dict[str, float | None]:
    each = [m["test"]["borders"]["trimap_miou_dataset"] for m in entry.metrics]
    found: dict[str, float | None] = {}
    for width in each[0]:
        values = [row[width] for row in each]
        found[width] = None if any(v is None for v in values) else statistics.fmean(values)
    return found


def _mean(values: Sequence[Any]) -> str:
    """Mean over seeds, a dash when one is undefined."""
    return "–" if not values or any(value is None for value in values) else f"{statistics.fmean(values):.4f}"
