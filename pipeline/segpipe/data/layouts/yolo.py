"""The layout of YOLO's segmentation: a text file of polygons for each image, in shares of its width and height."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.registry import register
from segpipe.data import fill
from segpipe.data.card import Card
from segpipe.data.layouts.drawn import Area, drawn_masks, shape_files
from segpipe.data.layouts.found import Found
from segpipe.data.layouts.templates import text_of

_OUTSIDE = 0.5  # of a side, by which a point may lie beyond the image


@register("yolo", source="Ultralytics' text files: class x y x y ..., a line for each object")
def yolo(card: Card, source: Path) -> Found:
    """Images with a text file of polygons each, at `masks`; a missing or empty file means that nothing is shown.

    A class of the files, from 0, is the card's class after the first, which is what no polygon covers. Smaller
    polygons lie above larger ones.
    """
    shapes = shape_files(card, source, "*.txt")
    if not any(path.is_file() for path in shapes.of_image.values()):
        first = next(iter(shapes.of_image.values()))
        raise DataError(f"{first} and the polygons of all other images are missing; correct the card's masks")

    def areas(at: str) -> tuple[list[Area], None]:
        return _areas(shapes.of_image[at], card), None

    return drawn_masks(shapes.samples, card, source, shapes.root, areas, shapes.left_out)


def _areas(path: Path, card: Card) -> list[Area]:
    """The polygons of a file, the largest first."""
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(text_of(path, card).splitlines(), 1):
        if line.strip():
            kind, points = read_line(line, f"{path}:{number}")
            if kind + 1 >= card.num_classes:
                raise DataError(
                    f"{path}:{number} is of class {kind}, but the card has {card.num_classes - 1} and the first; add it"
                )
            x, y = points.T
            size = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
            found.append((-size, Area(card.classes[kind + 1], partial(_draw, points))))
    return [area for _, area in sorted(found, key=lambda pair: pair[0])]


def read_line(line: str, where: str) -> tuple[int, NDArray[np.float64]]:
    """The class of an object and its points (N, 2), in shares of width and height.

    Raises:
        DataError: it is a box, or no such line.
    """
    parts = line.split()
    try:
        kind, values = int(parts[0]), np.array([float(part) for part in parts[1:]])
    except (ValueError, OverflowError):
        raise DataError(f"{where} is no line 'class x y x y ...'; correct it") from None
    if len(values) == 4:
        raise DataError(f"{where} is a box, not a polygon; export segmentation, not detection")
    if kind < 0 or len(values) < 6 or len(values) % 2:
        raise DataError(
            f"{where} has class {kind} and {len(values)} numbers, wanted pairs x y of at least three points"
        )
    if not (np.isfinite(values).all() and (values >= -_OUTSIDE).all() and (values <= 1 + _OUTSIDE).all()):
        raise DataError(f"{where} holds points outside 0..1; wanted shares of the image's width and height")
    return kind, values.reshape(-1, 2)


def _draw(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    return fill.polygon([points * (shape[1], shape[0])], shape)
