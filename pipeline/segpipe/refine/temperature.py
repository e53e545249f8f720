"""Temperature as a link of a chain: what the rules behind it presume are calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.registry import register
from segpipe.metrics import temperature
from segpipe.refine.base import Rule
from segpipe.refine.evidence import Evidence

_PIXELS = 100_000  # of val, over all images


@register("temperature", source="Guo et al. 2017, arXiv:1706.04599, sec. 4.2")
class Temperature(Rule):
    """All logits divided by one number, fitted by likelihood; no label changes by itself."""

    def __init__(self, *, value: float = 0.0) -> None:
        self.value = value

    def learn(self, evidence: Evidence, metric: str) -> None:
        """The temperature that makes the labels likeliest; 1 where there is none."""
        del metric
        scores, true, weights = [], [], []
        for part in evidence.pixels():
            step = max(1, len(part.target) * len(evidence) // _PIXELS)
            scores.append(np.log(np.maximum(part.probs[:, ::step], 1e-12, dtype=np.float64)).T)
            true.append(part.target[::step].astype(np.int64))
            weights.append(np.full(len(true[-1]), part.valid / max(len(true[-1]), 1)))
        found = temperature.fit(np.concatenate(scores), np.concatenate(true), np.concatenate(weights)).value
        self.value = 1.0 if found is None else found

    def apply(self, image: NDArray[np.uint8], probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """Calibrated."""
        del image
        return temperature.apply(probs, self.value or 1.0)

    def factors(self) -> tuple[float, Sequence[float]] | None:
        """One over the temperature."""
        return 1 / (self.value or 1.0), [1.0]

    def describe(self) -> dict[str, Any]:
        """The temperature."""
        return {"value": self.value}
