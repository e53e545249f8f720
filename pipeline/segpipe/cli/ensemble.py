"""Command ensemble."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from segpipe.cli import options

Method = Annotated[str, typer.Option(help="An ensemble of params.yaml.", show_default=False)]


def ensemble(
    method: Method,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Combine the predictions of several members."""
    from segpipe.cli.printing import announce, finish
    from segpipe.config.context import start

    context = start(method=method, overrides=settings, jobs=jobs, scheduler=scheduler, quiet=as_json)
    out, keys = context.path("ensemble"), context.params.members_of(method)
    sources = [own.require(own.source) for own in map(context.member, keys)]
    if dry_run:
        announce(context, out, *sources)
        return
    from segpipe.stages import ensemble as stage

    with context.writing(out):
        result = stage.run(context)
    lines = [f"{out}: {context.params.ensemble[method].method} of {len(keys)} members", *_learned(result)]
    finish(context, result, lines, context.command("evaluate"))


def _learned(result: dict[str, Any]) -> list[str]:
    """What was learned, in words."""
    lines = [f"best member on val: {result['best_member']}"]
    weights = result["learned"].get("weights") or result["given"]
    if weights:
        pairs = zip(result["members"], weights, strict=True)
        lines.append("weights: " + ", ".join(f"{key} {weight:.3f}" for key, weight in pairs))
    if result["absent"]:
        lines.append(f"warning: no pixel of {', '.join(result['absent'])} to fit on: never predicted")
    return lines
