"""Weights of members, fitted where no member was trained: by likelihood, by score, or greedily by a metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.argmax import label_and_confidence
from segpipe.core.void import VOID
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.measures import named_in
from segpipe.metrics.scores import options_of, summarize

Floats = NDArray[np.float64]
FLOOR = 1e-12  # of a probability whose logarithm is taken
_ITERATIONS, _GAIN = 1000, 1e-9  # of the EM; nats a pixel below which it stops


def fit_weights(p: NDArray[Any], pixel_weights: NDArray[Any] | None = None) -> Floats:
    """The weights (M,) on the simplex under which the mixture's NLL is least.

    p (M, P): probability that each member gives to the true class of each pixel; pixel_weights (P,): how much
    a pixel counts. Expectation maximisation of a mixture whose components are known (Dempster et al. 1977):
    w_m <- mean over pixels of w_m p_m / sum_k w_k p_k. The problem is convex and no step makes the NLL worse.

    Raises:
        ValueError: no member or pixel, or probabilities outside 0..1.

    >>> fit_weights(np.array([[0.9, 0.8], [0.1, 0.2]])).round(3).tolist()
    [1.0, 0.0]
    """
    of_true = np.asarray(p, np.float64)
    if of_true.ndim != 2 or not of_true.size:
        raise ValueError(f"p is {of_true.shape}, wanted (M, P) with at least one member and one pixel")
    if not (of_true.min() >= 0 and of_true.max() <= 1):
        raise ValueError("p holds values outside 0..1, wanted probabilities of the true class")
    of_true = np.maximum(of_true, FLOOR)
    each = np.ones(of_true.shape[1]) if pixel_weights is None else np.asarray(pixel_weights, np.float64)
    each = each / each.sum()
    weights, before = np.full(len(of_true), 1 / len(of_true)), np.inf
    for _ in range(_ITERATIONS):
        mixed = weights @ of_true
        loss = float(-(each @ np.log(mixed)))
        if before - loss < _GAIN:
            break
        before = loss
        weights = weights * (of_true @ (each / mixed))
        weights /= weights.sum()
    return weights


def by_score(scores: Sequence[float], sharpness: float = 0.0) -> Floats:
    """Weights from a score of each member: in proportion to it, or with sharpness > 0 softmax(sharpness * score).

    Scores of good members differ little, so proportional weights are almost equal.

    Raises:
        ValueError: a negative or undefined score, or all are 0.

    >>> by_score([3.0, 1.0]).tolist()
    [0.75, 0.25]
    """
    values = np.asarray(scores, np.float64)
    if not len(values) or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ValueError(f"wanted scores >= 0 that are defined and not all 0, found {list(scores)}")
    powers = np.exp(sharpness * (values - values.max())) if sharpness > 0 else values
    found: Floats = powers / powers.sum()
    return found


def greedy(
    members: NDArray[Any],
    target: NDArray[Any],
    *,
    metric: str = "miou_dataset",
    steps: int = 25,
    image_weights: Sequence[float] | None = None,
) -> tuple[Floats, list[int], list[float]]:
    """Forward selection with replacement (Caruana et al. 2004): add the member that helps the average most.

    Args:
        members: (M, N, C, H, W) probabilities.
        target: (N, H, W), 255 void.
        metric: a score of the counts, see `metrics.summarize`; ties go to the first member.
        steps: members added; the best prefix is kept, the shortest of equals.
        image_weights: (N,) what a pixel of each image counts, where images are samples of unequal shares.

    Returns:
        Weights (M,) of the best prefix, the sequence of all steps, and the score after each.

    Raises:
        ValueError: shapes differ, or the metric is undefined or no score of counts.
    """
    if members.ndim != 5 or members.shape[1] != len(target) or members.shape[-2:] != target.shape[-2:]:
        raise ValueError(f"members are {members.shape} and target is {target.shape}, wanted (M, N, C, H, W), (N, H, W)")
    score = _scorer(members, target, metric, image_weights)
    total = np.zeros(members.shape[1:], np.float32)
    sequence: list[int] = []
    reached: list[float] = []
    for _ in range(steps):
        each = [score(total, member) for member in members]
        best = max(range(len(members)), key=each.__getitem__)  # the first of equals
        total += members[best]
        sequence.append(best)
        reached.append(each[best])
    length = max(range(steps), key=reached.__getitem__) + 1
    chosen = np.bincount(sequence[:length], minlength=len(members))
    return chosen / length, sequence, reached


def _scorer(
    members: NDArray[Any], target: NDArray[Any], metric: str, image_weights: Sequence[float] | None
) -> Callable[..., float]:
    options: dict[str, Any] = options_of([metric])
    classes = members.shape[2]

    def score(total: NDArray[np.float32], member: NDArray[Any]) -> float:
        counts = [
            count(label_and_confidence(np.where(true == VOID, 0, some + one))[0][None], true[None], classes)
            for some, one, true in zip(total, member, target, strict=True)
        ]
        table = Counts.concat(counts)
        if image_weights is not None:
            table = Counts(*(np.rint((part.T * image_weights).T).astype(np.int64) for part in vars(table).values()))
        found = summarize(table, **options, measures=named_in([metric])).get(metric)
        if not isinstance(found, float):
            raise ValueError(f"metric '{metric}' is no defined score of these counts; choose one such as miou_dataset")
        return found

    return score
