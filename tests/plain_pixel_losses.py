"""Losses of pixels a second time: loops and floats. Slow on purpose."""

from __future__ import annotations

import math
from itertools import product

from plain import softmax


def pixels(logits, target, void=255):
    """(image, probabilities, target vector) of every valid pixel; hard labels become one-hot vectors."""
    return [(i, softmax(scores), vector) for i, _, scores, vector in places(logits, target, void)]


def places(logits, target, void=255):
    """(image, (row, column), logits, target vector) of every valid pixel."""
    found = []
    n, c, h, w = logits.shape
    for i, y, x in product(range(n), range(h), range(w)):
        if target.ndim == 3:
            label = int(target[i, y, x])
            if label == void:
                continue
            vector = [1.0 if k == label else 0.0 for k in range(c)]
        else:
            vector = [float(target[i, k, y, x]) for k in range(c)]
        found.append((i, (y, x), [float(logits[i, k, y, x]) for k in range(c)], vector))
    return found


def ce(logits, target, class_weights=None, weighting="weights", label_smoothing=0.0, reduction="mean", prior=None):
    c = logits.shape[1]
    weights = class_weights or [1.0] * c
    if prior is not None:
        logits = logits.clone()
        for k in range(c):
            logits[:, k] += math.log(max(prior[k], 1e-12))
    total, weight_sum, number = 0.0, 0.0, 0
    for _, probs, vector in pixels(logits, target):
        smooth = [(1 - label_smoothing) * v + label_smoothing / c for v in vector]
        total += sum(-w * v * math.log(p) for w, v, p in zip(weights, smooth, probs, strict=True) if v > 0)
        weight_sum += sum(w * v for w, v in zip(weights, vector, strict=True))
        number += 1
    if reduction == "sum":
        return total
    if weighting == "classes":
        return total / c
    denominator = number if weighting == "valid" or class_weights is None else weight_sum
    return total / denominator if denominator else 0.0


def focal(logits, target, gamma=2.0, alpha=None):
    values = []
    for _, probs, vector in pixels(logits, target):
        weights = alpha or [1.0] * len(probs)
        values.append(
            sum(
                -w * v * (1 - p) ** gamma * math.log(p) for w, v, p in zip(weights, vector, probs, strict=True) if v > 0
            )
        )
    return sum(values) / len(values) if values else 0.0


def kl(logits, target, temperature=1.0):
    values = []
    for _, _, scores, vector in places(logits, target):
        probs = softmax([s / temperature for s in scores])
        values.append(sum(v * (math.log(v) - math.log(p)) for v, p in zip(vector, probs, strict=True) if v > 0))
    return temperature**2 * sum(values) / len(values) if values else 0.0


def bce(z, y):
    """Binary cross entropy of one logit."""
    return max(z, 0) - z * y + math.log1p(math.exp(-abs(z)))


def one_focal(z, y, gamma, alpha):
    p = 1 / (1 + math.exp(-z))
    wrong = p + y - 2 * p * y  # 1 - p_t with p_t = p y + (1 - p)(1 - y)
    return bce(z, y) * max(wrong, 0) ** gamma * (1 if alpha is None else alpha * y + (1 - alpha) * (1 - y))


def binary_focal(logits, target, gamma=2.0, alpha=None):
    values = [one_focal(s[1] - s[0], v[1], gamma, alpha) for _, _, s, v in places(logits, target)]
    return sum(values) / len(values) if values else 0.0


def one_vs_rest_focal(logits, target, gamma=2.0, alpha=None):
    values = [
        sum(one_focal(z, y, gamma, alpha) for z, y in zip(s, v, strict=True)) for _, _, s, v in places(logits, target)
    ]
    return sum(values) / len(values) if values else 0.0


def pixel_losses(logits, target, weights=None):
    """(image, weighted loss, loss) of every valid pixel."""
    found = []
    for i, probs, vector in pixels(logits, target):
        w = weights or [1.0] * len(probs)
        terms = [(-v * math.log(p), wk) for v, p, wk in zip(vector, probs, w, strict=True) if v > 0]
        found.append((i, sum(t * wk for t, wk in terms), sum(t for t, _ in terms)))
    return found


def ohem(logits, target, threshold=0.7, min_kept=100000, class_weights=None):
    rows = [(math.exp(-loss), weighted) for _, weighted, loss in pixel_losses(logits, target, class_weights)]
    if not rows:
        return 0.0
    bound = max(threshold, sorted(p for p, _ in rows)[min(min_kept, len(rows) - 1)])
    kept = [w for p, w in rows if p < bound] or [w for p, w in rows if p <= bound]
    return sum(kept) / len(kept)


def topk(logits, target, k=100000):
    hardest = sorted((loss for _, _, loss in pixel_losses(logits, target)), reverse=True)[:k]
    return sum(hardest) / len(hardest) if hardest else 0.0


def pooled(values, p, m):
    """max sum w l over the weights of loss max-pooling, by bisection of alpha."""
    n = len(values)
    m = min(max(m, 1), n)
    if p == math.inf:
        return sum(values) / n
    if p == 1:
        hard = sorted(values, reverse=True)
        whole = int(m)
        return (sum(hard[:whole]) + (m - whole) * (hard[whole] if whole < n else 0)) / m
    q = p / (p - 1)
    tau = n ** (1 / p - 1) * m ** (-1 / p)
    if sum(v > 0 for v in values) <= m:
        return tau * sum(values)
    low, high = 0.0, max(values) * (n / m + 1) ** (1 / q)
    for _ in range(200):
        alpha = (low + high) / 2
        if alpha and sum(min(v / alpha, 1) ** q for v in values) > m:
            low = alpha
        else:
            high = alpha
    return sum(tau * min(1, v / high) ** (q - 1) * v for v in values)


def lmp(logits, target, p=1.7, ratio=0.3, m=None, per_image=True):
    rows = pixel_losses(logits, target)
    groups = [[loss for i, _, loss in rows if i == n] for n in range(len(logits))]
    if not per_image:
        groups = [[loss for _, _, loss in rows]]
    values = [pooled(g, p, ratio * len(g) if m is None else m) for g in groups if g]
    return sum(values) / len(values) if values else 0.0


def sampled_ce(logits, target, rounds=4, power=1.0, ratio=1.0, base=1.0, mode="expectation"):
    assert mode == "expectation"
    c = logits.shape[1]
    rows = pixels(logits, target)
    weights = [0.0] * c
    for k in range(c):
        share = sum(v[k] for _, _, v in rows) / max(len(rows), 1)
        rho = share + (1 - share) / c
        for t in range(1, rounds + 1):
            s = math.sqrt(t / rounds)
            weights[k] += (s / rho) ** power if rho < s / (power + 1) else ratio * base
    total = norm = 0.0
    for _, probs, vector in rows:
        total += sum(-w * v * math.log(p) for w, v, p in zip(weights, vector, probs, strict=True) if v > 0)
        norm += sum(w * v for w, v in zip(weights, vector, strict=True))
    return total / norm if norm else 0.0
