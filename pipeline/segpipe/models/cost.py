"""What a network costs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from segpipe.core.errors import ConfigError


def multiply_adds(model: nn.Module, size: Sequence[int]) -> int:
    """Of one image of size (H, W): convolutions and products of matrices.

    Raises:
        ConfigError: the network takes no images of this size, or they need too much memory.
    """
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, *size))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"the network cannot look at images of {size[0]} x {size[1]}: {reason}") from None
    model.train(was_training)
    return int(counter.get_total_flops()) // 2
