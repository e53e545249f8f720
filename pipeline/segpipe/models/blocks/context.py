"""Necks and heads that look at more of the image: JPU, ASPP and the pyramid; they compose.

Branches that pool have no batch norm, which could not be trained on one value a channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.core.upsample import upsample
from segpipe.models.blocks.layers import convolution, separable

HEADS = ("fcn", "psp", "aspp")


class JPU(nn.Module):
    """Joint pyramid upsampling of the last three stages to the finest of them (Wu et al. 2019, arXiv:1903.11816)."""

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.channels = 4 * width
        self.lateral = nn.ModuleList(convolution(channels, width) for channels in inputs)
        self.dilated = nn.ModuleList(separable(3 * width, width, dilation=dilation) for dilation in (1, 2, 4, 8))

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Three maps, finest first -> (N, 4 width, h, w) at the finest."""
        size = stages[0].shape[-2:]
        joint = torch.cat([upsample(layer(x), size) for layer, x in zip(self.lateral, stages, strict=True)], 1)
        return torch.cat([layer(joint) for layer in self.dilated], 1)


class FCN(nn.Module):
    """One convolution (Long et al. 2015, arXiv:1411.4038)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.project = convolution(inputs, width)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, h, w) -> (N, width, h, w)."""
        found: Tensor = self.project(features)
        return found


class PSP(nn.Module):
    """Pyramid pooling (Zhao et al. 2017, arXiv:1612.01105, fig. 3): means over grids of 1, 2, 3 and 6 cells a side."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        part = max(1, inputs // 4)
        self.cells = (1, 2, 3, 6)
        self.pooled = nn.ModuleList(nn.Conv2d(inputs, part, 1) for _ in self.cells)
        self.project = convolution(inputs + 4 * part, width)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, h, w) -> (N, width, h, w)."""
        found = [features]
        for cells, layer in zip(self.cells, self.pooled, strict=True):
            found.append(upsample(layer(_means(features, cells)).relu(), features.shape[-2:]))
        projected: Tensor = self.project(torch.cat(found, 1))
        return projected


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with the image's mean (Chen et al. 2017, arXiv:1706.05587, fig. 5)."""

    def __init__(self, inputs: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        branches = [convolution(inputs, width, 1), *(convolution(inputs, width, dilation=rate) for rate in rates)]
        self.branches = nn.ModuleList(branches)
        self.mean = nn.Conv2d(inputs, width, 1)
        self.project = convolution((2 + len(rates)) * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, h, w) -> (N, width, h, w)."""
        mean = self.mean(features.mean((2, 3), keepdim=True)).relu().expand(-1, -1, *features.shape[-2:])
        found: Tensor = self.project(torch.cat([*(branch(features) for branch in self.branches), mean], 1))
        return found


def head(name: str, inputs: int, width: int, rates: Sequence[int]) -> nn.Module:
    """FCN, PSP or ASPP by name."""
    if name not in HEADS:
        raise ConfigError(f"head is '{name}', wanted one of {', '.join(HEADS)}")
    return ASPP(inputs, width, rates) if name == "aspp" else (FCN if name == "fcn" else PSP)(inputs, width)


def _means(features: Tensor, cells: int) -> Tensor:
    """Means over cells x cells parts; torch's adaptive pooling has no deterministic gradient on CUDA."""
    for axis in (2, 3):
        side = features.shape[axis]
        bounds = [(i * side // cells, -(-(i + 1) * side // cells)) for i in range(cells)]
        features = torch.cat([features.narrow(axis, a, b - a).mean(axis, keepdim=True) for a, b in bounds], axis)
    return features
