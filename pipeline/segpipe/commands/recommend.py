"""Command recommend: which run or ensemble to take for a goal, how sure that is, and what to run next."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from segpipe.core.errors import ConfigError
from segpipe.stages import options


def recommend(
    goal: Annotated[
        Literal["D", "I", "C", "worst", "calibration", "likelihood", "speed"],
        typer.Option(help="What counts: mIoU^D, ^I or ^C, the worst images, calibration, likelihood, speed."),
    ] = "D",
    settings: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Say which result to take for a goal, how sure that is, and what to run next to be surer."""
    from segpipe.reporting import advice, judgement
    from segpipe.stages.context import start
    from segpipe.stages.report import gather

    context = start("report", overrides=settings, as_json=as_json)
    metric = advice.GOALS[goal]
    entries = [entry for entry in gather(context) if entry.mean(metric) is not None]
    if len(entries) < 2:
        raise ConfigError(f"{len(entries)} result defines {metric}, wanted at least two; add runs to params.yaml")
    folders = {entry.name: entry.folders for entry in entries}
    judged = judgement.judge(folders, [metric], resamples=context.params.evaluate.resamples)
    runs, groups = judgement.read_runs(folders, "test")
    found = advice.advise(goal, judged, runs, groups, _cost(context, entries), _missing(context))
    if as_json:
        print(json.dumps(asdict(found)))
        return
    for line in advice.words(found, judged):
        print(line)


def _cost(context: Any, entries: list[Any]) -> dict[str, float]:
    """Multiply-adds of an image of each result, where its files are there; a CRF is not counted, so not compared."""
    from segpipe.core.files import read_json

    found: dict[str, float] = {}
    for entry in entries:
        if entry.kind == "ensemble":
            one = read_json(entry.folders[0] / "members.json")["multiply_adds"]
            found[entry.name] = float(one["members"] + one["combining"])
        elif entry.kind == "run":
            made = context.member(f"{entry.name}-{context.params.seeds[0]}").path("predict") / "made.json"
            if made.is_file():
                known = read_json(made)
                found[entry.name] = float(known["multiply_adds"] * known["looks"])
    return found


def _missing(context: Any) -> list[str]:
    """What params.yaml does not try yet."""
    params = context.params
    steps = []
    if not params.crf_keys():
        steps.append("a CRF after the best run (crf.runs in params.yaml)")
    if not params.ensemble:
        steps.append("an ensemble of the best runs (section ensemble of params.yaml)")
    elif not any("stacking" in section.method for section in params.ensemble.values()):
        steps.append("stacking, which also calibrates (section ensemble of params.yaml)")
    losses = {section.loss for section in params.runs.values()}
    if not any(word in loss for loss in losses for word in ("jml", "dml", "dice", "lovasz", "jaccard", "tversky")):
        steps.append("a region loss beside cross entropy: 0.25*ce + 0.75*jml")
    return steps
