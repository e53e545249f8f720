"""Choose the numbers of a refiner on a few images, coarse to fine; leaving the prediction as it is competes too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

FIRST_STEP, LAST_STEP = 2.0, 1.15  # factors by which the fine search moves one parameter

Point = dict[str, float]


@dataclass(frozen=True)
class Choice:
    """The winner: its numbers (None: no refiner), its score, the score without, all candidates in order."""

    parameters: Point | None
    score: float
    score_without: float
    candidates: list[dict[str, float]]


def tune(
    evaluate: Callable[[list[Point]], Sequence[float]],
    grid: Mapping[str, Sequence[float]],
    score_without: float,
    *,
    points: int,
) -> Choice:
    """Try every point of the grid, then move from the best, one number at a time by smaller and smaller factors.

    `evaluate` scores points, larger is better; at most `points` in all. A number with a single
    value in the grid stays at it. A tie goes to no refiner, then to the earlier point.

    Raises:
        ValueError: the grid alone has more than `points` points.
    """
    wanted = list(_grid(grid))
    if len(wanted) > points:
        raise ValueError(f"the grid has {len(wanted)} points, the budget is {points}; raise it or shorten the grid")
    free = [name for name in grid if len(grid[name]) > 1]
    tried: list[tuple[Point, float]] = []
    best: tuple[Point | None, float] = (None, -math.inf)
    step = FIRST_STEP
    while wanted:
        scored = list(zip(wanted, evaluate(wanted), strict=True))
        tried += scored
        leader = max(scored, key=lambda pair: pair[1])
        if leader[1] > best[1]:
            best = leader
        else:
            step = math.sqrt(step)
        wanted = []
        while best[0] is not None and not wanted and step >= LAST_STEP and len(tried) < points:
            known = [point for point, _ in tried]
            wanted = [point for point in _around(best[0], free, step) if point not in known][: points - len(tried)]
            step = step if wanted else math.sqrt(step)
    parameters, reached = best if best[1] > score_without else (None, score_without)
    return Choice(parameters, reached, score_without, [{**point, "score": score} for point, score in tried])


def _grid(grid: Mapping[str, Sequence[float]]) -> Iterator[Point]:
    for values in product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _around(point: Point, free: Sequence[str], step: float) -> Iterator[Point]:
    """One parameter changed by a factor; numbers of four digits, which is finer than any data tells."""
    for name in free:
        for factor in (step, 1 / step):
            if point[name]:
                yield {**point, name: float(f"{point[name] * factor:.4g}")}
