"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2): one number that mends confidence.

Fitted where the networks did not train, by NLL; the arg max stays, so no IoU changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics.confidence import FLOOR

Floats = NDArray[np.float64]
BOUNDS = (0.05, 20.0)
_STEPS, _PRECISION = 60, 1e-7  # Newton needs some eight; relative, of 1 / T


@dataclass(frozen=True)
class Temperature:
    """A fit: `value` is None with the `reason` when it was refused; NLL on the fitted pixels before and after."""

    value: float | None
    reason: str
    pixels: int
    nll_before: float | None
    nll_after: float | None


def sample(
    probs: NDArray[Any], target: NDArray[Any], number: int, seed: int, ignore_index: int | None = 255
) -> tuple[Floats, NDArray[np.int64]]:
    """Log-probabilities (P, C) and labels (P,) of at most `number` valid pixels of one image."""
    valid = np.flatnonzero(target.ravel() != ignore_index) if ignore_index is not None else np.arange(target.size)
    if len(valid) > number:
        valid = np.sort(np.random.default_rng(seed).choice(valid, number, replace=False))
    kept = probs.reshape(len(probs), -1)[:, valid].astype(np.float64)
    return np.log(np.maximum(kept, FLOOR)).T, target.ravel()[valid].astype(np.int64)


def fit(scores: Floats, true: NDArray[np.int64], weight: Floats | None = None) -> Temperature:
    """The temperature of log-probabilities or logits (P, C) with labels (P,), between the bounds.

    weight (P,): how much a pixel counts.

    The NLL is convex in 1 / T, so Newton's method inside a bracket finds its one minimum. It is refused
    where the NLL still falls at a bound: there the labels ask for certainty or for none.
    """
    if not len(true):
        return Temperature(None, "no valid pixel to fit on", 0, None, None)
    of_true = scores[np.arange(len(true)), true]

    def derivatives(beta: float) -> tuple[float, float, float]:
        """NLL and its first two derivatives in beta = 1 / T."""
        z = beta * scores
        top = z.max(1, keepdims=True)
        p = np.exp(z - top)
        total = p.sum(1, keepdims=True)
        p /= total
        mean = (p * scores).sum(1)
        nll = np.log(total[:, 0]) + top[:, 0] - beta * of_true
        parts = nll, mean - of_true, (p * scores * scores).sum(1) - mean * mean
        first, second, third = (float(x.mean() if weight is None else np.average(x, weights=weight)) for x in parts)
        return first, second, third

    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    before = derivatives(1.0)[0]
    rises_at_low, falls_at_high = derivatives(low)[1] >= 0, derivatives(high)[1] <= 0
    if rises_at_low or falls_at_high:
        end = BOUNDS[1] if rises_at_low else BOUNDS[0]
        reason = f"the NLL falls up to the bound T = {end:g}: no temperature inside fits these predictions"
        return Temperature(None, reason, len(true), before, None)
    beta = 1.0
    for _ in range(_STEPS):
        nll, slope, curve = derivatives(beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / curve if curve > 0 else low
        new = step if low < step < high else (low + high) / 2  # Newton inside the bracket, else halve it
        if abs(new - beta) <= _PRECISION * beta:
            break
        beta = new
    return Temperature(1 / beta, "", len(true), before, nll)


def apply(probs: NDArray[Any], temperature: float) -> NDArray[np.float32]:
    """probs (C, ...) with their logits divided by T."""
    z: NDArray[np.float32] = np.maximum(probs, np.float32(FLOOR), dtype=np.float32)
    np.log(z, out=z)
    z /= np.float32(temperature)
    z -= z.max(0)
    np.exp(z, out=z)
    z /= z.sum(0)
    return z
