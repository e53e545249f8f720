"""Batch norm whose statistics are those of all processes together, on any device.

torch's SyncBatchNorm refuses the CPU.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from segpipe.core import distributed


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d over the batch of all processes; `alone`: over that of this process."""

    alone = False

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W), normalised by the means and variances of all processes' features."""
        if self.alone or not (self.training and distributed.active()):
            normal: Tensor = super().forward(features)
            return normal
        axes = (0, 2, 3)
        number = torch.full((1,), features.numel() / features.shape[1], dtype=torch.float64, device=features.device)
        sums = features.sum(axes, dtype=torch.float64), features.double().square().sum(axes)
        total = distributed.all_sum(torch.cat([*sums, number]))
        first, second, n = total[: len(sums[0])], total[len(sums[0]) : -1], total[-1:]
        mean, variance = first / n, (second / n - (first / n) ** 2).clamp(min=0)
        self._remember(mean.detach(), variance.detach() * n / (n - 1).clamp(min=1))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = (self.bias if self.affine else 0) - mean * scale
        found = features.float() * scale.float()[:, None, None] + shift.float()[:, None, None]
        typed: Tensor = found.to(features.dtype)
        return typed

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(variance.to(self.running_var), momentum)


def share(model: nn.Module) -> nn.Module:
    """Make every BatchNorm2d of the model a shared one, in place; weights and their names stay."""
    for layer in model.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SharedBatchNorm2d
    return model


def wrap(model: nn.Module) -> nn.Module:
    """The model with gradients averaged over processes; buffers need no exchange, they are shared already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames the option, older ones lack the new name
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
