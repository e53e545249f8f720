"""The report's sections beyond scores: differences, calibration, borders."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from segpipe.metrics.naming import pretty, scale
from segpipe.report import diagrams
from segpipe.report.figures import mathematical
from segpipe.report.html import Figure, Fold, Heading, Piece
from segpipe.report.judgement import Judgement, behind, ranking_table, sentence
from segpipe.report.page import Section
from segpipe.report.results import Entry, foremost
from segpipe.report.tables import Table

_RANKED = ("miou_dataset", "miou_image", "miou_class", "acc", "ece_dataset")  # each with a table and a diagram


def sections(entries: Sequence[Entry], found: Judgement, runs: Judgement | None, metric: str) -> list[Section]:
    """Differences, calibration, borders; `runs`: the runs compared alone, where there is more than them."""
    parts = []
    if found.differences:
        parts.append(Section("Is the difference real?", differences(found, runs, metric)))
    with_curves = [entry for entry in entries if entry.curves]
    if with_curves:
        parts.append(Section("Calibration", _calibration(with_curves, metric)))
    parts.append(Section("Near borders", _borders(entries, metric)))
    return parts


def differences(found: Judgement, runs: Judgement | None, metric: str) -> list[Piece]:
    """Rankings by the metric and others that are scored, each with its figure, and how verdicts are reached."""
    first, *others = [m for m in dict.fromkeys([metric, *_RANKED]) if found.order(m)] or [""]
    if not first:
        return []
    alone: list[Piece] = []
    if runs is not None and len(runs.order(first)) > 1:
        alone = [Heading("Runs alone"), sentence(runs, first), *_ranked(runs, first), Heading("All results")]
    return [
        *alone,
        *_ranked(found, first),
        *([f"Note: {found.caution}."] if found.caution else []),
        *(f"Note: {note}." for note in found.notes),
        _explained(found),
        *(Fold(f"by {pretty(name)}", _ranked(found, name)) for name in others),
    ]


def _explained(found: Judgement) -> str:
    """How verdicts are reached, in words."""
    pair = found.differences[0]
    factor, unit = scale(pair.metric)
    return (
        f"Differences are paired: the same {found.units} {found.unit}s and the same seeds on both sides. A "
        "claim about these methods holds for new trainings and new images; one about these networks for new images "
        "alone: no more can be said with one seed, or of a CRF or an ensemble beside its networks. All intervals of a "
        "table hold together with 95 % (Bonferroni over its pairs), and the verdict is read from them: practically "
        f"equal where all of it is within {factor * pair.equivalence:g}{unit or ' of 0'}; else better where it leaves "
        "out 0; else undecided. An ensemble is compared with the mean of a run's networks. "
        "Intervals of single scores that overlap do not mean equal."
    )


def _ranked(found: Judgement, metric: str) -> list[Piece]:
    drawn = behind_the_best(found, metric)
    return [ranking_table(found, metric), *([drawn] if drawn else [])]


def behind_the_best(found: Judgement, metric: str) -> Figure | None:
    """How far each result is behind the best, as a figure; None where no difference is defined."""
    best, *others = found.order(metric) or [""]
    rows = {name: row for name in others if (row := behind(found.between(best, name, metric), best)) is not None}
    if not rows:
        return None
    factor, unit = scale(metric)
    words = {name: found.between(best, name, metric).word for name in rows}
    return Figure(
        diagrams.behind(rows, words, factor, f"{mathematical(pretty(metric))} behind {best}{unit and ','}{unit}"),
        f"{pretty(metric)}: how far each result is behind {best}, with the 95 % interval over all pairs. Left of the "
        "line: ahead.",
    )


def crossed(found: Judgement | None, metric: str) -> list[Piece]:
    """The runs compared by cross-validation; nothing where none was trained on folds."""
    if found is None:
        return []
    folds = found.sample.units.folds
    return [
        f"Every one of the {found.sample.images} train images is scored once, by a network that was trained without "
        f"its fold ({folds} folds; a group stays in one), so that all of them judge instead of the few of test. The "
        f"folds' networks share most of their training images, for which variances are {1 + folds / (folds - 1):.2g} "
        "times as large (Nadeau and Bengio 2003). Networks that are scored on test saw more images.",
        sentence(found, metric),
        *_ranked(found, metric),
    ]


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
