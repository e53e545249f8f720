"""Sums over the processes of torch.distributed, right for gradients that are averaged afterwards.

A loss that is no mean over pixels (a region loss over the data set, say) is not the mean of the
losses of the shards: its class sums must be added over processes first. DistributedDataParallel
averages gradients, so the backward pass of the sum must deliver the sum of the incoming gradients:
with W processes each holds the same loss L(S), S = sum_r s_r, and mean_r (W dL/dS) ds_r is dL.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def active() -> bool:
    """Whether there is more than one process to talk to."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_sum(value: Tensor) -> Tensor:
    """The sum of `value` over all processes; every process must call it, each step."""
    if not active():
        return value
    total: Tensor = _AllSum.apply(value)  # type: ignore[no-untyped-call]
    return total


def all_max(value: Tensor) -> Tensor:
    """The largest `value` over all processes, without gradient."""
    if not active():
        return value.detach()
    largest = value.detach().clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


class _AllSum(torch.autograd.Function):
    """all_reduce(SUM) forward and backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """The sum, in a new tensor."""
        del ctx
        return _reduced(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """The sum of the gradients of all processes."""
        del ctx
        return _reduced(grad)


def _reduced(value: Tensor) -> Tensor:
    total = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
