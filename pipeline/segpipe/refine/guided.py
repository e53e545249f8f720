"""The guided filter on probabilities: borders follow the image's, at a hundredth of a CRF's cost."""

from __future__ import annotations

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

RADII, EPSILONS = (2.0, 4.0, 8.0), (1e-4, 1e-3, 1e-2)


@register("guided", source="He et al. 2013, Guided image filtering, eq. 5 and 6")
class Guided(Rule):
    """In every window of side 2 radius + 1 a probability is a line in the grey value, fitted with a ridge of epsilon.

    epsilon: of grey values in 0..1, squared: edges weaker than its root are smoothed over. A radius of 0 leaves the
    probabilities as they are.
    """

    def __init__(self, *, radius: float = 0.0, epsilon: float = 1e-3) -> None:
        self.radius, self.epsilon = radius, epsilon

    def learn(self, evidence: Evidence, metric: str) -> None:
        """Radius and epsilon of the highest score among nine; none at a tie."""
        points = [(0.0, EPSILONS[0]), *product(RADII, EPSILONS)]
        tables: list[list[Counts]] = [[] for _ in points]
        for shown in each(evidence):
            for table, (self.radius, self.epsilon) in zip(tables, points, strict=True):
                labels = label_and_confidence(self.apply(shown.image, shown.probs))[0]
                table.append(count(labels[None], shown.target[None], len(shown.probs)))
        scores = [score_of(Counts.concat(table), metric) for table in tables]
        self.radius, self.epsilon = points[int(np.argmax(scores))]

    def apply(self, image: NDArray[np.uint8], probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """Filtered, cut at 0 and normalised."""
        if not self.radius:
            return np.asarray(probs, np.float32)
        side = 2 * max(1, round(self.radius)) + 1
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        mean = _mean(grey, side)
        variance = _mean(grey * grey, side) - mean * mean
        found = np.empty(probs.shape, np.float32)
        for plane, out in zip(probs, found, strict=True):
            p = np.asarray(plane, np.float32)
            average = _mean(p, side)
            slope = (_mean(grey * p, side) - mean * average) / (variance + np.float32(self.epsilon))
            out[:] = _mean(slope, side) * grey + _mean(average - slope * mean, side)
        np.maximum(found, 0, out=found)
        found /= np.maximum(found.sum(0), np.float32(1e-12))
        return found


def _mean(plane: NDArray[Any], side: int) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)
