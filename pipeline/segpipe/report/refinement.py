"""The report's answer about the CRF: does it help, on what, and with which parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segpipe.metrics.comparison import word_of
from segpipe.metrics.naming import pretty, scale
from segpipe.report.html import Piece
from segpipe.report.tables import Table

_PAPER = 8  # columns of two numbers that a printed page holds
Found = Mapping[str, Mapping[str, Any]]  # by run-seed: what stage crf wrote into crf.json


def parts(found: Found, classes: Sequence[str], region: float) -> list[Piece]:
    """Paragraphs and tables for `page.build`; none without a refined run."""
    if not found:
        return []
    return [
        *(_words(key, summary) for key, summary in found.items()),
        verdicts(found, region),
        scores(found),
        borders(found),
        *per_class(found, classes),
        "Parameters were chosen on the named number of val images, so val flatters the CRF; test decides. Each row "
        "is about these networks on other images (95 % interval, points of 100). The third table counts only pixels "
        "near a border.",
    ]


def tables(found: Found, classes: Sequence[str], region: float) -> str:
    """results/tables/crf.md: the tables of `parts`, one after the other."""
    if not found:
        return "No run is refined by a CRF: see crf.runs in params.yaml.\n"
    shown = (verdicts(found, region), scores(found), borders(found), *per_class(found, classes))
    return "\n".join(table.markdown() for table in shown)


def verdicts(found: Found, region: float) -> Table:
    """Verdict, by the region in which differences do not matter, and paired differences on val and test."""
    metrics = list(next(iter(found.values()))["effect"]["test"]["differences"])
    rows = []
    for key, summary in found.items():
        for split, effect in summary["effect"].items():
            verdict = _verdict(effect["differences"][metrics[0]], region) if summary["parameters"] else "not applied"
            rows.append([f"{key}, {split}", verdict, *(difference_cell(effect["differences"][m], m) for m in metrics)])
    return Table(["CRF", "verdict", *(f"{pretty(metric)}, after − before" for metric in metrics)], rows)


def _verdict(difference: Mapping[str, Any], region: float) -> str:
    if difference["low"] is None or difference["caution"]:
        return "undecided"
    word = word_of(difference["low"], difference["high"], region)
    return ("helps" if difference["low"] > 0 else "hurts") if word == "better" else word


def scores(found: Found) -> Table:
    """Scores before and after."""
    first = next(iter(found.values()))["effect"]["test"]["before"]
    names = [name for name, value in first.items() if not isinstance(value, list | dict)]
    return _table(found, {pretty(name): (name,) for name in names})


def borders(found: Found) -> Table:
    """mIoU^D near borders before and after."""
    widths = next(iter(found.values()))["effect"]["test"]["before"]["trimap_miou_dataset"]
    return _table(found, {f"mIoU^D, {width} px": ("trimap_miou_dataset", width) for width in widths})


def per_class(found: Found, classes: Sequence[str]) -> list[Table]:
    """IoU^D of each class before and after, in as many tables as paper needs."""
    columns = {name: ("iou_dataset", k) for k, name in enumerate(classes)}
    return Table(["IoU^D", *columns], _rows(found, columns)).narrow(_PAPER)


def _table(found: Found, columns: Mapping[str, Sequence[Any]]) -> Table:
    return Table(["CRF", *columns], _rows(found, columns))


def _rows(found: Found, columns: Mapping[str, Sequence[Any]]) -> list[list[str]]:
    rows = []
    for key, summary in found.items():
        for split, effect in summary["effect"].items():
            cells = []
            for path in columns.values():
                sides = [effect["before"], effect["after"]]
                for step in path:
                    sides = [side[step] for side in sides]
                shown = ["–" if side is None else f"{side:.4f}" for side in sides]
                cells.append(" → ".join(shown) if summary["parameters"] else shown[0])
            rows.append([f"{key}, {split}", *cells])
    return rows


def difference_cell(difference: Mapping[str, Any], metric: str) -> str:
    """Value and interval, in points."""
    if difference["value"] is None or difference["low"] is None:
        return "–"
    factor, _ = scale(metric)
    value, low, high = (factor * difference[name] for name in ("value", "low", "high"))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _words(key: str, summary: Mapping[str, Any]) -> str:
    metric, number = pretty(summary["metric"]), len(summary["tuned_on"])
    tried = f"{key}: {len(summary['candidates'])} candidates tried on {number} val images by {metric}"
    if not summary["parameters"]:
        return f"{tried}: none is better than no CRF, so the predictions stay as they are."
    chosen = ", ".join(f"{name} {value:g}" for name, value in summary["parameters"].items())
    reached = f"{summary['score_without']:.4f} → {summary['score']:.4f}"
    return f"{tried}: {reached} with {chosen}. On test: {summary['effect']['test']['sentence']}."
