"""Choose CRF parameters on a few images; leaving the prediction as it is competes too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.crf.dense import DenseCRF

WIDTHS = ("pos_xy_std", "bi_xy_std", "bi_rgb_std")  # a change of these rebuilds the kernels
WEIGHTS = ("pos_w", "bi_w")


@dataclass(frozen=True)
class Choice:
    """The winner: its parameters (None: no CRF), its score, the score without CRF, all candidates."""

    parameters: dict[str, float] | None
    score: float
    score_without: float
    candidates: list[dict[str, float]]


def tune(
    images: Sequence[NDArray[np.uint8]],
    probs: Sequence[NDArray[Any]],
    grid: Mapping[str, Sequence[float]],
    score: Callable[[list[NDArray[np.uint8]]], float],
    *,
    iterations: int,
    tick: Callable[[], object] = lambda: None,
) -> Choice:
    """Try every point of `grid` (lists for the two weights and three widths).

    `score` maps the label maps of all images to one number, larger is better. A tie goes to no
    CRF, then to the earlier point. One kernel is built for each image and set of widths.
    """
    without = score([p.argmax(0).astype(np.uint8) for p in probs])
    best: tuple[float, dict[str, float] | None] = (without, None)
    candidates = []
    for widths in _points(grid, WIDTHS):
        kernels = [DenseCRF(image, **widths) for image in images]
        for weights in _points(grid, WEIGHTS):
            refined = [
                kernel.infer(p, iterations=iterations, **weights).argmax(0).astype(np.uint8)
                for kernel, p in zip(kernels, probs, strict=True)
            ]
            point = {**weights, **widths}
            reached = score(refined)
            candidates.append({**point, "score": reached})
            if reached > best[0]:
                best = (reached, point)
            tick()
    return Choice(best[1], best[0], without, candidates)


def grid_size(grid: Mapping[str, Sequence[float]]) -> int:
    """Number of points."""
    return sum(1 for _ in product(*(grid[name] for name in WIDTHS + WEIGHTS)))


def _points(grid: Mapping[str, Sequence[float]], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for values in product(*(grid[name] for name in names)):
        yield dict(zip(names, values, strict=True))
