"""The report: one HTML page without scripts or network, readable on a phone, in light and dark."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape

from segpipe.metrics.comparison import lower_is_better
from segpipe.reporting.results import COLUMNS, Entry, format_cell, ranked, spreads

_NOTE = (
    "Mean ± standard deviation over seeds; the best of each column is bold. mIoU^D pools the pixels of all images, "
    "mIoU^I averages over images, mIoU^C over the images of each class, then classes; a class absent from an image's "
    "label is left out there. ECE and NLL: smaller is better. Votes have no probabilities, so no calibration."
)
_STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.lead { font-size: 1.1rem; background: var(--soft); border-left: 4px solid #0072b2; padding: .6rem 1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } td.best { font-weight: 700; }
sup { line-height: 0; }
figure { margin: 1rem 0; }
figure svg, figure img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
figure img { image-rendering: pixelated; } figcaption, .small { font-size: .875rem; opacity: .8; }
.legend span { display: inline-block; margin-right: 1rem; }
.legend i { display: inline-block; width: .9em; height: .9em;
margin-right: .35em; border-radius: 2px; vertical-align: -1px; } code { background: var(--soft); padding: .1em .3em; }
.pictures { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.pictures figure { margin: 0; } .pictures img { width: 100%; }
"""


def build(
    entries: Sequence[Entry],
    metric: str,
    *,
    dataset: str,
    images: Mapping[str, int],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    figures: Sequence[tuple[str, str]],
    pictures: Sequence[tuple[str, Sequence[tuple[str, bytes]]]],
    sections: Sequence[tuple[str, Sequence[str]]] = (),
    tie: str = "",
) -> str:
    """The page as text. `figures` are (caption, svg); `pictures` are (image id, [(title, png)]); `sections`
    are (heading, parts), a part being a Markdown table, an SVG or a paragraph; `tie` ends the lead.
    """
    counts = ", ".join(f"{number} {split}" for split, number in images.items())
    parts = [
        f"<h1>segpipe report: {escape(dataset)}</h1><p class='small'>{counts} images; every score is taken on "
        "<b>test</b> at the images' original resolution, void left out.</p>",
        f"<p class='lead'>{_raised(f'{summary(entries, metric)} {tie}')}</p>",
        f"<h2>Scores</h2>{_table(entries, metric)}<p class='small'>{_raised(_NOTE)}</p>",
    ]
    parts += [f"<figure>{svg}<figcaption>{_raised(caption)}</figcaption></figure>" for caption, svg in figures]
    for heading, items in sections:
        parts.append(f"<h2>{escape(heading)}</h2>" + "".join(map(part, items)))
    parts.append(f"<h2>Pictures</h2>{_legend(classes, palette)}")
    for name, row in pictures:
        cells = "".join(
            f"<figure><img alt='{escape(title)} of {escape(name)}' src='data:image/png;base64,"
            f"{base64.b64encode(png).decode()}'><figcaption>{escape(title)}</figcaption></figure>"
            for title, png in row
        )
        parts.append(f"<h3 class='small'>{escape(name)}</h3><div class='pictures'>{cells}</div>")
    parts.append(
        "<h2>Reproduce</h2><p><code>dvc repro</code> makes this page again; <code>segpipe verify</code> "
        "compares every number with the committed ones.</p>"
    )
    return document(f"segpipe report: {dataset}", "\n".join(parts))


def document(title: str, body: str) -> str:
    """A whole HTML page with segpipe's style."""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def summary(entries: Sequence[Entry], metric: str) -> str:
    """The finding in words: the best run, beside the noise between seeds."""
    name = COLUMNS.get(metric, metric)
    runs = ranked([e for e in entries if e.kind == "run"], metric)
    best, mean = runs[0], runs[0].mean(metric)
    if mean is None:
        return f"No run defines {name} on test."
    between, within = spreads(entries, metric)
    text = f"Highest {name} on test: {best.name} ({best.loss}) with {mean:.4f}."
    if lower_is_better(metric):
        text = text.replace("Highest", "Lowest")
    if between is not None and within is not None:
        text += (
            f" The runs differ by {between:.4f} (standard deviation of their means), seeds of one run by {within:.4f}."
        )
        if between < 2 * within:
            text += " That is too close to tell the runs apart: train more seeds before choosing."
    elif within is None:
        text += " With one seed nothing can be said about the noise of training: add seeds before choosing."
    return text


def part(text: str) -> str:
    """A Markdown table, an SVG or a paragraph as HTML."""
    if text.startswith("<svg"):
        return f"<figure>{text}</figure>"
    if not text.startswith("| "):
        return f"<p class='small'>{_raised(text)}</p>"
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.strip().splitlines()]
    head = "".join(f"<th scope='col'>{_raised(cell)}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{_raised(cell)}</td>' for cell in row)}</tr>" for row in rows[2:])
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _raised(text: str) -> str:
    """Escaped text with the averaging of a score, as in mIoU^D, as a superscript."""
    return re.sub(r"\^([DIC])\b", r"<sup>\1</sup>", escape(text))


def _table(entries: Sequence[Entry], metric: str) -> str:
    rows = ranked(entries, metric)
    best = {}
    for column in COLUMNS:
        order = [e for e in ranked(entries, column) if e.mean(column) is not None]
        best[column] = order[0] if order else None
    head = "".join(f"<th scope='col'>{_raised(title)}</th>" for title in COLUMNS.values())
    lines = []
    for item in rows:
        cells = "".join(
            f"<td{' class=best' if best[column] is item else ''}>{escape(format_cell(item, column))}</td>"
            for column in COLUMNS
        )
        lines.append(f"<tr><td title='{escape(item.loss)}'>{escape(item.name)}</td>{cells}</tr>")
    return (
        f"<div class='scroll'><table><thead><tr><th scope='col'>what</th>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _legend(classes: Sequence[str], palette: Sequence[Sequence[int]]) -> str:
    spans = "".join(
        f"<span><i style='background:rgb({','.join(map(str, color))})'></i>{escape(name)}</span>"
        for name, color in zip((*classes, "void"), (*palette, (0, 0, 0)), strict=True)
    )
    return f"<p class='legend'>{spans}</p>"
