"""What an ensemble gained over its members: a part of stage evaluate."""

from __future__ import annotations

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
        return Counts(*(arrays[f"test_{name}"][:, position] for name in ("tp", "fp", "fn", "valid", "rejected")))

    def score(counts: Counts) -> dict[str, float | None]:
        found = summarize(counts)
        return {name: found[name] for name in ("acc", *METRICS)}

    best, groups = definition["best_member"], [row["group"] for row in rows]
    pair = {"ensemble": [Tables(tables.counts)], best: [Tables(counts_of(order[0]))]}
    differences = compare(pair, groups, METRICS, resamples=context.params.evaluate.resamples)
    pixels = sum(row["geometry"]["original_height"] * row["geometry"]["original_width"] for row in rows) / len(rows)
    own = round(pixels * definition["learned"].get("multiply_adds", 0))
    costs = [member["multiply_adds"] for member in definition["members"]]
    found = {
        **definition,
        "members": [{**member, "test": score(counts_of(m))} for m, member in enumerate(definition["members"])],
        "against_best_member": {d.metric: {**vars(d), "shown": d.shown, "verdict": d.verdict} for d in differences},
        "first_members": [score(counts_of(number + k)) for k in range(arrays["test_tp"].shape[1] - number)],
        "order": [definition["members"][m]["key"] for m in order],
        "multiply_adds": {"members": sum(costs), "best_member": costs[order[0]], "combining": own},
    }
    files.write_json(folder / "members.json", found)
