"""What every refiner is: fitted on val, applied to an image, described by plain numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.argmax import label_and_confidence
from segpipe.refine.evidence import Evidence
from segpipe.refine.search import Choice, Point, tune

Score = Callable[[list[Point]], Sequence[float]]


class Refiner(ABC):
    """Probabilities (C, H, W) of an image in, probabilities (C, H, W) float32 out.

    Its numbers are the keyword-only arguments of `__init__`, each with a default. `register` names those that are
    searched (`tuned`, in the order of the candidates) and those that may be 0 (`may_be_zero`).
    """

    @abstractmethod
    def apply(self, image: NDArray[np.uint8], probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """The refined probabilities of an image (H, W, 3); ValueError when it cannot be refined."""

    def describe(self) -> dict[str, Any]:
        """Its numbers by name, from which `refine.create` makes it again."""
        return dict(vars(self))

    @classmethod
    def fit(
        cls, score: Score, candidates: Mapping[str, Sequence[float]], score_without: float, *, points: int
    ) -> Choice:
        """Search the numbers that score best, coarse to fine; leaving the predictions as they are competes too."""
        return tune(score, candidates, score_without, points=points)

    @classmethod
    def label_maps(
        cls, image: NDArray[np.uint8], probs: NDArray[np.floating], points: Sequence[Point], fixed: Mapping[str, Any]
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(position in `points`, labels) under every point, in any order; override it where points can share work."""
        for position, point in enumerate(points):
            yield position, label_and_confidence(cls(**point, **fixed).apply(image, probs))[0]


class Rule(Refiner):
    """A refiner that fits itself to val images, and may change labels where no probabilities say so."""

    @abstractmethod
    def learn(self, evidence: Evidence, metric: str) -> None:
        """Fit its numbers to a score of `metrics.summarize`, larger is better."""

    def factors(self) -> tuple[float, Sequence[float]] | None:
        """(exponent, weights) where all that it does to a pixel is p^exponent times a weight a class; else None."""
        return None

    def weights_of(self, probs: NDArray[np.floating]) -> NDArray[np.float32] | None:
        """The weights (C,) whose arg max it reads from the probabilities of an image; None where it does otherwise."""
        del probs
        return None

    def settle(self, probs: NDArray[np.floating], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The final labels (H, W) of an image whose chain gave probs (C, H, W) and these labels."""
        del probs
        return labels
