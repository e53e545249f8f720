"""Stage report: the listed results as one HTML page and as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.config.context import Context
from segpipe.core import files, outputs
from segpipe.report import page
from segpipe.report.builder import ReportBuilder


def run(context: Context, out: Path | None = None, *, partial: bool = False) -> dict[str, Any]:
    """Read the results that params.yaml lists, nothing else that lies around; write page and tables.

    out: instead of results/. partial: of what is there; the page names what is missing.
    """
    out = out or context.path("report")
    report = ReportBuilder(context, partial=partial)
    sections = report.sections()
    tables = report.tables()
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in report.index.splits.items())
    lead = f"{counts} images; every score is taken on test at the images' original resolution, void left out."
    # Warnings come last: what the sections did without is among them.
    title = f"segpipe report: {report.index.dataset}"
    html = page.build(title, lead, report.answer(), report.warnings(), sections)
    for name, text in tables.items():
        files.write_text(out / "tables" / name, text)
    for old in (out / "tables").iterdir():
        if old.name not in tables:
            old.unlink()
    files.write_text(out / "report.html", html)
    sums = {name: outputs.digest(text.encode()) for name, text in {**tables, "../report.html": html}.items()}
    seal = outputs.sealed({**context.describe("report"), "files": sums})
    files.write_json(out / "tables" / outputs.MARKER, seal)
    return {"path": str(out / "report.html"), "summary": report.summary(), "left_out": list(report.missing)}
