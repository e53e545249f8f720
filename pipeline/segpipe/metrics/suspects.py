"""Where labels may be wrong: regions in which networks that never saw the image confidently disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.argmax import label_and_confidence
from segpipe.core.opencv import cv2

_FLOOR = 1e-6  # smallest probability: one pixel must not decide
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Region:
    """A connected region with one label and one prediction; box is (top, left, bottom, right), end excluded.

    `core` are its pixels that are not beside its rim, `surprise` the mean of -log p(label) over them in
    nats, `score` is log(1 + core) times surprise: networks that often take one class for another still
    give it some probability; what a label never looked like, they do not.
    """

    label: int
    predicted: int
    area: int
    core: int
    surprise: float
    score: float
    box: tuple[int, int, int, int]


def regions(probs: NDArray[Any], target: NDArray[Any], *, ignore_index: int = 255, smallest: int = 12) -> list[Region]:
    """Suspect regions of one image, highest score first: probs (C, H, W) from networks not trained on it.

    Uncertain borders make thin regions, so only what a 3 x 3 erosion leaves counts: the idea of
    confident learning (Northcutt et al. 2021, arXiv:1911.00068), by region and not by pixel.

    Args:
        probs: probabilities, out of fold.
        target: labels (H, W).
        ignore_index: void, never suspect.
        smallest: regions of fewer pixels are left out.
    """
    predicted, _ = label_and_confidence(np.where(target == ignore_index, 0, probs))
    wrong = (predicted != target) & (target != ignore_index)
    of_label = np.take_along_axis(probs, np.where(wrong, target, 0)[None].astype(np.int64), 0)[0]
    surprise = np.where(wrong, -np.log(np.maximum(of_label, _FLOOR)), 0.0)
    code = np.where(wrong, target.astype(np.int64) * 256 + predicted, -1)
    found = []
    for pair in np.unique(code[wrong]):
        mask = (code == pair).astype(np.uint8)
        number, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        inner = cv2.erode(mask, _SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        for k in range(1, number):
            left, top, width, height, area = (int(value) for value in stats[k])
            if area < smallest:
                continue
            box = (slice(top, top + height), slice(left, left + width))
            here = parts[box] == k
            core = here & (inner[box] > 0)
            mean = float(surprise[box][core].mean()) if core.any() else 0.0
            found.append(
                Region(
                    label=int(pair) // 256,
                    predicted=int(pair) % 256,
                    area=area,
                    core=int(core.sum()),
                    surprise=mean,
                    score=math.log1p(int(core.sum())) * mean,
                    box=(top, left, top + height, left + width),
                )
            )
    return sorted(found, key=lambda region: (-region.score, region.box))


def confusion_of(found: Sequence[Region]) -> list[tuple[int, int, int, int]]:
    """(label, predicted, regions, pixels) of suspect regions, most pixels first."""
    table: dict[tuple[int, int], list[int]] = {}
    for region in found:
        row = table.setdefault((region.label, region.predicted), [0, 0])
        row[0] += 1
        row[1] += region.area
    rows = [(label, predicted, number, pixels) for (label, predicted), (number, pixels) in table.items()]
    return sorted(rows, key=lambda row: (-row[3], row[:2]))


def unanimity(labels: Sequence[NDArray[Any]], target: NDArray[Any], *, ignore_index: int = 255) -> float | None:
    """Share of the pixels on which most members are wrong where all but at most one say the same wrong class.

    High: the members see something that the label does not hold. Low: each errs in its own way. None
    when most are wrong nowhere, or when there is only one member.
    """
    members, valid = np.stack(labels), target != ignore_index
    wrong = (members != target) & valid
    mostly = wrong.sum(0) * 2 > len(members)
    if len(members) < 2 or not mostly.any():
        return None
    values = members[:, mostly]
    agreeing = np.zeros(values.shape[1], np.int64)
    for k in np.unique(values):
        votes = (values == k).sum(0)
        agreeing = np.where((target[mostly] != k) & (votes > agreeing), votes, agreeing)
    return float((agreeing >= max(2, len(members) - 1)).mean())
