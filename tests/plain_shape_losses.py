"""Losses of shapes a second time: loops and floats. Slow on purpose."""

from __future__ import annotations

import math

from plain import softmax
from plain_pixel_losses import places


def images(logits, target):
    """By image: {(row, column): (probabilities, target vector)} of the valid pixels."""
    found = [{} for _ in range(len(logits))]
    for i, at, scores, vector in places(logits, target):
        found[i][at] = (softmax(scores), vector)
    return found


def nearest(at, others):
    """Distance to the nearest of some places; 0 where there is none."""
    return min((math.dist(at, other) for other in others), default=0.0)


def mean_of_classes(logits, target, value, classes):
    """The mean over images of the mean over classes of value(pixels of the image, class)."""
    means = []
    for pixels in images(logits, target):
        if not pixels:
            continue
        held = [k for k in range(logits.shape[1]) if any(v[k] > 0 for _, v in pixels.values())]
        if classes != "present":
            held = list(range(logits.shape[1])) if classes == "all" else classes
        means.append(sum(value(pixels, k) for k in held) / len(held) if held else 0.0)
    return sum(means) / len(means) if means else 0.0


def boundary(logits, target, classes="present"):
    def value(pixels, k):
        inside = [at for at, (_, v) in pixels.items() if v[k] == 1]
        outside = [at for at, (_, v) in pixels.items() if v[k] == 0]
        if not inside or not outside:
            return 0.0
        total = 0.0
        for at, (p, v) in pixels.items():
            total += p[k] * (1 - nearest(at, outside) if v[k] == 1 else nearest(at, inside))
        return total / len(pixels)

    return mean_of_classes(logits, target, value, classes)


def hausdorff(logits, target, alpha=2.0, classes="present"):
    def to_border(pixels, member, at):
        sides = [[other for other in pixels if member(other) == side] for side in (True, False)]
        if not all(sides):
            return 0.0
        return nearest(at, sides[1] if member(at) else sides[0])

    def power(distance):
        return distance**alpha

    def value(pixels, k):
        total = 0.0
        for at, (p, v) in pixels.items():
            weight = power(to_border(pixels, lambda o: pixels[o][1][k] == 1, at))
            weight += power(to_border(pixels, lambda o: pixels[o][0][k] > 0.5, at))
            total += (p[k] - v[k]) ** 2 * weight
        return total / len(pixels)

    return mean_of_classes(logits, target, value, classes)
