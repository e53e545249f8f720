"""Convolutions with batch norm, and dropout that can stay awake."""

from __future__ import annotations

from torch import nn

from segpipe.core.errors import ConfigError


def convolution(inputs: int, outputs: int, size: int = 3, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the map keeps its size but for the stride."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2 * dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def double(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions."""
    return nn.Sequential(convolution(inputs, outputs), convolution(outputs, outputs))


def separable(inputs: int, outputs: int, *, dilation: int = 1) -> nn.Sequential:
    """Depthwise, then pointwise convolution, each with batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        *convolution(inputs, outputs, 1),
    )


def check(name: str, dropout: float, **sizes: int) -> None:
    """ConfigError for a size below 1 or a dropout outside [0, 1)."""
    for option, value in sizes.items():
        if value < 1:
            raise ConfigError(f"model '{name}': {option} is {value}, wanted at least 1")
    if not 0 <= dropout < 1:
        raise ConfigError(f"model '{name}': dropout is {dropout}, wanted a share in [0, 1)")


def awake(model: nn.Module) -> nn.Module:
    """Evaluation mode, but dropout still drops: what Monte Carlo inference samples from.

    Raises:
        ConfigError: the network drops nothing.
    """
    model.eval()
    layers = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    if not layers:
        raise ConfigError("Monte Carlo passes need a network with dropout; train it with model.dropout above 0")
    for layer in layers:
        layer.train()
    return model
