"""What to do when the memory of a GPU is too small: found by trying, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from segpipe.core.errors import ConfigError


def explain(
    trial: Callable[[int], None] | None, batch_size: int, size: Sequence[int], device: torch.device
) -> ConfigError:
    """The error that says which batch size would fit.

    Args:
        trial: does what a step does, with so many images; None where no single process can try.
        size: height and width of the images.
    """
    if trial is None:
        return ConfigError(
            f"a GPU has too little memory for its share of train.batch_size={batch_size}; lower it, and raise "
            "train.accumulate for steps of the same size"
        )
    fits = batch_size // 2
    while fits and not _works(trial, fits, device):
        fits //= 2
    if not fits:
        return ConfigError(
            f"{device} has too little memory for one image of {size[0]} x {size[1]}; lower prepare.height and "
            "prepare.width, set train.augment.crop, or take a smaller model"
        )
    return ConfigError(
        f"{device} has too little memory for train.batch_size={batch_size}; {fits} fits: set train.batch_size={fits} "
        f"and train.accumulate={-(-batch_size // fits)} for steps of the same size"
    )


def _works(trial: Callable[[int], None], images: int, device: torch.device) -> bool:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        trial(images)
    except (torch.OutOfMemoryError, ValueError):  # ValueError: batch norm of one value
        return False
    return True
