"""Command recommend: which run or ensemble to take for a goal, how sure that is, and what to run next."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError


def recommend(
    goal: Annotated[
        Literal["D", "I", "C", "worst", "calibration", "likelihood", "speed"],
        typer.Option(help="What counts: mIoU^D, ^I or ^C, the worst images, calibration, likelihood, speed."),
    ] = "D",
    settings: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Say which result to take for a goal, how sure that is, and what to run next to be surer."""
    from segpipe.config.context import start
    from segpipe.report import advice
    from segpipe.report.collect import collect_results, costs, judge_entries, untried

    context = start(overrides=settings, quiet=as_json)
    metric = advice.GOALS[goal]
    entries = collect_results(context)
    defined = sum(entry.mean(metric) is not None for entry in entries)
    if defined < 2:
        raise ConfigError(f"{defined} result defines {metric}, wanted at least two; add runs to params.yaml")
    judged = judge_entries(entries, context, [metric])
    kinds = {entry.name: entry.kind for entry in entries}
    found = advice.advise(goal, judged, costs(context, entries), untried(context), kinds)
    if as_json:
        print(json.dumps(asdict(found), allow_nan=False))
        return
    for heading, text in advice.words(found, judged):
        print(f"{heading}: {text}")
