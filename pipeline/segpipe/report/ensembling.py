"""The report's answer about ensembles: what each gained over its best member, at which cost, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import stdtrit

from segpipe.metrics.comparison import word_of
from segpipe.metrics.jackknife import LEVEL, MOST
from segpipe.metrics.naming import pretty
from segpipe.report import diagrams
from segpipe.report.html import Figure, Fold, Piece
from segpipe.report.judgement import Judgement, region_of
from segpipe.report.results import Entry
from segpipe.report.tables import Table

Found = Mapping[str, Mapping[str, Any]]  # by ensemble: its members.json
METRIC = "miou_dataset"
_FOLDED = 16  # members of which the table is folded
_MOST = 10  # members whose pairs are shown as a table


def parts(found: Found, entries: Sequence[Entry], judged: Judgement) -> list[Piece]:
    """Paragraphs, tables and figures for `page.build`; none without an ensemble."""
    if not found:
        return []
    grown = {name: gains(one) for name, one in found.items() if one["first_members"]}
    members = weights(found)
    number = len({member["key"] for one in found.values() for member in one["members"]})
    return [
        worth(found, judged),
        gained(found, entries, region_of(judged)),
        "Each ensemble against its member that was best on val, on the same test images: difference in points and its "
        "95 % interval over all ensembles together, from which the verdict follows. An ensemble is fitted once, so "
        "this is about these networks alone: other trainings would make others. Cost: multiply-adds of an image, in "
        "units of the cheapest best member; a CRF is not counted. Coverage: pixels that the ensemble "
        "does not reject; the accepted score leaves the others out. What was fitted, was fitted on val or out of "
        "fold, so only test tells. The figure shows ensembles whose members have equal weights, as they grow.",
        *(
            [
                Figure(
                    diagrams.lines(grown, "members, best on val first", "mIoU$^D$ on test"),
                    "mIoU^D on test of ensembles as they grow.",
                )
            ]
            if grown
            else []
        ),
        *([members] if number <= _FOLDED else [Fold(f"{number} members", [members])]),
        *_pairs(found),
    ]


def tables(found: Found, entries: Sequence[Entry], judged: Judgement) -> str:
    """results/tables/ensembles.md."""
    if not found:
        return "There is no ensemble: see section ensemble of params.yaml.\n"
    gain = gained(found, entries, region_of(judged))
    return "\n".join((worth(found, judged) + "\n", gain.markdown(), weights(found).markdown()))


def worth(found: Found, judged: Judgement) -> str:
    """Which ensemble to take, in a sentence: the cheapest of those that are not shown to be worse than the best."""
    better = [name for name, verdict in verdicts(found, region_of(judged)).items() if verdict == "better"]
    note = f" Note: {judged.caution}." if judged.caution else ""
    if not better:
        return f"No ensemble is shown to be better than its best member, these networks.{note}"
    scores = {name: judged.scores[f"ensemble: {name}"][METRIC] for name in better}
    best = max(better, key=scores.__getitem__)
    as_good = [
        name for name in better
        if name == best or not judged.between(f"ensemble: {best}", f"ensemble: {name}", METRIC).shown
    ]  # fmt: skip
    chosen = min(as_good, key=lambda name: (_total(found[name]), -scores[name]))
    difference = found[chosen]["against_best_member"][METRIC]
    others = [name for name in as_good if name != chosen]
    differ = "is tied with it, and costs" if len(others) == 1 else "are tied with it, and cost"
    tied = f"; {', '.join(others)} {differ} no less" if others else ""
    one = found[chosen]
    cost = _total(one) / max(1, one["multiply_adds"]["best_member"] or 1)
    price = f" for {cost:.1f} times its cost" if one["multiply_adds"]["best_member"] and math.isfinite(cost) else ""
    return (
        f"Worth its cost, these networks: {chosen} ({one['method']}), {100 * difference['value']:+.1f} points of "
        f"{pretty(METRIC)} over {one['best_member']}{price}{tied}.{note}"
    )


def verdicts(found: Found, region: float) -> dict[str, str]:
    """Of each ensemble against its best member: better, worse, practically equal, undecided or undefined."""
    shown = {}
    for name, one in found.items():
        difference = one["against_best_member"][METRIC]
        bounds = together(difference, len(found))
        if bounds is None or difference["caution"]:
            shown[name] = "undefined" if bounds is None else "undecided"
        else:
            word = word_of(*bounds, region)
            shown[name] = "worse" if word == "better" and bounds[1] < 0 else word
    return shown


def together(difference: Mapping[str, Any], ensembles: int) -> tuple[float, float] | None:
    """The interval of a difference of one pair of networks, widened so that those of all ensembles hold together."""
    if difference["value"] is None or difference["low"] is None:
        return None
    freedom, tail = min(difference["units"], MOST) - 1, (1 - LEVEL) / 2
    wider = float(stdtrit(freedom, 1 - tail / ensembles) / stdtrit(freedom, 1 - tail))
    half = wider * (difference["high"] - difference["low"]) / 2
    return difference["value"] - half, difference["value"] + half


def gained(found: Found, entries: Sequence[Entry], region: float) -> Table:
    """Score, gain over the best member, calibration, coverage and cost of every ensemble."""
    by_name, shown = {entry.name: entry for entry in entries}, verdicts(found, region)
    cheapest = min((one["multiply_adds"]["best_member"] or math.inf for one in found.values()), default=1)
    rows = []
    for name, one in found.items():
        test = by_name[f"ensemble: {name}"].metrics[0]["test"]
        difference = one["against_best_member"][METRIC]
        accepted = (test.get("accepted") or {}).get(METRIC)
        after = (test.get("calibrated") or {}).get("nll_dataset")
        rows.append(
            [
                name,
                one["method"],
                str(len(one["members"])),
                _number(test[METRIC]),
                one["best_member"],
                _difference(difference, len(found)),
                shown[name],
                f"{_number(test.get('nll_dataset'))} → {_number(after)}" if "nll_dataset" in test else "–",
                "–" if test["coverage"] is None else f"{100 * test['coverage']:.1f} %",
                _number(accepted),
                f"{_total(one) / cheapest:.1f}" if math.isfinite(_total(one) / cheapest) else "–",
            ]
        )
    title = pretty(METRIC)
    header = ["ensemble", "method", "members", title, "best member", "gain", "verdict", "NLL^D → after T", "coverage",
              f"{title} accepted", "cost"]  # fmt: skip
    return Table(header, rows)


def weights(found: Found) -> Table:
    """The members of each ensemble, their own scores, and the weights that a method fitted."""
    keys = list(dict.fromkeys(member["key"] for one in found.values() for member in one["members"]))
    own = {member["key"]: member for one in found.values() for member in one["members"]}
    weighted = {name: one for name, one in found.items() if "weights" in one["learned"]}
    rows = []
    for key in keys:
        cells = []
        for one in weighted.values():
            names = [member["key"] for member in one["members"]]
            cells.append(f"{one['learned']['weights'][names.index(key)]:.3f}" if key in names else "–")
        rows.append([key, _number(own[key]["val_miou_dataset"]), _number(own[key]["test"][METRIC]), *cells])
    titles = [f"{pretty(METRIC)} on {split}" for split in ("val", "test")]
    return Table(["member", *titles, *(f"weight in {name}" for name in weighted)], rows)


def gains(one: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(number of members, score of the first so many), where defined."""
    return [(k + 1.0, scores[METRIC]) for k, scores in enumerate(one["first_members"]) if scores[METRIC] is not None]


def _pairs(found: Found) -> list[Piece]:
    """The table of pairs of the first ensemble that has few enough members."""
    chosen = next((name for name, one in found.items() if 1 < len(one["members"]) <= _MOST), None)
    if chosen is None:
        return []
    one = found[chosen]
    names, shares = [member["key"] for member in one["members"]], one["pairs"]
    rows = [
        [
            name,
            *(f"{100 * (shares['both_wrong'] if i >= j else shares['differ'])[i][j]:.1f}" for j in range(len(names))),
        ]
        for i, name in enumerate(names)
    ]
    return [
        Table([f"members of {chosen}, % of pixels", *names], rows),
        "Above the diagonal: pixels on which two members differ. On and below it: pixels on which both are wrong. "
        "Members that fail together add little to each other.",
    ]


def _total(one: Mapping[str, Any]) -> float:
    """Multiply-adds of an image; infinite where those of an import are not known."""
    members = one["multiply_adds"]["members"]
    return math.inf if members is None else float(members + one["multiply_adds"]["combining"])


def _difference(difference: Mapping[str, Any], ensembles: int) -> str:
    bounds = together(difference, ensembles)
    if bounds is None:
        return "–"
    value, low, high = (100 * number for number in (difference["value"], *bounds))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
