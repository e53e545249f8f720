"""Every loss a second time, under the name it is registered by: loops and floats. Slow on purpose.

Here: losses of neighbours and of whole maps; those of pixels and of regions have files of their own.
"""

from __future__ import annotations

import math

import plain_pixel_losses
import plain_region_losses
import plain_shape_losses
from plain import softmax
from plain_pixel_losses import ce, pixels, places


def of(name):
    """The plain version of a registered loss."""
    return {**vars(plain_pixel_losses), **vars(plain_region_losses), **vars(plain_shape_losses), **globals()}[name]


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
