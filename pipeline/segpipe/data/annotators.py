"""Three annotators of the scenes with habits of their own, and the label errors planted in train."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.seeding import mix
from segpipe.core.void import VOID
from segpipe.data.paint import Scene

Labels = NDArray[np.uint8]
DRAWN_FAT = (5, 6, 7)  # car, pole, person
PLANTED_PERCENT = 4
_SEED = 20261120
_SMALLEST_ERROR = 12  # pixels; smaller things carry no planted error


def annotate(labels: Labels) -> tuple[Labels, Labels, Labels]:
    """Three habits: the careful one draws what is there; the generous one draws small things one
    pixel fatter; the hasty one draws in blocks of 3 x 3 and leaves busy blocks void.
    """
    generous = labels.copy()
    for class_id in DRAWN_FAT:
        mask = labels == class_id
        padded = np.pad(mask, 1)
        grown = np.zeros_like(mask)
        for dy in range(3):
            for dx in range(3):
                grown |= padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]]
        generous[grown & (labels != VOID)] = class_id
    return labels, generous, _in_blocks(labels)


def _in_blocks(labels: Labels) -> Labels:
    """Every block takes the label of its centre; blocks with three or more classes become void."""
    height, width = labels.shape
    padded = np.pad(labels, ((0, -height % 3), (0, -width % 3)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 3, 3, padded.shape[1] // 3, 3).swapaxes(1, 2).reshape(-1, 9)
    kinds = 1 + (np.diff(np.sort(blocks, 1), axis=1) != 0).sum(1)
    chosen = np.where(kinds >= 3, VOID, blocks[:, 4])
    tiled = chosen.reshape(padded.shape[0] // 3, padded.shape[1] // 3).repeat(3, 0).repeat(3, 1)
    return tiled[:height, :width].astype(np.uint8)


def plant(scenes: list[Scene]) -> dict[str, list[dict[str, Any]]]:
    """Change the class of 4 % of the things in place; the record of what was done, by image."""
    things: list[tuple[int, Scene, int]] = []
    for scene in scenes:
        sizes = np.bincount(scene.instances.ravel(), minlength=len(scene.classes) + 1)
        for number in range(1, len(scene.classes) + 1):
            if sizes[number] >= _SMALLEST_ERROR:
                things.append((mix(_SEED, 7, len(things)), scene, number))
    chosen = sorted(things, key=lambda thing: thing[0])[: len(things) * PLANTED_PERCENT // 100]
    record: dict[str, list[dict[str, Any]]] = {}
    for key, scene, number in chosen:
        where = scene.instances == number
        true = scene.classes[number - 1]
        rows, columns = np.nonzero(where)
        box = [int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1]
        around = scene.labels[max(0, box[0] - 2) : box[2] + 2, max(0, box[1] - 2) : box[3] + 2]
        beside = np.bincount(around[around < 8], minlength=8)
        beside[true] = 0
        missed = key % 2 == 0 and beside.any()
        others = [c for c in range(8) if c != true]
        planted = int(beside.argmax()) if missed else others[key // 2 % len(others)]
        scene.labels[where] = planted
        record.setdefault(scene.id, []).append(
            {
                "true": int(true),
                "planted": planted,
                "kind": "missed" if missed else "swapped",
                "pixels": int(where.sum()),
                "box": box,
            }
        )
    return record
