"""The report: one HTML page that needs nothing else, readable on a phone and on paper, in light and dark."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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


def build(
    dataset: str, images: Mapping[str, int], answer: Answer, warnings: Sequence[str], sections: Sequence[Section]
) -> str:
    """The page as text. `images` are numbers by split; sections without pieces are left out."""
    counts = ", ".join(f"{number} {split}" for split, number in images.items())
    shown = [section for section in sections if section.pieces]
    links = "".join(f"<a href='#{_anchor(s.heading)}'>{escape(s.heading)}</a>" for s in shown)
    lines = "".join(f"<dt>{raised(heading)}</dt><dd>{raised(text)}</dd>" for heading, text in answer.lines)
    parts = [
        f"<h1>segpipe report: {escape(dataset)}</h1><p class='small'>{counts} images; every score is taken on "
        "<b>test</b> at the images' original resolution, void left out.</p>",
        *(f"<p class='warning' role='note'>{raised(text)}</p>" for text in warnings),
        f"<section class='answer' aria-label='recommendation'><h2>{raised(answer.question)}</h2>"
        f"<p class='take'>{raised(answer.take)}</p><dl>{lines}</dl></section>",
        f"<nav aria-label='sections'>{links}</nav>",
    ]
    parts += [
        f"<section id='{_anchor(s.heading)}'><h2>{raised(s.heading)}</h2>{''.join(map(render, s.pieces))}</section>"
        for s in shown
    ]
    return document(f"segpipe report: {dataset}", "\n".join(parts))


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z]+", "-", heading.lower()).strip("-")
