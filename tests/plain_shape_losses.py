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


def cldice(logits, target, iterations=3, smooth=1.0, classes="present"):
    _, c, h, w = logits.shape

    def around(grid, y, x, steps):
        return [grid[y + dy][x + dx] for dy, dx in steps if 0 <= y + dy < h and 0 <= x + dx < w]

    cross = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    square = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]

    def each(function):
        return [[function(y, x) for x in range(w)] for y in range(h)]

    def eroded(grid):
        return each(lambda y, x: min(around(grid, y, x, cross)))

    def opened(grid):
        small = eroded(grid)
        return each(lambda y, x: max(around(small, y, x, square)))

    def skeleton(grid):
        opening = opened(grid)
        found = each(lambda y, x: max(0.0, grid[y][x] - opening[y][x]))
        for _ in range(iterations):
            grid = eroded(grid)
            opening = opened(grid)
            before = found
            removed = [[max(0.0, a - b) for a, b in zip(r, s, strict=True)] for r, s in zip(grid, opening, strict=True)]
            found = [
                [s + max(0.0, d - s * d) for s, d in zip(rows, more, strict=True)]
                for rows, more in zip(before, removed, strict=True)
            ]
        return found

    def inside(thin, thick):
        both = sum(a * b for r, s in zip(thin, thick, strict=True) for a, b in zip(r, s, strict=True))
        return (both + smooth) / (sum(map(sum, thin)) + smooth)

    means = []
    for pixels in images(logits, target):
        if not pixels:
            continue
        held = [k for k in range(c) if any(v[k] == max(v) for _, v in pixels.values())]
        if classes != "present":
            held = list(range(c)) if classes == "all" else classes
        values = []
        for k in held:
            p, v = ([[pixels[y, x][part][k] if (y, x) in pixels else 0.0 for x in range(w)] for y in range(h)]
                    for part in (0, 1))  # fmt: skip
            precision, sensitivity = inside(skeleton(p), v), inside(skeleton(v), p)
            values.append(1 - 2 * precision * sensitivity / (precision + sensitivity))
        means.append(sum(values) / len(values) if values else 0.0)
    return sum(means) / len(means) if means else 0.0
