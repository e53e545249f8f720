"""What a network costs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def multiply_adds(model: nn.Module, size: Sequence[int]) -> int:
    """Of one image of size (H, W): convolutions and products of matrices."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, *size))
    model.train(was_training)
    return int(counter.get_total_flops()) // 2
