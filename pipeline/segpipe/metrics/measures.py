"""Measures of one class from its pixels: what IoU, Dice and accuracy are before anything is averaged.

A measure is a registered function of tp, fp and fn (arrays of one shape) that is NaN where it is undefined. The scores
`m<measure>_dataset`, `_image`, `_class` and their worst cases follow from it once `evaluate.measures` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from numpy.typing import NDArray

from segpipe.core import registry
from segpipe.core.registry import register
from segpipe.metrics.defined import Floats, divide

PACKAGE = "segpipe.metrics.measures"
DEFAULT = ("acc", "iou", "dice")
Array = NDArray[Any]
Measure = Callable[[Array, Array, Array], Floats]


def names() -> tuple[str, ...]:
    """The names of all measures.

    >>> names()[:3]
    ('acc', 'iou', 'dice')
    """
    return tuple(registry.entries(PACKAGE))


def entry(name: str) -> registry.Entry:
    """The measure called `name`; ConfigError names the near miss."""
    return registry.find(PACKAGE, "measure", name)


def load(name: str) -> Measure:
    """The function of a measure."""
    return entry(name).load()


def named_in(scores: Collection[str]) -> tuple[str, ...]:
    """The measures that names of scores speak of.

    >>> named_in(["miou_dataset", "mdice_image_q5", "share_iou_ge_0.5"])
    ('iou', 'dice')
    """
    return tuple(name for name in names() if any(score.startswith(f"m{name}_") for score in scores))


@register("acc", source="recall: tp / (tp + fn)")
def acc(tp: Array, fp: Array, fn: Array) -> Floats:
    """Share of a class's pixels that are found."""
    del fp
    return divide(tp, tp + fn)


@register("iou", source="Jaccard 1912: tp / (tp + fp + fn)")
def iou(tp: Array, fp: Array, fn: Array) -> Floats:
    """Intersection over union of label and prediction."""
    return divide(tp, tp + fp + fn)


@register("dice", source="Dice 1945, F1: 2 tp / (2 tp + fp + fn)")
def dice(tp: Array, fp: Array, fn: Array) -> Floats:
    """Twice the intersection over the sum of both areas."""
    return divide(2 * tp, 2 * tp + fp + fn)
