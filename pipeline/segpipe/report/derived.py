"""Do the tables and the page follow from what is stored of each image? The same answer on any processor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from segpipe.config.context import start
from segpipe.core import files, outputs
from segpipe.core.errors import SegpipeError
from segpipe.report.builder import SAME, ReportBuilder

TABLES = Path("results/tables")


def differences(workspace: Path) -> list[str]:
    """What in `workspace`/results does not follow from the counts there, in words; params.yaml lies beside it."""
    with chdir(workspace):
        try:
            return [*_of_scores(), *_of_tables()]
        except SegpipeError as error:
            return [str(error)]


def _of_scores() -> Iterator[str]:
    """Scores that metrics.json says and counts, bins and images do not give."""
    builder = ReportBuilder(start())
    for entry in builder.entries:
        for metric, again in builder.judged.scores[entry.name].items():
            mean = entry.mean(metric)
            if mean is not None and again is not None and abs(mean - again) > SAME:
                yield f"{entry.folders[0].parent}: {entry.name} has {metric} {mean:.6f}, its tables give {again:.6f}"
        for folder, metrics in zip(entry.folders, entry.metrics, strict=True):
            for split, scores in files.read_json(folder / "headline.json").items():
                wrong = [name for name, value in scores.items() if metrics[split].get(name) != value]
                if wrong:
                    yield f"{folder / 'headline.json'}: {split} {wrong[0]} is not that of metrics.json"
    for name, text in builder.tables().items():
        path = TABLES / name
        if not path.is_file():
            yield f"{path} is missing"
        elif path.read_text(encoding="utf-8") != text:
            yield f"{path} does not follow from the results beside it"


def _of_tables() -> Iterator[str]:
    """Files that the report did not write so."""
    marker = outputs.description(TABLES)
    if marker is None:
        yield f"{TABLES / outputs.MARKER} is missing"
        return
    for name, wanted in marker["files"].items():
        path = TABLES / name
        if not path.is_file() or outputs.digest_file(path) != wanted:
            yield f"{os.path.normpath(path)} is not what the report wrote"
    extra = {path.name for path in TABLES.iterdir()} - marker["files"].keys() - {outputs.MARKER}
    yield from (f"{TABLES / name} is not one of the report's tables" for name in sorted(extra))
