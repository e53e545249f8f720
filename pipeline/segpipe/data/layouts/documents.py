"""JSON documents of annotations: read, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segpipe.core.errors import DataError
from segpipe.data.card import Card
from segpipe.data.layouts.templates import text_of

Document = Any  # what another program wrote: its shape is checked where it is read
WRONG = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError)  # what JSON of another shape raises


def read_json(path: Path, card: Card) -> Document:
    """The document in a file; NaN and infinity are refused."""
    text = text_of(path, card)
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({short(error)}); replace it") from None


def _refuse(constant: str) -> float:
    raise ValueError(f"the number {constant}")


def short(error: BaseException) -> str:
    """An error in a few words."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}" if str(error) else type(error).__name__


def points_of(values: ArrayLike) -> NDArray[np.float64]:
    """Points (N, 2); ValueError for those that are not finite."""
    points: NDArray[np.float64] = np.asarray(values, np.float64).reshape(-1, 2)
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > 1e15:
        raise ValueError("points that are not finite")
    return points
