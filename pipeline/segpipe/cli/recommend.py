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
    choose: Annotated[
        Literal["test", "val"],
        typer.Option(
            help="The split by which it is chosen; val: among what was not fitted there, then scored on test, so that "
            "the score is not flattered by the choice."
        ),
    ] = "test",
    settings: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Say which result to take for a goal, how sure that is, and what to run next to be surer."""
    from segpipe.config import minutes
    from segpipe.config.context import start
    from segpipe.report import advice
    from segpipe.report.collect import collect_results, costs, fitted_on_val, judge_entries, untried

    context = start(overrides=settings, quiet=as_json)
    metric = advice.GOALS[goal]
    entries = collect_results(context)
    left_out = [entry.name for entry in entries if choose == "val" and fitted_on_val(entry)]
    collapsed = {entry.name: entry.collapsed for entry in entries if entry.collapsed}
    entries = [entry for entry in entries if entry.name not in left_out and entry.name not in collapsed]
    defined = sum(entry.mean(metric) is not None for entry in entries)
    if defined < 2:
        kind = "result that was not fitted on val" if choose == "val" else "result"
        if collapsed:
            raise ConfigError(
                f"{', '.join(collapsed)} collapsed to one class, which leaves {defined} {kind}, wanted at least two; "
                "train longer or with another loss"
            )
        raise ConfigError(f"{defined} {kind} defines {metric}, wanted at least two; add runs to params.yaml")
    judged = judge_entries(entries, context, [metric], split=choose)
    kinds = {entry.name: entry.kind for entry in entries}
    known = minutes.of_runs(context.params.runs)
    found = advice.advise(goal, judged, costs(context, entries), untried(context), kinds, minutes=known)
    reported = judge_entries(entries, context, [metric]) if choose == "val" else None
    if as_json:
        print(json.dumps({**asdict(found), "chosen_on": choose}, allow_nan=False))
        return
    for name, what in collapsed.items():
        print(f"left out: {name} has collapsed; one of its networks finds {what} on test")
    if left_out:
        print(f"chosen on val, without what was fitted there: {', '.join(left_out)}")
    for heading, text in advice.words(found, judged, reported):
        print(f"{heading}: {text}")
