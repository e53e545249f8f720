"""True positive, false positive and false negative mass per image and class: the shared step of
all region losses and all overlap metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from segpipe.core.batch import Batch


@dataclass(frozen=True)
class Regions:
    """Soft tp, fp and fn, each (N, C): one row per image, one column per class."""

    tp: Tensor
    fp: Tensor
    fn: Tensor

    def pool_images(self, total: Callable[[Tensor], Tensor] = lambda value: value) -> Regions:
        """(1, C): all images as one; `total` adds over processes."""
        return Regions(*total(torch.stack([self.tp, self.fp, self.fn]).sum(1, keepdim=True)))

    def pool_classes(self, columns: Tensor) -> Regions:
        """(N, 1): the chosen classes (a 0/1 mask of shape (C,)) as one."""
        return Regions(*((part * columns).sum(1, keepdim=True) for part in (self.tp, self.fp, self.fn)))

    def tversky(self, alpha: float, beta: float, smooth: float = 0.0) -> Tensor:
        """(N, C) index tp / (tp + alpha fp + beta fn); Jaccard is (1, 1), Dice is (1/2, 1/2).

        An index without any mass (0 / 0) is 1: nothing was missed and nothing invented.
        """
        numerator = self.tp + smooth
        denominator = self.tp + alpha * self.fp + beta * self.fn + smooth
        empty = denominator == 0
        return torch.where(empty, torch.ones_like(numerator), numerator / denominator.masked_fill(empty, 1))


def of_batch(batch: Batch, *, product: bool, squared: bool = False) -> Regions:
    """Regions of the softmax of a batch against its target.

    product=False takes tp = sum min(x, y), the exact form of (|x| + |y| - |x - y|) / 2 for
    non-negative x, y, without its cancellation; product=True takes tp = sum x y. For hard labels
    the two agree: tp_c sums p_c over the pixels of class c. squared (with the product) measures
    masses by sum x^2 instead of sum x.
    """
    if batch.labels is None:
        return _of_soft(batch, product=product or squared, squared=squared)
    of_label = batch.log_prob_of_label.exp().masked_fill(~batch.valid, 0)
    tp = torch.zeros_like(batch.label_mass).scatter_add(1, batch.labels, of_label.double())
    if squared:
        mass = batch.probs.square().masked_fill(~batch.valid.unsqueeze(1), 0).sum(2, dtype=torch.float64)
    else:
        mass = batch.mass
    return Regions(tp, mass - tp, batch.label_mass - tp)


def _of_soft(batch: Batch, *, product: bool, squared: bool) -> Regions:
    assert batch.soft is not None
    x, y = batch.probs.masked_fill(~batch.valid.unsqueeze(1), 0), batch.soft
    tp = (x * y if product else torch.minimum(x, y)).sum(2, dtype=torch.float64)
    mass = (x.square() if squared else x).sum(2, dtype=torch.float64)
    label_mass = y.square().sum(2, dtype=torch.float64) if squared else batch.label_mass
    return Regions(tp, mass - tp, label_mass - tp)
