"""Command audit: where do the runs fail, and is it the model or the label?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from segpipe.stages import options
from segpipe.stages.context import start

HEADER = ("kind", "what", "image", "value", "note")


def audit(
    split: Annotated[Literal["val", "test"], typer.Option(help="The split whose failures are shown.")] = "test",
    worst: Annotated[int, typer.Option(help="Cases to show of each kind.", min=1, max=1000)] = 5,
    fail: Annotated[float, typer.Option(help="Mean IoU below which a run fails on an image.", min=0, max=1)] = 0.5,
    smallest: Annotated[int, typer.Option(help="Pixels of the smallest suspect region.", min=1)] = 12,
    alike: Annotated[float, typer.Option(help="Correlation from which two images are one.", min=0, max=1)] = 0.98,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("runs/audit"),
    settings: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Show the worst images and pairs, common failures, label suspects and near-duplicates on a page."""
    from segpipe.core import files
    from segpipe.reporting import audit as report
    from segpipe.reporting.html import document
    from segpipe.reporting.tables import csv_text
    from segpipe.stages import cases
    from segpipe.stages.gathered import gather

    context = start("report", overrides=settings, as_json=as_json)
    view = cases.View(context, split, gather(context))
    suspected, listed = cases.suspects(view, worst, smallest)
    parts = [
        cases.worst_images(view, worst),
        cases.worst_pairs(view, worst),
        cases.common_failures(view, worst, fail),
        suspected,
        cases.duplicates(view, worst, alike),
    ]
    found = {item.heading: len(item.cases) for item in parts}
    results = f"{len(view.runs)} result{'s' if len(view.runs) > 1 else ''}"
    lead = f"{results} on the {len(view.rows)} {split} images of {view.index['dataset']}."
    with context.writing(out):
        title = f"segpipe audit: {view.index['dataset']}"
        files.write_text(out / "audit.csv", csv_text(HEADER, report.rows(parts)))
        if listed:
            files.write_text(out / "label_suspects.csv", listed)
        files.write_text(out / "audit.html", document(title, report.body(title, lead, parts)))
    if as_json:
        print(json.dumps({"path": str(out / "audit.html"), "cases": found}))
        return
    for heading, number in found.items():
        print(f"{heading}: {number} shown")
    print(f"audit: {out / 'audit.html'}, the same cases in {out / 'audit.csv'}")
