"""True positive, false positive and false negative mass per image and class: the shared step of
all region losses and all overlap metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Regions:
    """Soft tp, fp and fn, each (N, C): one row per image, one column per class."""

    tp: Tensor
    fp: Tensor
    fn: Tensor

    def pool_images(self) -> Regions:
        """(1, C): all images as one."""
        return Regions(*(part.sum(0, keepdim=True) for part in (self.tp, self.fp, self.fn)))

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


def of_hard(probs: Tensor, labels: Tensor, valid: Tensor, *, squared: bool = False) -> Regions:
    """Regions of probabilities (N, C, P) against labels (N, P), without a one-hot.

    For hard labels the inner product and the minimum agree: tp_c sums p_c over pixels of class c.
    """
    n, c, _ = probs.shape
    weight = valid.to(probs.dtype)
    of_label = probs.gather(1, labels.unsqueeze(1)).squeeze(1) * weight
    zeros = torch.zeros(n, c, dtype=torch.float64, device=probs.device)
    tp = zeros.scatter_add(1, labels, of_label.double())
    label_mass = zeros.scatter_add(1, labels, weight.double())
    mass = torch.einsum("ncp,np->nc", probs * probs if squared else probs, weight).double()
    return Regions(tp, mass - tp, label_mass - tp)


def of_soft(probs: Tensor, soft: Tensor, valid: Tensor, *, product: bool, squared: bool = False) -> Regions:
    """Regions of probabilities against a soft target, both (N, C, P).

    product=False takes tp = sum min(x, y), the exact form of (|x| + |y| - |x - y|) / 2 for
    non-negative x, y, without its cancellation; product=True takes tp = sum x y. squared (with
    the product) measures masses by sum x^2 instead of sum x.
    """
    weight = valid.unsqueeze(1).to(probs.dtype)
    x, y = probs * weight, soft * weight
    tp = (x * y if product else torch.minimum(x, y)).sum(2, dtype=torch.float64)
    mass = (x * x if squared else x).sum(2, dtype=torch.float64)
    label_mass = (y * y if squared else y).sum(2, dtype=torch.float64)
    return Regions(tp, mass - tp, label_mass - tp)
