"""What to do when the memory of a GPU is too small: found by trying, not guessed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from segpipe.core.errors import ConfigError


def explain(model: nn.Module, batch_size: int, shape: Sequence[int], device: torch.device) -> ConfigError:
    """The error that says which batch size would fit; images are (N, H, W, 3)."""
    fits = _largest(model, batch_size, (int(shape[1]), int(shape[2])), device)
    if not fits:
        return ConfigError(
            f"{device} has too little memory for one image of {shape[1]} x {shape[2]}; lower prepare.height and "
            "prepare.width, set train.augment.crop, or take a smaller model"
        )
    steps = -(-batch_size // fits)
    return ConfigError(
        f"{device} has too little memory for train.batch_size={batch_size}; {fits} fits: set train.batch_size={fits} "
        f"and train.accumulate={steps} for steps of the same size"
    )


def _largest(model: nn.Module, batch_size: int, size: tuple[int, int], device: torch.device) -> int:
    """The largest halving of the batch that a forward and a backward pass can hold, 0 for none."""
    fits = batch_size // 2
    while fits:
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            model(torch.zeros(fits, 3, *size, device=device)).square().mean().backward()
        except torch.OutOfMemoryError:
            fits //= 2
        except ValueError:  # batch norm of one value
            return 0
        else:
            return fits
    return 0
