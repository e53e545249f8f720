"""Polygons and run lengths as masks of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def polygon(rings: Sequence[ArrayLike], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside the rings, holes left out (even-odd rule).

    Args:
        rings: points (N, 2) as x, y in pixels, where (0, 0) is the upper left corner of the first pixel; closed by
            themselves. A ring inside another is a hole.
        shape: height and width.

    Each edge toggles, in every row whose centre it spans, the first pixel that lies to the right of it; inside is
    where the number of toggles up to a pixel is odd. OpenCV's fillPoly would add the border's pixels as well.
    """
    height, width = shape
    toggles = np.zeros((height, width + 1), np.int32)
    for ring in rings:
        points = np.asarray(ring, np.float64).reshape(-1, 2)
        ends = np.roll(points, -1, 0)
        low, high = np.minimum(points[:, 1], ends[:, 1]), np.maximum(points[:, 1], ends[:, 1])
        # Rows whose centre y + 0.5 is in [low, high): half open, so that a corner counts once.
        first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
        last = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64)
        number = last - first
        edge = np.repeat(np.arange(len(points)), number)
        rows = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number) + first[edge]
        (x, y), (x_end, y_end) = points[edge].T, ends[edge].T
        crossing = x + (rows + 0.5 - y) / (y_end - y) * (x_end - x)
        columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
        np.add.at(toggles, (rows, columns), 1)
    return np.asarray(np.cumsum(toggles[:, :width], 1) % 2 == 1)


def runs(counts: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """COCO's run lengths, column by column, outside first.

    Raises:
        ValueError: the runs do not fill the image.
    """
    height, width = shape
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ValueError(f"runs of {sum(counts)} pixels for an image of {height} x {width}")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return values.reshape(width, height).T


def packed_runs(text: str) -> list[int]:
    """The run lengths in COCO's compressed text: 6 bits a sign, 5 of them a number's; from the fourth on differences
    to the run two before.

    Raises:
        ValueError: a sign that is none of these.
    """
    found: list[int] = []
    value = shift = 0
    for sign in text:
        bits = ord(sign) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"run lengths with the sign {sign!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value = shift = 0
    return found


def circle(centre: Sequence[float], edge: Sequence[float], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres are nearer to `centre` (x, y) than `edge` is."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    radius2 = (edge[0] - centre[0]) ** 2 + (edge[1] - centre[1]) ** 2
    return np.asarray((x + 0.5 - centre[0]) ** 2 + (y + 0.5 - centre[1]) ** 2 < radius2)
