"""Command check: everything that is wrong with the dataset, as a table, a JSON and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segpipe.cli import options
from segpipe.cli.source import Source, opened

if TYPE_CHECKING:
    from segpipe.config.context import Context
    from segpipe.data.catalog import Card, Sample
    from segpipe.data.check import Checked, Finding

_SHOWN = 3  # findings of a kind that the table names


def check(
    source: Source = None,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("runs/check"),
    pictures: Annotated[int, typer.Option(help="Images with findings to draw.", min=0)] = 8,
    jobs: options.Jobs = None,
    settings: options.Set = None,
    as_json: options.Json = False,
) -> None:
    """Check every image and mask; exit 3 if an error would corrupt training or scores."""
    from segpipe.config.context import start
    from segpipe.core import files
    from segpipe.data import catalog
    from segpipe.data import check as checks

    context = start(overrides=settings, jobs=jobs, quiet=as_json)
    card = catalog.card(context.params.download.dataset)
    with opened(context, card, source) as data:
        whole = [sample for sample in data.samples if sample.id not in data.broken]
        findings = [checks.of_error("bad label", error) for error in data.broken.values()]
        findings += _check(data.root, whole, card, context, out, pictures)
    # Stage prepare only warns of these, since some published splits have them.
    findings = [replace(f, severity="error") if f.kind == checks.NEARLY_SAME else f for f in findings]
    report: dict[str, Any] = {"dataset": card.name, "folder": data.shown, "images": len(data.samples)}
    report |= checks.report(findings, data.left_out)
    files.write_json(out / "check.json", report)
    if as_json:
        print(json.dumps(report))
    else:
        for line in [*table(findings), *of_left_out(data.left_out)]:
            print(line)
        errors, warnings = len(report["errors"]), len(report["warnings"])
        print(f"{data.shown}: {len(data.samples)} images, {errors} errors, {warnings} warnings; {out}/check.json")
    checks.refuse(findings)


def _check(
    root: Path, samples: Sequence[Sample], card: Card, context: Context, out: Path, pictures: int
) -> list[Finding]:
    """All findings; the first images that have some are drawn."""
    import shutil

    from tqdm import tqdm

    from segpipe.data import check as checks

    shutil.rmtree(out / "pictures", ignore_errors=True)
    checked: list[Checked] = []
    drawn = 0
    items = ((root, sample, card, context.params.prepare.labels) for sample in samples)
    done = context.pool().map(checks.check_image, items)
    for one in tqdm(done, "check", len(samples), unit="image", disable=None):
        if one.findings and drawn < pictures:
            drawn += _draw(out / "pictures", one, card.palette)
        checked.append(replace(one, image=None, labels=None, annotators=()))
    return [finding for one in checked for finding in one.findings] + checks.together(checked, card)


def of_left_out(left_out: dict[str, str]) -> list[str]:
    """The files that are part of no sample, by reason, a few of each."""
    lines = []
    for reason in dict.fromkeys(left_out.values()):
        paths = [path for path, why in left_out.items() if why == reason]
        more = f", ... and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        lines.append(f"left out: {reason} ({len(paths)})")
        lines.append(f"  {', '.join(paths[:_SHOWN])}{more}")
    return lines


def table(findings: list[Finding]) -> list[str]:
    """The findings by kind, errors first, a few of each."""
    lines = []
    kinds = list(dict.fromkeys((f.severity, f.kind) for f in sorted(findings, key=lambda f: f.severity)))
    for severity, kind in kinds:
        found = [f for f in findings if (f.severity, f.kind) == (severity, kind)]
        lines.append(f"{severity}: {kind} ({len(found)})")
        lines += [f"  {f.what}" for f in found[:_SHOWN]]
        lines += [f"  ... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        lines.append(f"  -> {found[0].fix}")
    return lines


def _draw(folder: Path, checked: Checked, palette: list[list[int]]) -> int:
    """The image, and its labels over it, where both can be read; how many pictures that is."""
    import numpy as np

    from segpipe.core.files import write_bytes
    from segpipe.data.files import png_bytes
    from segpipe.report.pictures import blend

    if checked.image is None:
        return 0
    parts = [checked.image] + ([blend(checked.image, checked.labels, palette)] if checked.labels is not None else [])
    write_bytes(folder / f"{checked.sample.id}.png", png_bytes(np.concatenate(parts, 1)))
    return 1
