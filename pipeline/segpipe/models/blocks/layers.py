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


def stem(name: str, width: int, stride: int) -> tuple[nn.Sequential, int]:
    """Strided convolutions from an image to stride 1, 2 or 4, and the channels of what they give."""
    if stride not in (1, 2, 4):
        raise ConfigError(f"model '{name}': stem_stride must be 1, 2 or 4, found {stride}")
    steps = stride.bit_length() - 1
    layers = (convolution(3 if i == 0 else width, width, stride=2) for i in range(steps))
    return nn.Sequential(*layers), width if steps else 3


def encoder(inputs: int, widths: list[int]) -> nn.ModuleList:
    """Two convolutions for each level."""
    return nn.ModuleList(double(i, o) for i, o in zip([inputs, *widths], widths, strict=False))


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
