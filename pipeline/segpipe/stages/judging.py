"""What an ensemble gained over its members: a part of stage evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segpipe.stages.context import Context

METRICS = ("miou_dataset", "miou_image", "miou_class")


def judge(context: Context, source: Path, folder: Path, rows: list[dict[str, Any]], tables: Any) -> None:
    """Write members.json: the ensemble on test against the member that was best on val, in pairs of the same images;
    every member's scores; the scores of the first 1..M members together; how the members differ; the cost.
    """
    import numpy as np

    from segpipe.core import files
    from segpipe.metrics.bootstrap import Tables
    from segpipe.metrics.comparison import compare
    from segpipe.metrics.counts import Counts
    from segpipe.metrics.scores import summarize

    definition = files.read_json(source / "ensemble.json")
    with np.load(source / "members.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    number, order = len(definition["members"]), arrays["order"].tolist()

    def counts_of(position: int) -> Counts:
        return Counts(*(arrays[name][:, position] for name in ("tp", "fp", "fn", "valid", "rejected")))

    def score(counts: Counts) -> dict[str, float | None]:
        found = summarize(counts)
        return {name: found[name] for name in ("acc", *METRICS)}

    best, groups = definition["best_member"], [row["group"] for row in rows]
    pair = {"ensemble": [Tables(tables.counts)], best: [Tables(counts_of(order[0]))]}
    differences = compare(pair, groups, METRICS, resamples=context.params.evaluate.resamples)
    pixels = sum(row["geometry"]["original_height"] * row["geometry"]["original_width"] for row in rows) / len(rows)
    own = round(pixels * definition["learned"].get("multiply_adds", 0))
    weights = definition["learned"].get("weights") or [1.0] * number
    # A network counts once, also where its CRF's output is a member too; who has no weight is not asked.
    asked = {
        (m["model"], json.dumps(m["predict"], sort_keys=True)): m["multiply_adds"]
        for m, weight in zip(definition["members"], weights, strict=True)
        if weight > 0
    }
    found = {
        **definition,
        "members": [{**member, "test": score(counts_of(m))} for m, member in enumerate(definition["members"])],
        "against_best_member": {d.metric: {**vars(d), "shown": d.shown, "verdict": d.verdict} for d in differences},
        "first_members": [score(counts_of(number + k)) for k in range(arrays["tp"].shape[1] - number)],
        "order": [definition["members"][m]["key"] for m in order],
        "multiply_adds": {
            "members": sum(asked.values()),
            "best_member": definition["members"][order[0]]["multiply_adds"],
            "combining": own,
        },
    }
    files.write_json(folder / "members.json", found)
