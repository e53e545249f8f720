"""Losses of regions a second time: loops and floats. Slow on purpose."""

from __future__ import annotations

import math

from plain import softmax
from plain_pixel_losses import pixels, places


def region(
    logits, target, alpha, beta, inner, smooth=0.001, squared=False, log=False, classes="present",
    average="dataset", class_weights=None, exponent=1.0, threshold=None,
):  # fmt: skip
    """dice, jaccard, tversky (inner) and jml, dml, ctl, straight from the definitions."""
    n, c = logits.shape[:2]
    tp = [[0.0] * c for _ in range(n)]
    mass = [[0.0] * c for _ in range(n)]
    label_mass = [[0.0] * c for _ in range(n)]
    largest = [[0.0] * c for _ in range(n)]
    leads = [[False] * c for _ in range(n)]
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
            leads[i][k] |= y == max(vector)

    def loss(a, b, d):
        fp, fn = b - a, d - a
        index = (a + smooth) / (a + alpha * fp + beta * fn + smooth) if a + alpha * fp + beta * fn + smooth else 1.0
        value = -math.log(max(index, 1e-7)) if log else 1 - index
        return value**exponent

    def active(i, k):
        if valid[i] == 0:
            return False
        if classes == "present":
            return leads[i][k] if threshold is None else largest[i][k] > (threshold if target.ndim == 4 else 0)
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


def mcc(logits, target, smooth=0.001, classes="present", average="dataset", class_weights=None):
    n, c = logits.shape[:2]
    rows = pixels(logits, target)
    weights = class_weights or [1.0] * c

    def held(members, k):
        if classes == "present":
            return any(v[k] == max(v) for _, _, v in members)
        return bool(members) and (classes == "all" or k in classes)

    def loss(members, k):
        tp = sum(p[k] * v[k] for _, p, v in members) + smooth
        tn = sum(1 - p[k] - v[k] + p[k] * v[k] for _, p, v in members) + smooth
        fp = sum(p[k] * (1 - v[k]) for _, p, v in members)
        fn = sum((1 - p[k]) * v[k] for _, p, v in members)
        correlation = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return weights[k] * (1 - correlation)

    def mean(values):
        return sum(values) / len(values) if values else 0.0

    of_image = [[row for row in rows if row[0] == i] for i in range(n)]
    if average == "dataset":
        return mean([loss(rows, k) for k in range(c) if held(rows, k)])
    if average == "image":
        used = [[loss(members, k) for k in range(c) if held(members, k)] for members in of_image]
        return mean([mean(values) for values in used if values])
    if average == "class":
        used = [[loss(members, k) for members in of_image if held(members, k)] for k in range(c)]
        return mean([mean(values) for values in used if values])
    return sum(weight * mcc(logits, target, smooth, classes, name, class_weights)
               for name, weight in average.items())  # fmt: skip
