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
    numerator, denominator = {
        "iou": (tp, tp + fp + fn),
        "dice": (2 * tp, 2 * tp + fp + fn),
        "acc": (tp, tp + fn),
    }[metric]
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


def calibration(probs, target, bins, void=255):
    """ece, nll, brier: pooled and averaged over images, for probs [image][class][y][x]."""
    per_image = []
    pooled = [[0, 0.0, 0] for _ in range(bins)]
    for p, t in zip(probs, target, strict=True):
        mine = [[0, 0.0, 0] for _ in range(bins)]
        nll = brier = 0.0
        number = 0
        for y, x in product(range(t.shape[0]), range(t.shape[1])):
            true = int(t[y, x])
            if true == void:
                continue
            vector = [float(v) for v in p[:, y, x]]
            top = max(vector)
            k = min(int(top * bins), bins - 1)
            for store in (mine[k], pooled[k]):
                store[0] += 1
                store[1] += top
                store[2] += vector.index(top) == true
            nll -= math.log(max(vector[true], 1e-12))
            brier += sum((v - (j == true)) ** 2 for j, v in enumerate(vector))
            number += 1
        if number:
            per_image.append((sum(abs(b[1] - b[2]) for b in mine) / number, nll, brier, number))
    total = sum(row[3] for row in per_image)
    return {
        "ece_dataset": sum(abs(b[1] - b[2]) for b in pooled) / total,
        "ece_image": mean([row[0] for row in per_image]),
        "nll_dataset": sum(row[1] for row in per_image) / total,
        "nll_image": mean([row[1] / row[3] for row in per_image]),
        "brier_dataset": sum(row[2] for row in per_image) / total,
        "brier_image": mean([row[2] / row[3] for row in per_image]),
    }


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
