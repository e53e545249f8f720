"""Focal losses of sigmoids: one foreground against background, or each class against the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from segpipe.core.batch import Batch
from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.losses.options import in_range


@register("binary_focal", source="Lin et al. 2017, arXiv:1708.02002, eq. 5", binary=True)
def binary_focal(batch: Batch, *, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """alpha_t (1 - p_t)^gamma (-log p_t) with the sigmoid's p_t, mean over valid pixels.

    p_t is p at the foreground and 1 - p elsewhere; alpha weighs the foreground, 1 - alpha the
    background, None neither. Logits (N, 1, H, W), or two classes, whose difference is taken.
    A soft y has p_t = p y + (1 - p)(1 - y). Finite slopes for every gamma >= 0 and any logit.
    Raises ConfigError for more than two classes.
    """
    _check("binary_focal", gamma, alpha)
    z, y = foreground("binary_focal", batch, "one_vs_rest_focal or focal")
    return batch.mean_over_valid(_focal(z, y, gamma, alpha))


@register("one_vs_rest_focal", source="Lin et al. 2017, arXiv:1708.02002, eq. 5, a sigmoid for each class")
def one_vs_rest_focal(batch: Batch, *, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Binary focal losses of each class against the rest: summed over classes, mean over valid pixels.

    What some libraries call focal loss for several classes. gamma = 0 is the sum of C binary
    cross entropies, not cross entropy; for a softmax use `focal`.
    """
    _check("one_vs_rest_focal", gamma, alpha)
    if batch.binary:
        return binary_focal(batch, gamma=gamma, alpha=alpha)
    z = batch.logits
    if batch.labels is None:
        assert batch.soft is not None
        return batch.mean_over_valid(_focal(z, batch.soft, gamma, alpha).sum(1))
    # All classes as negatives, then the labelled one corrected: no one-hot.
    of_label = z.gather(1, batch.labels.unsqueeze(1)).squeeze(1)
    zero, one = z.new_zeros(()), z.new_ones(())
    loss_map = _focal(z, zero, gamma, alpha).sum(1) - _focal(of_label, zero, gamma, alpha)
    return batch.mean_over_valid(loss_map + _focal(of_label, one, gamma, alpha))


def foreground(name: str, batch: Batch, instead: str) -> tuple[Tensor, Tensor]:
    """The logit (N, P) of class 1 against class 0 and the target (N, P) in 0..1, of a binary batch."""
    if batch.num_classes != 2:
        raise ConfigError(
            f"loss '{name}' is binary: wanted logits (N, 1, H, W) or two classes, found {batch.num_classes}; "
            f"use {instead}"
        )
    z = batch.logits[:, 1] - batch.logits[:, 0]
    if batch.labels is not None:
        return z, batch.labels.to(z.dtype)
    assert batch.soft is not None
    return z, batch.soft[:, 1]


def _focal(z: Tensor, y: Tensor, gamma: float, alpha: float | None) -> Tensor:
    """Elementwise; -log p_t = softplus(z) - z y, and 1 - p_t = y (1 - p) + (1 - y) p without cancellation."""
    loss = y * softplus(-z) + (1 - y) * softplus(z)
    if gamma:
        wrong = y * torch.sigmoid(-z) + (1 - y) * torch.sigmoid(z)
        loss = loss * wrong.clamp(min=torch.finfo(z.dtype).tiny).pow(gamma)
    return loss if alpha is None else loss * (alpha * y + (1 - alpha) * (1 - y))


def _check(name: str, gamma: float, alpha: float | None) -> None:
    in_range(name, "gamma", gamma, 0)
    if alpha is not None:
        if isinstance(alpha, bool) or not isinstance(alpha, int | float):
            raise ConfigError(f"loss '{name}': alpha is {alpha!r}, wanted the weight of the foreground, 0..1, or none")
        in_range(name, "alpha", alpha, 0, 1)
