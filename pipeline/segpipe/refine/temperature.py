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


@register("temperature", source="Guo et al. 2017, arXiv:1706.04599, sec. 4.2")
class Temperature(Rule):
    """All logits divided by one number, fitted by likelihood; no label changes by itself."""

    def __init__(self, *, value: float = 0.0) -> None:
        self.value = value

    def learn(self, evidence: Evidence, metric: str) -> None:
        """The temperature that makes the labels likeliest; 1 where there is none."""
        del metric
        parts = evidence.pixels()
        scores = np.concatenate([np.log(np.maximum(part.probs, 1e-12)).T for part in parts])
        weights = np.concatenate([np.full(len(p.target), p.valid / max(len(p.target), 1)) for p in parts])
        true = np.concatenate([part.target for part in parts]).astype(np.int64)
        found = temperature.fit(scores.astype(np.float64), true, weights).value
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
