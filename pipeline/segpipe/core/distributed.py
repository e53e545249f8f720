"""Sums over the processes of torch.distributed, right for gradients that are averaged afterwards.

A loss that is no mean over pixels (a region loss over the data set, say) is not the mean of the
losses of the shards: its class sums must be added over processes first. DistributedDataParallel
averages gradients, so the backward pass of the sum must deliver the sum of the incoming gradients:
with W processes each holds the same loss L(S), S = sum_r s_r, and mean_r (W dL/dS) ds_r is dL.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def active() -> bool:
    """Whether there is more than one process to talk to."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def launched() -> bool:
    """Whether a launcher such as torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: str) -> torch.device:
    """Meet the other processes; the device of this one."""
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        device = f"cuda:{torch.cuda.current_device()}"
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return torch.device(device)


def leave() -> None:
    """Part from the other processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process; 0 is the one that writes."""
    return dist.get_rank() if active() else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if active() else 1


def gather(value: Any) -> list[Any]:
    """A plain value of every process, in their order."""
    if not active():
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)
    return found


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
