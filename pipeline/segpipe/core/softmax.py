"""Softmax of logits against hard labels: all that a loss needs, one pass forward, one backward.

Almost every loss of hard labels depends on the logits through three statistics alone:

    log p_y    (N, P)  log probability of the label,
    lse        (N, P)  log sum exp of the logits (label smoothing: sum_c log p_c = sum_c z_c - C lse),
    mass       (N, C)  sum of p_c over the valid pixels of an image (region losses).

With g, u and a the derivatives of the loss by them, and [.] the indicator,

    dL/dz_ic = g_i [c = y_i] + p_ic (a_c - sum_k a_k p_ik - g_i + u_i).

Nothing of size (N, C, P) is kept: the backward pass recomputes p from the logits and their
lse, block by block in cache. There is no one-hot, and on a GPU no synchronisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BLOCK = 2**19  # numbers of a block on a CPU: two megabytes, so that its passes stay in the cache
_BLOCK_GPU = 2**26


def label_statistics(logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(log p_y, lse, mass) of logits (N, C, P), labels (N, P) and valid (N, P).

    Void pixels give 0 and receive exactly zero gradient, whatever their logits hold. The first
    two have the logits' type (at least float32), mass is float64.
    """
    if torch.compiler.is_compiling():
        return _plain(logits, labels, valid)
    found: tuple[Tensor, Tensor, Tensor] = _LabelStatistics.apply(logits, labels, valid)  # type: ignore[no-untyped-call]
    return found


def _plain(logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same in a few operations that a compiler fuses by itself."""
    clean = at_least_float32(logits).masked_fill(~valid[:, None], 0)
    lse = clean.logsumexp(1)
    weight = valid.to(clean.dtype)
    of_label = (clean.gather(1, labels[:, None]).squeeze(1) - lse) * weight
    mass = ((clean - lse[:, None]).exp() * weight[:, None]).sum(2, dtype=torch.float64)
    return of_label, lse * weight, mass


def at_least_float32(logits: Tensor) -> Tensor:
    """Half precision as float32; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


class _LabelStatistics(torch.autograd.Function):
    """`label_statistics` with the backward pass of this module's head."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Block by block: log p_y, lse, mass."""
        n, c, p = logits.shape
        kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
        of_label = torch.empty(n, p, dtype=kind, device=logits.device)
        lse = torch.empty_like(of_label)
        mass = torch.zeros(n, c, dtype=torch.float64, device=logits.device)
        weight = valid.to(kind)
        gpu = logits.device.type != "cpu"
        ctx.poisoned = gpu  # whether void columns hold something that is not finite; on a GPU nobody looks
        for image, part in blocks(logits):
            block = logits[image, :, part].to(kind)
            top = block.amax(0)
            of_label[image, part] = block.gather(0, labels[image, part][None]).squeeze(0)
            powers = torch.sub(block, top).exp_()
            sums = powers.sum(0)
            lse[image, part] = top.add_(sums.log())
            share = weight[image, part] / sums
            if gpu or not bool(share.sum().isfinite()):
                ctx.poisoned = True
                powers.masked_fill_(~valid[image, part], 0)
                share.masked_fill_(~valid[image, part], 0)
            mass[image] += torch.mv(powers, share)
        void = ~valid
        of_label.sub_(lse).masked_fill_(void, 0)
        # lse = inf makes p = 0 at void in the backward pass; the output has 0 there
        ctx.save_for_backward(logits, labels, valid, lse.masked_fill(void, float("inf")))
        ctx.set_materialize_grads(False)
        return of_label, lse.masked_fill_(void, 0), mass

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, of_label: Tensor | None, of_lse: Tensor | None, mass: Tensor | None
    ) -> tuple[Tensor, None, None]:
        """The formula of this module's head; `shift` is what stands in its bracket for a pixel."""
        logits, labels, valid, lse = ctx.saved_tensors
        kind = lse.dtype
        grad = torch.empty_like(logits)
        shift = torch.zeros_like(lse) if of_lse is None else of_lse.masked_fill(~valid, 0)
        if of_label is not None:
            of_label = of_label.masked_fill(~valid, 0)
            shift = shift - of_label
        for image, part in blocks(logits):
            probs = torch.sub(logits[image, :, part].to(kind), lse[image, part]).exp_()
            if ctx.poisoned:
                probs.masked_fill_(~valid[image, part], 0)
            found = grad[image, :, part] if grad.dtype == kind else torch.empty_like(probs)
            if mass is None:
                torch.mul(probs, shift[image, part], out=found)
            else:
                weighted = probs * mass[image].to(kind)[:, None]
                torch.addcmul(weighted, probs, shift[image, part] - weighted.sum(0), out=found)
            if of_label is not None:
                found.scatter_add_(0, labels[image, part][None], of_label[image, part][None])
            if grad.dtype != kind:
                grad[image, :, part] = found
        return grad, None, None


def blocks(logits: Tensor) -> Iterator[tuple[int, slice]]:
    """(image, pixels) of blocks that stay in cache."""
    n, c, p = logits.shape
    length = max(1, (_BLOCK if logits.device.type == "cpu" else _BLOCK_GPU) // c)
    for image in range(n):
        for start in range(0, p, length):
            yield image, slice(start, min(start + length, p))
