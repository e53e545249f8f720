"""Every loss a second time: loops and floats. Slow on purpose."""

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


def region(
    logits, target, alpha, beta, inner, smooth=0.001, squared=False, log=False, classes="present",
    average="dataset", class_weights=None, exponent=1.0, threshold=0.01,
):  # fmt: skip
    """dice, jaccard, tversky (inner) and jml, dml, ctl, straight from the definitions."""
    n, c = logits.shape[:2]
    tp = [[0.0] * c for _ in range(n)]
    mass = [[0.0] * c for _ in range(n)]
    label_mass = [[0.0] * c for _ in range(n)]
    largest = [[0.0] * c for _ in range(n)]
    valid = [0] * n
    for i, probs, vector in pixels(logits, target):
        valid[i] += 1
        for k, (x, y) in enumerate(zip(probs, vector, strict=True)):
            if inner or squared:
                tp[i][k] += x * y
            else:
                tp[i][k] += (x + y - abs(x - y)) / 2
            mass[i][k] += x * x if squared else x
            label_mass[i][k] += y * y if squared else y
            largest[i][k] = max(largest[i][k], y)

    def loss(a, b, d):
        fp, fn = b - a, d - a
        index = (a + smooth) / (a + alpha * fp + beta * fn + smooth) if a + alpha * fp + beta * fn + smooth else 1.0
        value = -math.log(max(index, 1e-7)) if log else 1 - index
        return value**exponent

    def active(i, k):
        if valid[i] == 0:
            return False
        if classes == "present":
            return largest[i][k] > (threshold if target.ndim == 4 else 0)
        return classes == "all" or k in classes

    weights = class_weights or [1.0] * c
    images = range(n)

    def dataset():
        used = [k for k in range(c) if any(active(i, k) for i in images)]
        values = [weights[k] * loss(*(sum(m[i][k] for i in images) for m in (tp, mass, label_mass))) for k in used]
        return sum(values) / len(values) if values else 0.0

    def image():
        means = []
        for i in images:
            used = [k for k in range(c) if active(i, k)]
            if used:
                means.append(sum(weights[k] * loss(tp[i][k], mass[i][k], label_mass[i][k]) for k in used) / len(used))
        return sum(means) / len(means) if means else 0.0

    def per_class():
        means = []
        for k in range(c):
            used = [i for i in images if active(i, k)]
            if used:
                means.append(weights[k] * sum(loss(tp[i][k], mass[i][k], label_mass[i][k]) for i in used) / len(used))
        return sum(means) / len(means) if means else 0.0

    def together():
        used = [k for k in range(c) if any(active(i, k) for i in images)]
        if classes != "present":
            used = [k for k in range(c) if classes == "all" or k in classes]
        if not any(valid):
            return 0.0
        return loss(*(sum(m[i][k] for i in images for k in used) for m in (tp, mass, label_mass)))

    functions = {"dataset": dataset, "image": image, "class": per_class, "all": together}
    if isinstance(average, str):
        return functions[average]()
    return sum(weight * functions[name]() for name, weight in average.items())


def dice(logits, target, **options):
    return region(logits, target, 0.5, 0.5, True, **options)


def jaccard(logits, target, **options):
    return region(logits, target, 1.0, 1.0, True, **options)


def tversky(logits, target, alpha=0.3, beta=0.7, **options):
    return region(logits, target, alpha, beta, True, **options)


def jml(logits, target, **options):
    return region(logits, target, 1.0, 1.0, False, **options)


def dml(logits, target, **options):
    return region(logits, target, 0.5, 0.5, False, **options)


def ctl(logits, target, alpha=0.3, beta=0.7, **options):
    return region(logits, target, alpha, beta, False, **options)


def focal_tversky(logits, target, alpha=0.3, beta=0.7, exponent=0.75, **options):
    return region(logits, target, alpha, beta, True, exponent=exponent, **options)


def generalized_dice(logits, target, smooth=0.001, average="dataset"):
    c = logits.shape[1]
    rows = pixels(logits, target)

    def one(members):
        pixels_of = [sum(v[k] for _, _, v in members) for k in range(c)]
        largest = max(1 / g**2 for g in pixels_of if g)
        weights = [1 / g**2 if g else largest for g in pixels_of]
        scale = len(members) / sum(w * g for w, g in zip(weights, pixels_of, strict=True))
        numerator = scale * sum(weights[k] * p[k] * v[k] for _, p, v in members for k in range(c))
        denominator = scale * sum(weights[k] * (p[k] + v[k]) for _, p, v in members for k in range(c)) / 2
        return 1 - (numerator + smooth) / (denominator + smooth)

    def of(name):
        if name == "dataset":
            return one(rows) if rows else 0.0
        groups = [[row for row in rows if row[0] == i] for i in range(len(logits))]
        values = [one(group) for group in groups if group]
        return sum(values) / len(values) if values else 0.0

    named = {average: 1.0} if isinstance(average, str) else average
    return sum(weight * of(name) for name, weight in named.items())


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


def spatial(logits, target, kind="smoothness"):
    n, c, h, w = logits.shape
    found = {(i, *at): (softmax(s), v) for i, at, s, v in places(logits, target)}
    if kind == "smoothness":
        values = []
        for (i, y, x), (p, _) in found.items():
            for other in ((i, y + 1, x), (i, y, x + 1)):
                if other in found:
                    values.append(sum((a - b) ** 2 for a, b in zip(p, found[other][0], strict=True)))
        return sum(values) / len(values) if values else 0.0

    def unit(y, x):
        return y / max(h - 1, 1), x / max(w - 1, 1)

    images = []
    for i in range(n):
        mine = {at: pv for (image, *at), pv in ((key, value) for key, value in found.items()) if image == i
                for at in [tuple(at)]}  # fmt: skip
        if not mine:
            continue
        total = 0.0
        for k in range(c):
            if kind == "compactness":
                mass = sum(p[k] for p, _ in mine.values())
                centre = [sum(p[k] * unit(*at)[axis] for at, (p, _) in mine.items()) / mass for axis in (0, 1)]
                total += sum(p[k] * math.dist(unit(*at), centre) ** 2 for at, (p, _) in mine.items())
            else:
                region_of = [at for at, (_, v) in mine.items() if v[k] == 1]
                if region_of:
                    total += sum(
                        p[k] * min(math.dist(unit(*at), unit(*other)) for other in region_of)
                        for at, (p, _) in mine.items()
                    )
        images.append(total / len(mine))
    return sum(images) / len(images) if images else 0.0


def prob_match(logits, target, direction="forward", prior="batch"):
    rows = pixels(logits, target)
    if not rows:
        return 0.0
    c = logits.shape[1]
    f = [sum(p[k] for _, p, _ in rows) / len(rows) for k in range(c)]
    pi = [(sum(v[k] for _, _, v in rows) + 1) / (len(rows) + c) for k in range(c)]
    if prior != "batch":
        pi = [value / sum(prior) for value in prior]
    first, second = (f, pi) if direction == "forward" else (pi, f)
    return sum(a * math.log(a / b) for a, b in zip(first, second, strict=True))


def dropout_composite(
    logits, target, f_w=0.5, f_r=1.0, f_m=1.0, f_s=1.0, beta=0.1, lam=0.1, gamma=0.1, class_weights=None, prior="batch",
):  # fmt: skip
    return (
        (1 - f_w) * ce(logits, target)
        + f_w * ce(logits, target, class_weights=class_weights)
        + f_r * beta * spatial(logits, target)
        + f_m * lam * prob_match(logits, target, prior=prior)
        + f_s * gamma * spatial(logits, target, kind="compactness")
    )


def jaccard_loss_of_errors(errors, positive):
    """The Lovász extension of the Jaccard loss by its definition: sort, then differences of J."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    number = sum(positive)
    total = before = 0.0
    hits = misses = 0
    for i in order:
        hits, misses = hits + positive[i], misses + (not positive[i])
        now = 1 - (number - hits) / (number + misses)
        total += errors[i] * (now - before)
        before = now
    return total


def _lovasz(logits, target, classes, per_image, error, only=None):
    rows = places(logits, target)
    groups = [[r for r in rows if r[0] == i] for i in range(len(logits))] if per_image else [rows]
    values = []
    for group in groups:
        if not group:
            continue
        losses = []
        for k in range(logits.shape[1]):
            if only is not None and k != only:
                continue
            positive = [v[k] == 1 for *_, v in group]
            wanted = (
                any(positive)
                if classes == "present" and only is None
                else classes in ("all", "present") or k in classes
            )
            if wanted:
                errors = [error(s, k, flag) for (_, _, s, _), flag in zip(group, positive, strict=True)]
                losses.append(jaccard_loss_of_errors(errors, positive))
        values.append(sum(losses) / len(losses) if losses else 0.0)
    return sum(values) / len(values) if values else 0.0


def lovasz(logits, target, classes="present", per_image=False):
    return _lovasz(logits, target, classes, per_image, lambda s, k, flag: abs(flag - softmax(s)[k]))


def lovasz_hinge(logits, target, classes="present", per_image=True):
    if logits.shape[1] == 2:
        sign = {True: 1, False: -1}
        return _lovasz(
            logits, target, classes, per_image, lambda s, _, flag: max(0, 1 - (s[1] - s[0]) * sign[flag]), only=1
        )
    return _lovasz(logits, target, classes, per_image, lambda s, k, flag: max(0, 1 - s[k] * (1 if flag else -1)))
