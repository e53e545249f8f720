"""Class weights on probabilities, fitted to a score: which label is read where no class is certain.

The labels that are best for IoU or Dice of a whole data set are those of a weighted arg max (Koyejo et al. 2014,
Narasimhan et al. 2015); accuracy alone is served by the plain one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.metrics import measures
from segpipe.metrics.counts import Counts
from segpipe.metrics.defined import mean
from segpipe.metrics.measures import named_in
from segpipe.metrics.scores import options_of, summarize
from segpipe.refine.evidence import Pixels, raised

STEPS = np.linspace(-math.log(32), math.log(32), 129)  # candidates of a weight's logarithm, 5.6 % apart
_CANDIDATES = np.exp(STEPS).astype(np.float32)
SWEEPS = 4  # over all classes, at most
_FLOOR = np.float32(1e-12)


def weigh(probs: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Probabilities (C, ...) times a weight each (C,), normalised."""
    found: NDArray[np.float32] = np.multiply(probs, weights.reshape(-1, *[1] * (probs.ndim - 1)), dtype=np.float32)
    found /= np.maximum(found.sum(0), _FLOOR)
    return found


def score_of(counts: Counts, metric: str) -> float:
    """A score of `summarize`; -inf where it is undefined."""
    named: dict[str, Any] = options_of([metric])
    found = summarize(counts, **named, measures=named_in([metric])).get(metric)
    return float(found) if isinstance(found, float) and math.isfinite(found) else -math.inf


def scores_of(tables: Sequence[Counts], metric: str) -> list[float]:
    """`score_of` of each table, all of the same images; means of a measure at once."""
    match = re.fullmatch(r"m([a-z]+)_(dataset|image|class)", metric)
    if match is None or match.group(1) not in measures.names():
        return [score_of(counts, metric) for counts in tables]
    tp, fp, fn = (np.stack([getattr(counts, name) for counts in tables]) for name in ("tp", "fp", "fn"))  # (S, N, C)
    measure = measures.load(match.group(1))
    if match.group(2) == "dataset":
        found = mean(measure(tp.sum(1), fp.sum(1), fn.sum(1)), 1)
    else:
        of_pairs = np.where(tp + fn > 0, measure(tp, fp, fn), np.nan)
        found = mean(mean(of_pairs, 2 if match.group(2) == "image" else 1), 1)
    return [float(score) if math.isfinite(score) else -math.inf for score in found]


def fitted(images: Sequence[Pixels], metric: str, classes: int) -> NDArray[np.float32]:
    """The weights (C,) that score best, by exact coordinate ascent over `STEPS` of one class after the other.

    All other weights held, a pixel changes to class k as soon as w_k p_k exceeds the largest w_j p_j of the others; so
    one histogram of these thresholds gives the counts under every candidate. A tie takes the weight nearest 1; that of
    a class that no label holds is not searched. In the end their product is made 1.
    """
    weights = np.ones(classes, np.float32)
    if classes < 2:
        return weights
    known = [k for k in range(classes) if any((pixels.target == k).any() for pixels in images)]
    best = score_of(raised([counted(pixels, weights) for pixels in images], images), metric)
    for _ in range(SWEEPS):
        before = best
        for k in known:
            tables = np.stack([_under_every(pixels, weights, k) for pixels in images], 1)  # (S, N, 3, C)
            scores = scores_of([raised(list(table), images) for table in tables], metric)
            top = max(scores)
            if top > best:
                chosen = min((s for s in range(len(STEPS)) if scores[s] == top), key=lambda s: abs(STEPS[s]))
                weights[k], best = _CANDIDATES[chosen], top
        if best <= before:
            break
    return np.asarray(weights / np.exp(np.log(weights).mean()), np.float32)


def counted(pixels: Pixels, weights: NDArray[np.float32]) -> NDArray[np.int64]:
    """tp, fp, fn (3, C) of an image's pixels under the weights (C,)."""
    labels = (pixels.probs * weights[:, None]).argmax(0)
    return _table(labels, pixels.target, len(weights))


def _table(labels: NDArray[Any], target: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    true, predicted = np.bincount(target, minlength=classes), np.bincount(labels, minlength=classes)
    hits = np.bincount(target[labels == target], minlength=classes)
    return np.stack([hits, predicted - hits, true - hits])


def _under_every(pixels: Pixels, weights: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """tp, fp, fn (S, 3, C) when class k has each of the candidates as its weight."""
    classes, target = len(weights), pixels.target
    weighted = pixels.probs * weights[:, None]
    weighted[k] = 0
    other = weighted.argmax(0)
    rival = np.maximum(weighted[other, np.arange(len(target))], _FLOOR)
    threshold = np.log(rival / np.maximum(pixels.probs[k], _FLOOR))
    # A pixel becomes k at the first candidate above its threshold.
    first = np.clip(np.floor((threshold - STEPS[0]) / (STEPS[1] - STEPS[0])) + 1, 0, len(STEPS)).astype(np.int64)
    steps = len(STEPS) + 1
    # Before it changes a pixel is a hit or a miss of `other`; afterwards of k.
    hit, gained = target == other, target == k
    lost_hits = np.bincount(first[hit] * classes + other[hit], minlength=steps * classes).reshape(steps, classes)
    all_lost = np.bincount(first * classes + other, minlength=steps * classes).reshape(steps, classes)
    won = np.bincount(first[gained], minlength=steps)
    base = _table(other, target, classes)
    tp = base[0] - np.cumsum(lost_hits, 0)[: len(STEPS)]
    predicted = base[0] + base[1] - np.cumsum(all_lost, 0)[: len(STEPS)]
    tp[:, k] += np.cumsum(won)[: len(STEPS)]
    predicted[:, k] += np.cumsum(all_lost.sum(1))[: len(STEPS)]
    true = base[0] + base[2]
    found: NDArray[np.int64] = np.stack([tp, predicted - tp, true - tp], 1)
    return found
