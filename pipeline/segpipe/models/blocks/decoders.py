"""Decoders by name: what turns the features of any encoder into one map.

A decoder has a `stride`, that of its map, and the map's `channels`. Each is made of the channels and strides of the
encoder's features, finest first, a width, and the stride that is asked for (None: its usual one).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segpipe.core import registry
from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.core.upsample import upsample
from segpipe.models.blocks.context import ASPP, JPU, PSP
from segpipe.models.blocks.layers import convolution, double, separable

MODULE = "segpipe.models.blocks.decoders"
_SKIP = 48  # channels of the fine features in DeepLabV3+
_RATES = (3, 6, 9)  # dilations of ASPP at stride 16


class Decoder(nn.Module):
    """Features at rising strides -> (N, channels, ceil(H / stride), ceil(W / stride))."""

    stride: int
    channels: int


def create(name: str, channels: Sequence[int], strides: Sequence[int], width: int, stride: int | None) -> Decoder:
    """The decoder called `name`.

    Raises:
        ConfigError: unknown name, or a stride that it cannot end at over such features.
    """
    entry = registry.find(MODULE, "decoder", name)
    try:
        made: Decoder = entry.load()(channels, strides, width, stride)
    except ConfigError as error:
        raise ConfigError(f"decoder '{name}': {error}") from None
    return made


@register("pyramid", source="Lin et al. 2017, arXiv:1612.03144, with separable convolutions and sums")
class Pyramid(Decoder):
    """Coarse features added to finer ones: light on a CPU."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, stride: int | None) -> None:
        super().__init__()
        self.stride, self.channels = _chosen(stride, 4, strides), width
        self.finest = strides.index(self.stride)
        self.lateral = nn.ModuleList(convolution(c, width, 1) for c in channels[self.finest :])
        self.smooth = nn.ModuleList(separable(width, width) for _ in channels[self.finest :])

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Features, finest first -> (N, width, h, w)."""
        stages = stages[self.finest :]
        features: Tensor = self.smooth[-1](self.lateral[-1](stages[-1]))
        for stage, lateral, smooth in zip(stages[-2::-1], self.lateral[-2::-1], self.smooth[-2::-1], strict=True):
            features = smooth(lateral(stage) + upsample(features, stage.shape[-2:]))
        return features


@register("unet", source="Ronneberger et al. 2015, arXiv:1505.04597")
class UNet(Decoder):
    """Coarse features beside finer ones, then two convolutions; `width` channels at the finest, twice at the next."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, stride: int | None) -> None:
        super().__init__()
        self.stride, self.channels = _chosen(stride, 4, strides), width
        self.finest = strides.index(self.stride)
        skips, deep, blocks = channels[self.finest : -1], channels[-1], []
        for level, skip in reversed(list(enumerate(skips))):
            blocks.append(double(deep + skip, width * 2 ** min(level, 2)))
            deep = width * 2 ** min(level, 2)
        self.blocks = nn.ModuleList(blocks)
        self.alone = convolution(deep, width) if not skips else nn.Identity()

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Features, finest first -> (N, width, h, w)."""
        *skips, features = stages[self.finest :]
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            features = block(torch.cat([upsample(features, skip.shape[-2:]), skip], 1))
        found: Tensor = self.alone(features)
        return found


@register("deeplabv3plus", source="Chen et al. 2018, arXiv:1802.02611, fig. 2")
class DeepLabV3Plus(Decoder):
    """ASPP on the deepest features, joined by those of stride 4."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, stride: int | None) -> None:
        super().__init__()
        self.stride, self.channels = _chosen(stride, 4, [s for s in strides if s == 4]), width
        self.fine = strides.index(4)
        self.context = ASPP(channels[-1], width, [max(1, rate * 16 // strides[-1]) for rate in _RATES])
        self.skip = convolution(channels[self.fine], _SKIP, 1)
        self.join = double(width + _SKIP, width)

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Features, finest first -> (N, width, h, w)."""
        fine = self.skip(stages[self.fine])
        found: Tensor = self.join(torch.cat([upsample(self.context(stages[-1]), fine.shape[-2:]), fine], 1))
        return found


@register("psp", source="Zhao et al. 2017, arXiv:1612.01105, fig. 3")
class PyramidPooling(Decoder):
    """Pyramid pooling on the deepest features; best over an `encoder_stride` of 8."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, stride: int | None) -> None:
        super().__init__()
        self.stride, self.channels = _chosen(stride, strides[-1], strides[-1:]), width
        self.context = PSP(channels[-1], width)

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Features, finest first -> (N, width, h, w)."""
        found: Tensor = self.context(stages[-1])
        return found


@register("jpu", source="Wu et al. 2019, arXiv:1903.11816")
class JointPyramid(Decoder):
    """FastFCN: the last three features joined at stride 8, then ASPP; the encoder keeps its stride of 32."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, stride: int | None) -> None:
        super().__init__()
        if tuple(strides[-3:]) != (8, 16, 32):
            raise ConfigError(f"the last strides are {list(strides[-3:])}, wanted 8, 16, 32: set encoder_stride: 32")
        self.stride, self.channels = _chosen(stride, 8, (8,)), width
        self.neck = JPU(channels[-3:], width // 2)
        self.context = ASPP(self.neck.channels, width, [2 * rate for rate in _RATES])

    def forward(self, stages: list[Tensor]) -> Tensor:
        """Features, finest first -> (N, width, h, w)."""
        found: Tensor = self.context(self.neck(stages[-3:]))
        return found


def _chosen(wanted: int | None, usual: int, possible: Sequence[int]) -> int:
    """The stride of the map."""
    stride = usual if wanted is None else wanted
    if stride not in possible:
        there = ", ".join(map(str, dict.fromkeys(possible))) or "none over this encoder"
        raise ConfigError(f"output_stride is {stride}, possible here: {there}")
    return stride
