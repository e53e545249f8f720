"""What an ensemble gained over its members, as members.json of its results says it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segpipe.core import files
from segpipe.metrics.comparison import compare
from segpipe.metrics.counts import Counts
from segpipe.metrics.jackknife import Tables
from segpipe.metrics.scores import summarize

METRICS = ("miou_dataset", "miou_image", "miou_class")


def write_gain(source: Path, folder: Path, tables: Tables, groups: Sequence[str], *, pixels: float) -> None:
    """Write members.json: the ensemble on test against the member that was best on val, in pairs of the same images;
    every member's scores; the scores of the first 1..M members together; how the members differ; the cost.

    Args:
        source: what stage ensemble wrote. folder: the results, to be written.
        tables: the ensemble's on test. groups: of the test images. pixels: of an image, on average.
    """
    definition = files.read_json(source / "ensemble.json")
    arrays = files.read_arrays(source / "members.npz")
    number, order = len(definition["members"]), arrays["order"].tolist()

    def counts_of(position: int) -> Counts:
        return Counts(*(arrays[name][:, position] for name in ("tp", "fp", "fn", "valid", "rejected")))

    best = definition["best_member"]
    pair = {"ensemble": [Tables(tables.counts)], best: [Tables(counts_of(order[0]))]}
    differences = compare(pair, groups, METRICS)
    own = round(pixels * definition["learned"].get("multiply_adds", 0))
    found = {
        **definition,
        "members": [{**member, "test": _scores(counts_of(m))} for m, member in enumerate(definition["members"])],
        "against_best_member": {
            d.metric: {**vars(d), "shown": d.shown, "word": d.word, "verdict": d.verdict} for d in differences
        },
        "first_members": [_scores(counts_of(number + k)) for k in range(arrays["tp"].shape[1] - number)],
        "order": [definition["members"][m]["key"] for m in order],
        "multiply_adds": {
            "members": _cost(definition),
            "best_member": definition["members"][order[0]]["multiply_adds"],
            "combining": own,
        },
    }
    files.write_json(folder / "members.json", found)


def _scores(counts: Counts) -> dict[str, float | None]:
    found = summarize(counts, measures=("iou",))
    return {name: found[name] for name in ("acc", *METRICS)}


def _cost(definition: dict[str, Any]) -> int | None:
    """Multiply-adds of an image; None where those of an import are not known. A network counts once, also where its
    CRF's output is a member too; who has no weight is not asked.
    """
    members = definition["members"]
    weights = definition["learned"].get("weights") or [1.0] * len(members)
    asked = {
        (m["model"], json.dumps(m["predict"], sort_keys=True)): m["multiply_adds"]
        for m, weight in zip(members, weights, strict=True)
        if weight > 0
    }
    return None if None in asked.values() else sum(map(int, asked.values()))
