"""Pieces of a page as HTML: paragraphs, tables, figures, pictures, sliders, folded parts."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from segpipe.report.style import SCRIPT, STYLE
from segpipe.report.tables import Table

# Nothing is loaded from anywhere, whatever the page holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_WORDS = 36  # characters from which a cell of a table may break into lines
_NUMBER = re.compile(r"[*+\-−]*\d")


@dataclass(frozen=True)
class Figure:
    """An SVG and what it shows."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Slider:
    """Two JPEGs of one size, the second over the first from the slider on; `ends` name them."""

    first: bytes
    second: bytes
    ends: tuple[str, str]
    caption: str


@dataclass(frozen=True)
class Group:
    """Pieces beside each other, of a class in the style: "pictures" or "sliders"."""

    kind: str
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Fold:
    """Pieces behind a line that opens them."""

    summary: str
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str


@dataclass(frozen=True)
class Legend:
    """Class names beside their colours; void is black."""

    classes: Sequence[str]
    palette: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Heading:
    """Of a part inside a section."""

    text: str


# A piece that is text is a paragraph.
Piece = str | Table | Heading | Figure | Picture | Slider | Group | Fold | Code | Legend


def render(piece: Piece) -> str:
    """A piece as HTML."""
    match piece:
        case Figure(svg, caption):
            label = escape(caption.split(". ")[0].split(": ")[0])
            shown = _inked(svg).replace("<svg ", f"<svg role='img' aria-label='{label}' ", 1)
            plot = f"<div class='plot'>{shown}</div>"
            return f"<figure>{plot}<figcaption>{raised(caption)}</figcaption></figure>"
        case Picture(png, caption):
            source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
            text = escape(caption)
            return f"<figure><img alt='{text}' src='{source}'><figcaption>{text}</figcaption></figure>"
        case Slider():
            return _slider(piece)
        case Group(kind, pieces):
            return f"<div class='{kind}'>{''.join(map(render, pieces))}</div>"
        case Fold(summary, pieces):
            return f"<details><summary>{raised(summary)}</summary>{''.join(map(render, pieces))}</details>"
        case Code(text):
            return f"<pre tabindex='0'><code>{escape(text)}</code></pre>"
        case Legend(classes, palette):
            spans = "".join(
                f"<span><i style='background:rgb({','.join(map(str, color))})'></i>{escape(name)}</span>"
                for name, color in zip((*classes, "void"), (*palette, (0, 0, 0)), strict=True)
            )
            return f"<p class='legend'>{spans}</p>"
        case Table():
            return _table(piece)
        case Heading(text):
            return f"<h3>{raised(text)}</h3>"
    return f"<p class='small'>{raised(piece)}</p>"


def document(title: str, body: str) -> str:
    """A whole HTML page with segpipe's style and script inside."""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><link rel='icon' href='data:,'><style>{STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main><script>{SCRIPT}</script></body></html>\n"
    )


def raised(text: str) -> str:
    """Escaped text with the averaging of a score, as in mIoU^D, as a superscript, **words** in bold, `code`.

    >>> raised("**mIoU^D** < `1`")
    '<b>mIoU<sup>D</sup></b> &lt; <code>1</code>'
    """
    marked = re.sub(r"\^([DIC])\b", r"<sup>\1</sup>", escape(text))
    marked = re.sub(r"`(.+?)`", r"<code>\1</code>", marked)
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", marked)


def _table(table: Table) -> str:
    """Columns that hold no numbers are set left."""
    head, body = table.header, table.rows
    left = [not any(_NUMBER.match(row[k]) for row in body) for k in range(len(head))]
    tops = "".join(f"<th scope='col'{_class(head[k], left[k])}>{raised(head[k])}</th>" for k in range(len(head)))
    lines = "".join(
        f"<tr>{''.join(f'<td{_class(cell, left[k])}>{raised(cell)}</td>' for k, cell in enumerate(row))}</tr>"
        for row in body
    )
    return f"<div class='scroll'><table><thead><tr>{tops}</tr></thead><tbody>{lines}</tbody></table></div>"


def _class(cell: str, left: bool) -> str:
    names = [name for name, holds in (("left", left), ("words", len(cell) >= _WORDS)) if holds]
    return f" class='{' '.join(names)}'" if names else ""


def _slider(piece: Slider) -> str:
    images = "".join(
        f"<img alt='{escape(end)}: {escape(piece.caption)}' "
        f"src='data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}'>"
        for end, jpeg in zip(piece.ends, (piece.first, piece.second), strict=True)
    )
    ends = "".join(f"<span>{escape(end)}</span>" for end in piece.ends)
    name = piece.caption.split(":")[0]
    label = escape(f"{name}: {piece.ends[0]} left of the line, {piece.ends[1]} right of it")
    return (
        f"<figure><div class='pair'>{images}</div>"
        f"<input type='range' min='0' max='100' value='50' aria-label='{label}'><div class='ends'>{ends}</div>"
        f"<figcaption>{raised(piece.caption)}</figcaption></figure>"
    )


def _inked(svg: str) -> str:
    """An SVG of matplotlib for a light or dark page: black is the page's ink, white its ground; no id that none uses.

    Ids of two figures on one page would clash; those that are used hold a hash of what they name.
    """
    used = set(re.findall(r"#([\w.-]+)\)|href=\"#([\w.-]+)\"", svg))
    names = {name for pair in used for name in pair if name}
    svg = re.sub(r" id=\"([^\"]+)\"", lambda found: found[0] if found[1] in names else "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"fill: #ffffff\b(?=\"|; opacity)", "fill: none", svg)
    return svg.replace("#000000", "currentColor")
