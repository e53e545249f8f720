"""The report's answer about decision rules: which one each result takes, what it changes, what other rules lose."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from segpipe.metrics.naming import pretty
from segpipe.report.html import Piece
from segpipe.report.refinement import difference_cell
from segpipe.report.tables import Table

Found = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by score and result: what stage decide wrote
_SHOWN = ("miou_dataset", "miou_image", "miou_class", "acc")
_CALIBRATED = ("ece_dataset", "nll_dataset")


def parts(found: Found) -> list[Piece]:
    """Paragraphs and tables for `page.build`; none without a rule."""
    if not found:
        return []
    text = (
        "Arg max is the best reading of probabilities for accuracy alone. A rule is fitted to a score on val, judged "
        "on groups that it was not fitted on, and taken where it is surely better; arg max stays elsewhere. "
        "Differences are rule - arg max on test, of these networks, in points, with their 95 % intervals. Calibration "
        "is that of the probabilities that the labels are read from."
    )
    return [text, *tables_of(found)]


def tables(found: Found) -> str:
    """results/tables/decisions.md."""
    return "\n".join(table.markdown() for table in tables_of(found))


def tables_of(found: Found) -> list[Table]:
    """What is taken and what it changes; with several scores, what each rule gives by the others."""
    named = [(metric, key, one) for metric, results in found.items() for key, one in results.items()]
    changes = [[_label(metric, key, found), one["rule"], _gain(one), *_changes(one)] for metric, key, one in named]
    judged = [f"{pretty(metric)}, rule − arg max" for metric in _differences(named)]
    head = ["result", "rule", "gain on val, out of fold", *judged]
    sides = [[_label(metric, key, found), *_sides(one)] for metric, key, one in named]
    columns = [f"{pretty(m)}, before → after" for m in (*_SHOWN, *_CALIBRATED)]
    return [Table(head, changes), Table(["result", *columns], sides), *_crossed(found)]


def _differences(named: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(m for _, _, one in named for m in one["effect"]["test"]["differences"]))


def _label(metric: str, key: str, found: Found) -> str:
    return key if len(found) == 1 else f"{key}, for {pretty(metric)}"


def _gain(one: Mapping[str, Any]) -> str:
    """Of the chain that is taken, or of the best that is not."""
    best = max(one["candidates"], key=lambda judged: judged["score"] - judged["score_of_argmax"])
    taken = next((judged for judged in one["candidates"] if judged["chain"] == one["rule"]), best)
    gain = 100 * (taken["score"] - taken["score_of_argmax"])
    return f"{gain:+.1f}" + ("" if one["rule"] == taken["chain"] else f" ({taken['chain']}: {taken['reason']})")


def _changes(one: Mapping[str, Any]) -> list[str]:
    differences = one["effect"]["test"]["differences"]
    if one["rule"] == "argmax":
        return ["0" for _ in differences]
    return [difference_cell(differences[metric], metric) for metric in differences]


def _sides(one: Mapping[str, Any]) -> list[str]:
    before, after = one["effect"]["test"]["before"], one["effect"]["test"]["after"]
    cells = []
    for metric in (*_SHOWN, *_CALIBRATED):
        values = [side.get(metric) for side in (before, after)]
        cells.append(" → ".join("–" if value is None else f"{value:.3f}" for value in values))
    return cells


def _crossed(found: Found) -> list[Table]:
    """What each result loses on test when it is read by the rule for another score; means over seeds."""
    if len(found) < 2:
        return []
    rows = []
    results = [key for key in next(iter(found.values())) if all(key in others for others in found.values())]
    for run in dict.fromkeys(map(_of_run, results)):
        own = [key for key in results if _of_run(key) == run]
        for rule in found:
            values = []
            for metric in found:
                reached = _mean([found[rule][key]["effect"]["test"]["after"].get(metric) for key in own])
                best = _mean([found[metric][key]["effect"]["test"]["after"].get(metric) for key in own])
                values.append("–" if reached is None or best is None else f"{100 * (reached - best):+.1f}")
            rows.append([run, f"for {pretty(rule)}", *values])
    return [Table(["result", "read by the rule", *(f"{pretty(metric)}, points" for metric in found)], rows)]


def _of_run(key: str) -> str:
    """`run-seed` or `run-seed-crf` without the seed; an ensemble as it is called."""
    return key.split("-")[0] + ("-crf" if key.endswith("-crf") else "")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None
