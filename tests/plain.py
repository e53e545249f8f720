"""Every formula a second time: loops and floats, no torch, no vectors. Slow on purpose."""

from __future__ import annotations

import math
from itertools import product


def softmax(scores):
    top = max(scores)
    powers = [math.exp(s - top) for s in scores]
    return [p / sum(powers) for p in powers]


def counts(labels, target, num_classes, void=255, reject=255):
    """[image][class] -> (tp, fp, fn), and [image] -> (valid, rejected)."""
    table, totals = [], []
    for predicted, true in zip(labels, target, strict=True):
        rows = [[0, 0, 0] for _ in range(num_classes)]
        valid = rejected = 0
        for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True):
            if t == void:
                continue
            valid += 1
            if p == t:
                rows[t][0] += 1
            else:
                rows[t][2] += 1
                if p == reject:
                    rejected += 1
                else:
                    rows[p][1] += 1
        table.append([tuple(row) for row in rows])
        totals.append((valid, rejected))
    return table, totals


def value(metric, tp, fp, fn):
    numerator, denominator = {"iou": (tp, tp + fp + fn), "dice": (2 * tp, 2 * tp + fp + fn), "acc": (tp, tp + fn)}[
        metric
    ]
    return numerator / denominator if denominator else None


def mean(values):
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else None


def worst(values, q):
    defined = sorted(v for v in values if v is not None)
    if not defined:
        return None
    number = max(1, (len(defined) * q) // 100)
    return mean(defined[:number])


def summarize(table, metric, q):
    """dataset, image, class means and the worst q % of image and class; q a whole number."""
    c = len(table[0])
    pooled = [value(metric, *(sum(row[k][j] for row in table) for j in range(3))) for k in range(c)]
    cells = [
        [value(metric, *row[k]) if row[k][0] + row[k][2] > 0 else None for k in range(c)] for row in table
    ]  # absent from the label: left out
    images = [mean(row) for row in cells]
    of_class = [[row[k] for row in cells] for k in range(c)]
    return {
        "dataset": mean(pooled),
        "image": mean(images),
        "class": mean([mean(column) for column in of_class]),
        f"image_q{q}": worst(images, q),
        f"class_q{q}": mean([worst(column, q) for column in of_class]),
        "image_qbar": mean([worst(images, t) for t in range(10, 101, 10)]),
        "class_qbar": mean([mean([worst(column, t) for column in of_class]) for t in range(10, 101, 10)]),
    }


def share_reaching(table, threshold):
    """Share of (image, class) pairs of the label with IoU >= threshold (a Fraction), and the mean over classes."""
    c = len(table[0])
    hits = [[r[k][0] >= threshold * sum(r[k]) for r in table if r[k][0] + r[k][2] > 0] for k in range(c)]
    pairs = [hit for column in hits for hit in column]
    of_class = [sum(column) / len(column) for column in hits if column]
    return sum(pairs) / len(pairs), sum(of_class) / len(of_class)


def calibration(probs, target, bins, void=255):
    """All calibration scores of probs [image][class][y][x], pixel by pixel."""
    c = len(probs[0])
    images = []
    for p, t in zip(probs, target, strict=True):
        pixels = []
        for y, x in product(range(t.shape[0]), range(t.shape[1])):
            if int(t[y, x]) != void:
                pixels.append(([float(v) for v in p[:, y, x]], int(t[y, x])))
        images.append(pixels)
    pooled = [pixel for pixels in images for pixel in pixels]
    held = [pixels for pixels in images if pixels]

    def ece(pixels):
        return binned_gap([(max(v), v.index(max(v)) == true) for v, true in pixels], bins)

    def sce(pixels, classes, jdt):
        gaps = []
        for k in classes:
            right = [true == k and (not jdt or v.index(max(v)) == k) for v, true in pixels]
            gaps.append(binned_gap([(v[k], r) for (v, _), r in zip(pixels, right, strict=True)], bins))
        return mean(gaps)

    def nll(pixels):
        return mean([-math.log(max(v[true], 1e-12)) for v, true in pixels])

    def brier(pixels):
        return mean([sum((q - (j == true)) ** 2 for j, q in enumerate(v)) for v, true in pixels])

    found = {"ece_dataset": ece(pooled), "ece_image": mean([ece(pixels) for pixels in held])}
    for name, jdt in (("sce", False), ("sce_jdt", True)):
        found[f"{name}_dataset"] = sce(pooled, range(c) if c > 2 else [1], jdt)
        found[f"{name}_image"] = mean([sce(pixels, sorted({t for _, t in pixels}), jdt) for pixels in held])
    for name, score in (("nll", nll), ("brier", brier)):
        found |= {f"{name}_dataset": score(pooled), f"{name}_image": mean([score(pixels) for pixels in held])}
    order = sorted(((max(v), v.index(max(v)) == true) for v, true in pooled), key=lambda pair: pair[0])
    sizes = [len(order) // bins + (k < len(order) % bins) for k in range(bins)]
    gap, first = 0.0, 0
    for size in sizes:
        part = order[first : first + size]
        gap += abs(sum(q - hit for q, hit in part))
        first += size
    found["ace"] = gap / len(order)
    wrong, risks = 0, []
    for number, (_, hit) in enumerate(reversed(order), 1):
        wrong += not hit
        risks.append(wrong / number)
    found["aurc"] = mean(risks)
    return found


def binned_gap(pairs, bins):
    """Weighted gap of (probability, right) in bins [k / n, (k + 1) / n), the last closed."""
    sums = [[0.0, 0] for _ in range(bins)]
    for q, right in pairs:
        k = min(int(q * bins), bins - 1)
        sums[k][0] += q
        sums[k][1] += right
    return sum(abs(a - b) for a, b in sums) / len(pairs)


def inside(mask, y, x):
    return 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]


def band(mask, void, steps):
    """Mask pixels within `steps` (chessboard) of a pixel outside of mask and void, or of the image's edge."""
    found = set()
    for y, x in product(range(mask.shape[0]), range(mask.shape[1])):
        if not mask[y, x] or void[y, x]:
            continue
        near = product(range(y - steps, y + steps + 1), range(x - steps, x + steps + 1))
        if any(not inside(mask, a, b) or not (mask[a, b] or void[a, b]) for a, b in near):
            found.add((y, x))
    return found


def contour(mask, void):
    """Mask pixels with a 4-neighbour that is neither mask nor void."""
    found = []
    for y, x in product(range(mask.shape[0]), range(mask.shape[1])):
        if mask[y, x] and not void[y, x]:
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            if any(inside(mask, a, b) and not (mask[a, b] or void[a, b]) for a, b in around):
                found.append((y, x))
    return found


def nearest(points, others):
    return [min(math.dist(p, q) for q in others) for p in points]


def percentile(values, share):
    """Linear interpolation between order statistics."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def dense_crf(image, probs, pos_w, pos_xy_std, bi_w, bi_xy_std, bi_rgb_std, iterations, normalization):
    """Mean field by a double loop over pixels."""
    h, w = image.shape[:2]
    places = list(product(range(h), range(w)))
    c = len(probs)

    def kernel(a, b, xy, rgb):
        d = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / xy**2
        if rgb:
            d += sum((float(image[a][j]) - float(image[b][j])) ** 2 for j in range(3)) / rgb**2
        return math.exp(-d / 2)

    matrices = []
    for weight, xy, rgb in ((pos_w, pos_xy_std, None), (bi_w, bi_xy_std, bi_rgb_std)):
        rows = [[kernel(a, b, xy, rgb) for b in places] for a in places]
        sums = [sum(row) for row in rows]
        matrices.append((weight, rows, sums))
    unary = [[math.log(float(probs[k][p])) for k in range(c)] for p in places]
    q = [softmax(row) for row in unary]
    for _ in range(iterations):
        new = []
        for i in range(len(places)):
            message = [0.0] * c
            for weight, rows, sums in matrices:
                for j in range(len(places)):
                    norm = {
                        "symmetric": 1 / math.sqrt(sums[i] * sums[j]),
                        "before": 1 / sums[j],
                        "after": 1 / sums[i],
                        "none": 1.0,
                    }[normalization]
                    for k in range(c):
                        message[k] += weight * rows[i][j] * norm * q[j][k]
            new.append(softmax([u + m for u, m in zip(unary[i], message, strict=True)]))
        q = new
    return q
