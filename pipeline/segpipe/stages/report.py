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
    tables, counts = report.tables(), {split: len(rows) for split, rows in report.index.splits.items()}
    # Warnings come last: what the sections did without is among them.
    html = page.build(report.index.dataset, counts, report.answer(), report.warnings(), sections)
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
