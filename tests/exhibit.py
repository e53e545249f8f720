"""One fixed set of predictions, scored as each tool scores: the table that opens docs/metrics.md.

    python tests/exhibit.py     # prints it

12 images of 11 classes, made with integer arithmetic: the last class is in no label and no
prediction, the one before is predicted and never labelled, 6 % of the pixels are void.
"""

from __future__ import annotations

import numpy as np

from segpipe import metrics
from segpipe.core.seeding import mix

CLASSES, IMAGES, HEIGHT, WIDTH, BLOCK = 11, 12, 48, 64, 8
NEVER_LABELLED = 9


def draw(*key, below):
    return mix(20261121, *key) % below


def predictions():
    """(labels, target), both (N, H, W) uint8, void 255."""
    rows, columns = HEIGHT // BLOCK, WIDTH // BLOCK
    target = np.zeros((IMAGES, HEIGHT, WIDTH), np.uint8)
    labels = np.zeros_like(target)
    for i in range(IMAGES):
        street = [0, 1, 2, 3 + i % 6, 3 + (i + 1) % 6]  # each image holds five of nine classes
        coarse = [[street[min(4, draw(i, y, x, below=9) // 2)] for x in range(columns)] for y in range(rows)]
        target[i] = np.kron(np.array(coarse), np.ones((BLOCK, BLOCK), int))
        labels[i] = np.roll(target[i], draw(i, 1, below=3), 1)
        if i % 4 == 0:
            labels[i, :BLOCK, :BLOCK] = NEVER_LABELLED
        if i % 3 == 0:  # a rare class taken for a common one
            labels[i][labels[i] == street[4]] = 0
        for n in range(HEIGHT * WIDTH * 6 // 100):
            target[i, draw(i, n, 5, below=HEIGHT), draw(i, n, 6, below=WIDTH)] = 255
    return labels, target


def table():
    """Markdown: what each tool calls its number, and the number."""
    labels, target = predictions()
    counts = metrics.count(labels, target, CLASSES)
    ours = metrics.summarize(counts)
    rows = [
        ["segpipe `miou_dataset`", ours["miou_dataset"]],
        ["segpipe `miou_image`", ours["miou_image"]],
        ["segpipe `miou_class`", ours["miou_class"]],
    ]
    for tool, convention in metrics.CONVENTIONS.items():
        for name, value in convention(counts).items():
            if "IoU" in name or "iou" in name or "Jaccard" in name:
                rows.append([f"{tool} `{name}`", value])
    lines = ["| mean IoU according to | value |", "| :- | -: |"]
    lines += [f"| {name} | {value:.4f} |" for name, value in sorted(rows, key=lambda row: row[1])]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
