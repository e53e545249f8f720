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
_NEAR = 0.01  # of log T: a fit this close to a bound says that there is no minimum inside
_FLAT = 1e-9  # of the NLL: nor does a fit on a plain that reaches the bound


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


def fit(scores: Floats, true: NDArray[np.int64]) -> Temperature:
    """The temperature of log-probabilities or logits (P, C) with labels (P,), searched in log T.

    The NLL is convex in 1 / T, so the bounded search finds its one minimum. It is refused at the
    bounds: there the labels ask for certainty or for none (all right, or no better than chance).
    """
    from scipy.optimize import minimize_scalar

    if not len(true):
        return Temperature(None, "no valid pixel to fit on", 0, None, None)

    def loss(log_t: float) -> float:
        z = scores / np.exp(log_t)
        z -= z.max(1, keepdims=True)
        return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(true)), true]).mean())

    low, high = np.log(BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5})
    log_t, before, after = float(found.x), loss(0.0), float(found.fun)
    ends = {loss(low): BOUNDS[0], loss(high): BOUNDS[1]}
    if min(ends) <= after + _FLAT or min(log_t - low, high - log_t) < _NEAR:
        reason = f"the NLL is no larger at the bound T = {ends[min(ends)]:g}: no temperature fits these predictions"
        return Temperature(None, reason, len(true), before, None)
    return Temperature(float(np.exp(log_t)), "", len(true), before, after)


def apply(probs: NDArray[Any], temperature: float) -> NDArray[np.float32]:
    """probs (C, ...) with their logits divided by T."""
    z = np.log(np.maximum(probs.astype(np.float32), np.float32(FLOOR))) / np.float32(temperature)
    z -= z.max(0)
    np.exp(z, out=z)
    scaled: NDArray[np.float32] = z / z.sum(0)
    return scaled
