"""Softmax of logits against hard labels: all that a loss needs, one pass forward, one backward.

Almost every loss of hard labels depends on the logits through three statistics alone:

    log p_y       (N, P)  log probability of the label,
    sum log p     (N, P)  sum of log p_c over classes (label smoothing),
    mass          (N, C)  sum of p_c over the valid pixels of an image (region losses).

With g, u and a the derivatives of the loss by them, and [.] the indicator,

    dL/dz_ic = g_i [c = y_i] + u_i + p_ic (a_c - sum_k a_k p_ik - g_i - C u_i).

Nothing of size (N, C, P) is kept: the backward pass recomputes p from the logits and their
logsumexp, block by block in cache. There is no one-hot, and on a GPU no synchronisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BLOCK = 2**19  # numbers of a block on a CPU: two megabytes, so that its passes stay in the cache
_BLOCK_GPU = 2**26


def label_statistics(logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(log p_y, sum log p, mass) of logits (N, C, P), labels (N, P) and valid (N, P).

    Void pixels give 0 and receive exactly zero gradient, whatever their logits hold. The first
    two have the logits' type (at least float32), mass is float64.
    """
    if torch.compiler.is_compiling():
        return _plain(logits, labels, valid)
    found: tuple[Tensor, Tensor, Tensor] = _LabelStatistics.apply(logits, labels, valid)  # type: ignore[no-untyped-call]
    return found


def _plain(logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same in a few operations that a compiler fuses by itself."""
    log_probs = torch.log_softmax(at_least_float32(logits).masked_fill(~valid[:, None], 0), 1)
    weight = valid.to(log_probs.dtype)
    of_label = log_probs.gather(1, labels[:, None]).squeeze(1) * weight
    mass = (log_probs.exp() * weight[:, None]).sum(2, dtype=torch.float64)
    return of_label, log_probs.sum(1) * weight, mass


def at_least_float32(logits: Tensor) -> Tensor:
    """Half precision as float32; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


class _LabelStatistics(torch.autograd.Function):
    """`label_statistics` with the backward pass of this module's head."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Block by block: logsumexp, log p_y, sum log p, mass."""
        n, c, p = logits.shape
        kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
        of_label = torch.empty(n, p, dtype=kind, device=logits.device)
        total, log_sum = torch.empty_like(of_label), torch.empty_like(of_label)
        mass = torch.zeros(n, c, dtype=torch.float64, device=logits.device)
        for image, part in _blocks(logits):
            block = logits[image, :, part].to(kind)
            top = block.amax(0)
            total[image, part] = block.sum(0)
            of_label[image, part] = block.gather(0, labels[image, part][None]).squeeze(0)
            powers = _zero_under_void(torch.sub(block, top).exp_(), valid[image, part])
            sums = powers.sum(0)
            log_sum[image, part] = top.add_(sums.log())
            mass[image] += torch.mv(powers, sums.clamp_(min=1).reciprocal_())  # under void 0 * 1
        void = ~valid
        of_label.sub_(log_sum).masked_fill_(void, 0)
        total.sub_(log_sum, alpha=c).masked_fill_(void, 0)
        ctx.save_for_backward(logits, labels, valid, log_sum)
        ctx.set_materialize_grads(False)
        return of_label, total, mass

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, of_label: Tensor | None, total: Tensor | None, mass: Tensor | None
    ) -> tuple[Tensor, None, None]:
        """The formula of this module's head; `shift` is all that a pixel adds to a."""
        logits, labels, valid, log_sum = ctx.saved_tensors
        kind, c = log_sum.dtype, logits.shape[1]
        grad = torch.empty_like(logits)
        shift = torch.zeros_like(log_sum)
        if of_label is not None:
            of_label = of_label.masked_fill(~valid, 0)
            shift -= of_label
        if total is not None:
            total = total.masked_fill(~valid, 0)
            shift.sub_(total, alpha=c)
        for image, part in _blocks(logits):
            block = logits[image, :, part].to(kind)
            probs = _zero_under_void(torch.sub(block, log_sum[image, part]).exp_(), valid[image, part])
            found = grad[image, :, part] if grad.dtype == kind else torch.empty_like(probs)
            if mass is None:
                torch.mul(probs, shift[image, part], out=found)
            else:
                of_class = mass[image].to(kind)
                outer = of_class[:, None] + (shift[image, part] - torch.mv(probs.t(), of_class))
                torch.mul(probs, outer, out=found)
            if total is not None:
                found.add_(total[image, part])
            if of_label is not None:
                found.scatter_add_(0, labels[image, part][None], of_label[image, part][None])
            if grad.dtype != kind:
                grad[image, :, part] = found
        return grad, None, None


def _blocks(logits: Tensor) -> Iterator[tuple[int, slice]]:
    """(image, pixels) of each block."""
    n, c, p = logits.shape
    length = max(1, (_BLOCK if logits.device.type == "cpu" else _BLOCK_GPU) // c)
    for image in range(n):
        for start in range(0, p, length):
            yield image, slice(start, min(start + length, p))


def _zero_under_void(block: Tensor, valid: Tensor) -> Tensor:
    """The block (C, L) with its void columns set to 0, even where they were not finite."""
    if block.device.type != "cpu":
        return block.masked_fill_(~valid, 0)
    return block if bool(valid.all()) else block.index_fill_(1, (~valid).nonzero().squeeze(1), 0)
