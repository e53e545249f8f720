"""Command report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli import options

PARTIAL = Path("runs/partial")


def report(
    partial: Annotated[
        bool, typer.Option("--partial", help=f"Of what is there, into {PARTIAL}; the page names what is missing.")
    ] = False,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Write results/report.html and results/tables from all results of params.yaml."""
    from segpipe.cli.printing import announce, finish
    from segpipe.config.context import start

    context = start(overrides=settings, quiet=as_json)
    out = PARTIAL if partial else context.path("report")
    if dry_run:
        announce(context, out)
        return
    from segpipe.stages import report as stage

    with context.writing(out / "report"):
        result = stage.run(context, out, partial=partial)
    for line in result["left_out"]:
        context.log(f"left out: {line}")
    finish(context, result, [result["summary"], f"report: {result['path']}"], f"open {result['path']} in a browser")
