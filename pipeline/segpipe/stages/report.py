"""Stage report: the listed results as one HTML page and as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segpipe.stages import options
from segpipe.stages.context import Context, start

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
    context = start("report", overrides=settings, dry_run=dry_run, as_json=as_json)
    out = PARTIAL if partial else context.path("report")
    if dry_run:
        context.announce(out)
        return
    with context.writing(out / "report"):
        result = write(context, out, partial=partial)
    for line in result["left_out"]:
        context.log(f"left out: {line}")
    context.finish(result, [result["summary"], f"report: {result['path']}"], f"open {result['path']} in a browser")


def write(context: Context, out: Path, *, partial: bool = False) -> dict[str, Any]:
    """Read the results that params.yaml lists, nothing else that lies around; write page and tables."""
    from segpipe.core import files
    from segpipe.reporting import page
    from segpipe.stages.findings import Findings

    found = Findings(context, partial=partial)
    sections = found.sections()
    tables, counts = found.tables(), {split: len(rows) for split, rows in found.index["splits"].items()}
    # Warnings come last: what the sections did without is among them.
    html = page.build(found.index["dataset"], counts, found.answer(), found.warnings(), sections)
    for name, text in tables.items():
        files.write_text(out / "tables" / name, text)
    for old in (out / "tables").iterdir():
        if old.name not in tables:
            old.unlink()
    files.write_text(out / "report.html", html)
    return {"path": str(out / "report.html"), "summary": found.summary(), "left_out": list(found.left_out)}
