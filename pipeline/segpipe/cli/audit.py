"""Command audit: where do the runs fail, and is it the model or the label?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from segpipe.cli import options

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
    from segpipe.config.context import start
    from segpipe.core import files
    from segpipe.core.spreadsheet import csv_text
    from segpipe.report import audit as page
    from segpipe.report import failures
    from segpipe.report.audited import Audited
    from segpipe.report.collect import collect_results
    from segpipe.report.html import document
    from segpipe.report.suspects import suspects

    context = start(overrides=settings, quiet=as_json)
    audited = Audited(context, split, collect_results(context))
    suspected, listed = suspects(audited, worst, smallest)
    parts = [
        failures.worst_images(audited, worst),
        failures.worst_pairs(audited, worst),
        failures.common_failures(audited, worst, fail),
        suspected,
        failures.duplicates(audited, worst, alike),
    ]
    found = {item.heading: len(item.cases) for item in parts}
    dataset, results = audited.index.dataset, f"{len(audited.runs)} result{'s' if len(audited.runs) > 1 else ''}"
    lead = f"{results} on the {len(audited.rows)} {split} images of {dataset}."
    with context.writing(out):
        title = f"segpipe audit: {dataset}"
        files.write_text(out / "audit.csv", csv_text(HEADER, page.rows(parts)))
        if listed:
            files.write_text(out / "label_suspects.csv", listed)
        files.write_text(out / "audit.html", document(title, page.body(title, lead, parts)))
    if as_json:
        print(json.dumps({"path": str(out / "audit.html"), "cases": found}))
        return
    for heading, number in found.items():
        print(f"{heading}: {number} shown")
    print(f"audit: {out / 'audit.html'}, the same cases in {out / 'audit.csv'}")
