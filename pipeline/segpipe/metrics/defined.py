"""Arithmetic in which undefined is NaN, without numpy's warnings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def divide(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Elementwise in float64; NaN where the denominator is 0."""
    result: Floats = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), np.nan)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
    return result


def mean(values: Floats, axis: int | None = None) -> Any:
    """Mean of the defined values, NaN when there are none."""
    defined = ~np.isnan(values)
    return divide(np.where(defined, values, 0.0).sum(axis), defined.sum(axis))


def number(value: float | np.floating | Floats) -> float | None:
    """A plain float, None for NaN."""
    return None if np.isnan(value) else float(value)
