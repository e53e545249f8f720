"""Connected pieces of a class: too small ones and holes go to the next best class, where val gains by it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.argmax import label_and_confidence
from segpipe.core.opencv import cv2
from segpipe.core.registry import register
from segpipe.metrics.counts import Counts, count
from segpipe.refine.base import Rule
from segpipe.refine.evidence import Evidence, each
from segpipe.refine.weighting import score_of

LARGEST = -1  # stands for: keep the largest piece alone
SIZES = (0, LARGEST, 1e-5, 1e-4, 1e-3)  # shares of the image


@register("components", source="nnU-Net, Isensee et al. 2021: kept for a class only where val gains", last=True)
class Components(Rule):
    """For each class, pieces below a share of the image are removed, or all but the largest; holes are filled or not.

    A removed pixel goes to its most probable other class, a hole to the class around it.
    """

    def __init__(self, *, least: Sequence[float] | None = None, filled: Sequence[int] | None = None) -> None:
        self.least = None if least is None else [float(share) for share in least]
        self.filled = None if filled is None else [int(hole) for hole in filled]

    def learn(self, evidence: Evidence, metric: str) -> None:
        """For one class after the other the choice of the highest score; a tie leaves the class as it is."""
        first = evidence[0]
        classes = len(first.probs)
        self.least, self.filled = [0.0] * classes, [0] * classes
        choices = [(float(size), hole) for hole, size in product((0, 1), SIZES)]
        for k in range(classes):
            tables: list[list[Counts]] = [[] for _ in choices]
            for shown in each(evidence):
                labels = label_and_confidence(shown.probs)[0]
                for table, (size, hole) in zip(tables, choices, strict=True):
                    self.least[k], self.filled[k] = size, hole
                    table.append(count(self.settle(shown.probs, labels)[None], shown.target[None], classes))
            scores = [score_of(Counts.concat(table), metric) for table in tables]
            self.least[k], self.filled[k] = choices[int(np.argmax(scores))]

    def apply(self, image: NDArray[np.uint8], probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """As they are: pieces are of labels."""
        del image
        return np.asarray(probs, np.float32)

    def settle(self, probs: NDArray[np.floating], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The labels without the pieces.

        Raises:
            ValueError: it was not fitted, or for another number of classes.
        """
        if self.least is None or self.filled is None:
            raise ValueError("the rule was not fitted; give it val images first")
        if len(self.least) != len(probs):
            raise ValueError(f"the rule knows {len(self.least)} classes, the prediction has {len(probs)}; fit it anew")
        found = labels
        for k, (least, filled) in enumerate(zip(self.least, self.filled, strict=True)):
            if least and (gone := _small(found, k, least)).any():
                found = np.where(gone, _second(probs, k), found).astype(np.uint8)
            if filled:
                found = np.where(_holes(found, k), np.uint8(k), found)
        return found

    def describe(self) -> dict[str, Any]:
        """The shares and holes of each class."""
        return {"least": self.least, "filled": self.filled}


def _small(labels: NDArray[np.uint8], k: int, least: float) -> NDArray[np.bool_]:
    """Pixels of class k in pieces below the share, or in all but the largest."""
    number, pieces, stats, _ = cv2.connectedComponentsWithStats((labels == k).astype(np.uint8), connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA].copy()
    sizes[0] = 0
    if number <= 1:
        return np.zeros(labels.shape, bool)
    largest = int(sizes.argmax())
    gone = np.arange(number) != largest if least == LARGEST else sizes < least * labels.size
    gone[0] = False
    found: NDArray[np.bool_] = gone[pieces]
    return found


def _holes(labels: NDArray[np.uint8], k: int) -> NDArray[np.bool_]:
    """Pixels of other classes that class k surrounds: pieces of what is not k that touch no edge of the image."""
    number, pieces, stats, _ = cv2.connectedComponentsWithStats((labels != k).astype(np.uint8), connectivity=4)
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    inside = (left > 0) & (top > 0) & (right < labels.shape[1]) & (bottom < labels.shape[0])
    inside[0] = False
    if number <= 1:
        return np.zeros(labels.shape, bool)
    found: NDArray[np.bool_] = inside[pieces]
    return found


def _second(probs: NDArray[np.floating], k: int) -> NDArray[np.uint8]:
    """The most probable class beside k of every pixel."""
    others = np.array(probs, np.float32)
    others[k] = -1
    return np.asarray(label_and_confidence(others)[0], np.uint8)
