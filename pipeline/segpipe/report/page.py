"""The report: one HTML page that needs nothing else, readable on a phone and on paper, in light and dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from segpipe.report.html import Piece, document, raised, render


@dataclass(frozen=True)
class Answer:
    """What the first screen says: what to take, why and with which limits, as (heading, sentence)."""

    question: str
    take: str
    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    pieces: Sequence[Piece]


def build(title: str, lead: str, answer: Answer, warnings: Sequence[str], sections: Sequence[Section]) -> str:
    """The page as text; sections without pieces are left out. lead: what the data are, and how they are scored."""
    shown = [section for section in sections if section.pieces]
    links = "".join(f"<a href='#{_anchor(s.heading)}'>{escape(s.heading)}</a>" for s in shown)
    lines = "".join(f"<dt>{raised(heading)}</dt><dd>{raised(text)}</dd>" for heading, text in answer.lines)
    parts = [
        f"<h1>{escape(title)}</h1><p class='small'>{raised(lead)}</p>",
        *(f"<p class='warning' role='note'>{raised(text)}</p>" for text in warnings),
        f"<section class='answer' aria-label='recommendation'><h2>{raised(answer.question)}</h2>"
        f"<p class='take'>{raised(answer.take)}</p><dl>{lines}</dl></section>",
        f"<nav aria-label='sections'>{links}</nav>",
    ]
    parts += [
        f"<section id='{_anchor(s.heading)}'><h2>{raised(s.heading)}</h2>{''.join(map(render, s.pieces))}</section>"
        for s in shown
    ]
    return document(title, "\n".join(parts))


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z]+", "-", heading.lower()).strip("-")
