"""The audit page: where runs fail, whether the model or the label is to blame, and what to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.report.html import Picture, Piece, render
from segpipe.report.pictures import colorize
from segpipe.report.tables import Table

Floats = NDArray[np.float64]
_WRONG = np.array([230, 25, 75])


@dataclass(frozen=True)
class Case:
    """One line of the audit: a place to look at, with its picture (PNG) where there is one."""

    kind: str  # "image", "pair", "common failure", "label suspect" or "near-duplicate"
    what: str
    image: str
    value: float
    note: str
    picture: bytes = b""


@dataclass(frozen=True)
class Part:
    """A heading, a sentence on how to read it, its cases, and a table or nothing."""

    heading: str
    text: str
    cases: Sequence[Case]
    table: Table | None = None


def lowest(values: Floats, number: int, sizes: NDArray[Any] | None = None) -> list[tuple[int, ...]]:
    """Positions of the lowest defined values; on ties the largest of `sizes`, then the first."""
    flat = values.ravel()
    order = np.lexsort((np.zeros(flat.size) if sizes is None else -sizes.ravel(), flat))  # NaN comes last
    chosen = [int(i) for i in order[:number] if not np.isnan(flat[i])]
    return [tuple(int(k) for k in np.unravel_index(i, values.shape)) for i in chosen]


def panels(
    image: NDArray[np.uint8],
    target: NDArray[Any],
    predicted: NDArray[Any],
    palette: Sequence[Sequence[int]],
    box: tuple[int, int, int, int] | None = None,
) -> NDArray[np.uint8]:
    """Image, label, prediction and errors (red over the dimmed image) side by side; a white frame around `box`."""
    wrong = (predicted != target) & (target != 255)
    errors = (image * 0.45 + 60).astype(np.uint8)
    errors[wrong] = _WRONG
    row = [np.array(part) for part in (image, colorize(target, palette), colorize(predicted, palette), errors)]
    if box is not None:
        for part in row:
            _frame(part, box)
    gap = np.full((len(image), 4, 3), 255, np.uint8)
    joined: NDArray[np.uint8] = np.concatenate([piece for part in row for piece in (part, gap)][:-1], 1)
    return joined


def _frame(picture: NDArray[np.uint8], box: tuple[int, int, int, int]) -> None:
    """Two lines, white in black, one pixel outside of the box."""
    for distance, color in ((2, 255), (3, 0)):
        top, left = (max(0, edge - distance) for edge in box[:2])
        bottom, right = (
            min(size - 1, edge + distance - 1) for edge, size in zip(box[2:], picture.shape[:2], strict=True)
        )
        picture[top, left : right + 1] = picture[bottom, left : right + 1] = color
        picture[top : bottom + 1, left] = picture[top : bottom + 1, right] = color


def body(title: str, lead: str, parts: Sequence[Part]) -> str:
    """The page's HTML body."""
    sections = "\n".join(f"<h2>{escape(part.heading)}</h2>{''.join(map(render, pieces(part)))}" for part in parts)
    return f"<h1>{escape(title)}</h1><p class='lead'>{escape(lead)}</p>\n{sections}"


def pieces(part: Part) -> list[Piece]:
    """The pieces of a page that tell a part."""
    found: list[Piece] = [part.text, *([part.table] if part.table else [])]
    for case in part.cases:
        caption = f"{case.what}: {case.image}, {case.note}"
        found.append(Picture(case.picture, caption) if case.picture else caption)
    return found


def rows(parts: Sequence[Part]) -> list[list[Any]]:
    """Lines of audit.csv."""
    return [[case.kind, case.what, case.image, f"{case.value:.6f}", case.note] for part in parts for case in part.cases]
