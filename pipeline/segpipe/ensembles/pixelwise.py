"""Pixel by pixel: averages of probabilities and votes of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
GEOMETRIC_FLOOR = 1e-12
_BLOCK = 2**16  # pixels of a vote: the planes of some members fit into the second-level cache
_TIED = 1e-12  # shares that differ by less are equal: decimals such as 0.1 do not sum exactly


def average(members: Array, weights: Sequence[float] | None = None, kind: str = "arithmetic") -> Array:
    """Mean probabilities of members (M, ..., C, H, W); weights are normalised.

    "geometric" averages log probabilities (floored at 1e-12) and normalises over C. Half precision is
    averaged in float32.

    Raises:
        ValueError: no member, weights that are negative, all zero or of another number, an unknown kind.
    """
    members = np.asarray(members)
    exact = members.dtype if members.dtype == np.float64 else np.dtype(np.float32)
    share = shares(len(members), weights).astype(exact)
    if kind not in ("arithmetic", "geometric"):
        raise ValueError(f"kind must be 'arithmetic' or 'geometric', found {kind!r}")
    total, part = np.zeros(members.shape[1:], exact), np.empty(members.shape[1:], exact)
    for weight, member in zip(share, members, strict=True):
        if weight == 0:
            continue
        if kind == "geometric":
            np.maximum(member, exact.type(GEOMETRIC_FLOOR), out=part)
            np.log(part, out=part)
            np.multiply(part, weight, out=part)
        else:
            np.multiply(member, weight, out=part)
        total += part
    if kind == "geometric":
        total -= total.max(-3, keepdims=True)
        np.exp(total, out=total)
        total /= total.sum(-3, keepdims=True)
    return total.astype(members.dtype, copy=False)


def majority(labels: Array, weights: Sequence[float] | None = None, reject: int = 255) -> Array:
    """The label with more than half of the total weight of labels (M, ..., H, W), else `reject`.

    A member that says `reject` abstains, but its weight still counts in the total.

    Raises:
        ValueError: as `average`.
    """
    stacked, share = np.asarray(labels), shares(len(labels), weights)
    found = np.full(stacked.shape[1:], reject, stacked.dtype)
    for block, out in _blocks(stacked, found):
        for member, support in zip(block, _support(block, share, reject), strict=True):
            np.copyto(out, member, where=support > 0.5 + _TIED)  # at most one label can have it
    return found


def plurality(
    labels: Array, weights: Sequence[float] | None = None, probs: Array | None = None, reject: int = 255
) -> Array:
    """The label with most weight; a tie goes to the largest summed probability, then the lowest class.

    Args:
        labels: (M, ..., H, W); `reject` abstains.
        weights: of the members; normalised.
        probs: (..., C, H, W) probabilities summed over members, to settle ties.
        reject: the label of an abstention.

    Returns:
        (..., H, W) labels; `reject` only where all who have a weight abstain.

    Raises:
        ValueError: as `average`.
    """
    stacked, share = np.asarray(labels), shares(len(labels), weights)
    found = np.full(stacked.shape[1:], reject, stacked.dtype)
    tied = np.zeros(stacked.shape[1:], bool)
    for (block, out), (_, unsure) in zip(_blocks(stacked, found), _blocks(stacked, tied), strict=True):
        support = _support(block, share, reject)
        most = np.maximum.reduce(support)
        for member, votes in zip(block, support, strict=True):
            leads = (votes >= most - _TIED) & (votes > 0)
            unsure |= leads & (out != reject) & (out != member)
            np.copyto(out, member, where=leads & ((out == reject) | (member < out)))
    if probs is not None and tied.any():
        found[tied] = _settled(stacked[:, tied], share, np.moveaxis(np.asarray(probs), -3, 0)[:, tied], reject)
    return found


def shares(count: int, weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Weights that sum to one; equal ones where none are given.

    Raises:
        ValueError: no member, weights that are negative, not finite, all zero or of another number.
    """
    if count == 0:
        raise ValueError("an ensemble needs at least one member, found none")
    values = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if values.shape != (count,) or (values < 0).any() or not values.sum() > 0 or not np.isfinite(values).all():
        raise ValueError(f"wanted {count} weights >= 0 that are not all 0, found {weights}")
    normalized: NDArray[np.float64] = values / values.sum()
    return normalized


def _blocks(stacked: Array, found: Array) -> list[tuple[Array, Array]]:
    """(M, P) labels and (P,) results of pieces that stay in the cache; writing to the second writes to `found`."""
    flat, out = stacked.reshape(len(stacked), -1), found.reshape(-1)
    return [(flat[:, i : i + _BLOCK], out[i : i + _BLOCK]) for i in range(0, out.size, _BLOCK)]


def _support(labels: Array, share: NDArray[np.float64], reject: int) -> Array:
    """(M, P) share of the votes that each member's own label (M, P) got; 0 where it abstains or has no weight.

    Pairs of members are compared, so the cost does not depend on the number of classes.
    """
    support = np.zeros(labels.shape)
    for i, first in enumerate(labels):
        support[i] += share[i]
        for j in range(i):
            same = first == labels[j]
            support[i] += same * share[j]
            support[j] += same * share[i]
    support[(labels == reject) | (share == 0)[:, None]] = 0
    return support


def _settled(labels: Array, share: NDArray[np.float64], probs: Array, reject: int) -> Array:
    """(P,) of the leading labels among (M, P) the one with the largest of probs (C, P), then the lowest."""
    support = _support(labels, share, reject)
    leads = support >= support.max(0) - _TIED
    classes = np.where(leads, labels, 0).astype(np.int64)
    mass = np.where(leads, np.take_along_axis(probs, classes, 0), -np.inf)
    best = mass >= mass.max(0)
    settled: Array = np.where(best, classes, np.iinfo(np.int64).max).min(0)
    return settled.astype(labels.dtype)
