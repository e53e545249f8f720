"""A refiner with one number that is searched and one that is not."""

import numpy as np

from segpipe.core.registry import register
from segpipe.refine.base import Refiner


@register("favour", source="a test", tuned=("factor",), may_be_zero=())
class Favour(Refiner):
    """One class made more probable."""

    def __init__(self, *, factor: float = 1.0, favoured: int = 0) -> None:
        self.factor, self.favoured = factor, favoured

    def apply(self, image, probs):  # noqa: ARG002
        weights = np.ones((len(probs), 1, 1), np.float32)
        weights[self.favoured] = self.factor
        raised = probs.astype(np.float32) * weights
        return raised / raised.sum(0)
