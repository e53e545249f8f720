"""Pixel by pixel: averages of probabilities and votes of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
GEOMETRIC_FLOOR = 1e-12


def average(members: Array, weights: Sequence[float] | None = None, kind: str = "arithmetic") -> Array:
    """Mean probabilities of members (M, ..., C, H, W); weights are normalised.

    "geometric" averages log probabilities (floored at 1e-12) and normalises over C.
    """
    members = np.asarray(members)
    share = _shares(len(members), weights)
    if kind == "arithmetic":
        return np.tensordot(share, members, 1).astype(members.dtype)
    if kind != "geometric":
        raise ValueError(f"kind must be 'arithmetic' or 'geometric', found {kind!r}")
    logs = np.tensordot(share, np.log(np.maximum(members, GEOMETRIC_FLOOR)), 1)
    powers = np.exp(logs - logs.max(-3, keepdims=True))
    result: Array = (powers / powers.sum(-3, keepdims=True)).astype(members.dtype)
    return result


def majority(labels: Array, weights: Sequence[float] | None = None, reject: int = 255) -> Array:
    """The label with more than half of the total weight of labels (M, ..., H, W), else `reject`.

    A member that says `reject` abstains, but its weight still counts in the total.
    """
    votes, classes = _votes(labels, weights, reject)
    if not len(classes):
        return np.full(np.asarray(labels).shape[1:], reject, np.asarray(labels).dtype)
    best = votes.argmax(0)
    # Shares that sum to exactly one half in decimals must not pass by rounding.
    won = np.take_along_axis(votes, best[None], 0)[0] > 0.5 + 1e-12
    return np.where(won, classes[best], reject).astype(np.asarray(labels).dtype)


def plurality(
    labels: Array, weights: Sequence[float] | None = None, probs: Array | None = None, reject: int = 255
) -> Array:
    """The label with most weight; a tie goes to the largest summed probability, then the lowest class.

    Args:
        labels: (M, ..., H, W); `reject` abstains.
        probs: (..., C, H, W) probabilities summed over members, to settle ties.

    Returns:
        (..., H, W) labels; `reject` only where all abstain.
    """
    votes, classes = _votes(labels, weights, reject)
    if not len(classes):
        return np.full(np.asarray(labels).shape[1:], reject, np.asarray(labels).dtype)
    leading = votes >= votes.max(0) - 1e-12
    if probs is None:
        winner = leading.argmax(0)
    else:
        summed = np.moveaxis(np.asarray(probs), -3, 0)[classes]
        winner = np.where(leading, summed, -np.inf).argmax(0)
    return np.where(votes.sum(0) > 0, classes[winner], reject).astype(np.asarray(labels).dtype)


def _votes(
    labels: Array, weights: Sequence[float] | None, reject: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(K, ..., H, W) share of each of the K classes that got a vote, ascending."""
    stacked = np.asarray(labels)
    share = _shares(len(stacked), weights)
    classes = np.unique(stacked)
    classes = classes[classes != reject].astype(np.int64)
    votes = np.zeros((len(classes), *stacked.shape[1:]))
    for part, of_class in zip(votes, classes, strict=True):
        for weight, member in zip(share, stacked, strict=True):
            part += weight * (member == of_class)
    return votes, classes


def _shares(count: int, weights: Sequence[float] | None) -> NDArray[np.float64]:
    """Weights that sum to one."""
    if count == 0:
        raise ValueError("an ensemble needs at least one member, found none")
    values = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if values.shape != (count,) or (values < 0).any() or not values.sum() > 0 or not np.isfinite(values).all():
        raise ValueError(f"wanted {count} weights >= 0 that are not all 0, found {weights}")
    shares: NDArray[np.float64] = values / values.sum()
    return shares
