"""Networks over a residual backbone: PSPNet, DeepLabV3, DeepLabV3+ and FastFCN, composed of necks and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.core.upsample import upsample
from segpipe.models.blocks.backbone import Residual
from segpipe.models.blocks.context import ASPP, JPU
from segpipe.models.blocks.context import head as make_head
from segpipe.models.blocks.layers import check, convolution

SKIP = 12  # channels of the decoder's skip in DeepLabV3+, 48 for its width of 256


class _Headed(nn.Module):
    """Backbone, head on its last stage, dropout, classifier; logits at the output stride."""

    def __init__(
        self, name: str, num_classes: int, kind: str, *, width: int, blocks: int, output_stride: int, dropout: float,
        rates: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        check(name, dropout, width=width, blocks=blocks)
        self.stride = output_stride
        self.backbone = _named(name, Residual, width=width, output_stride=output_stride, blocks=blocks)
        self.context = _named(name, make_head, kind, self.backbone.channels[3], 4 * width, rates)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(4 * width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, C, ceil(H / stride), ceil(W / stride))."""
        logits: Tensor = self.head(self.dropout(self.context(self.backbone(image)[3])))
        return logits


@register("pspnet", source="Zhao et al. 2017, arXiv:1612.01105, over a small residual backbone")
class PSPNet(_Headed):
    """Pyramid pooling over an atrous backbone."""

    def __init__(
        self, num_classes: int, *, width: int = 16, blocks: int = 1, output_stride: int = 8, dropout: float = 0.0
    ) -> None:
        super().__init__(
            "pspnet", num_classes, "psp", width=width, blocks=blocks, output_stride=output_stride, dropout=dropout
        )


@register("deeplabv3", source="Chen et al. 2017, arXiv:1706.05587, over a small residual backbone")
class DeepLabV3(_Headed):
    """ASPP over an atrous backbone; `rates` are those at output stride 16, doubled at 8."""

    def __init__(
        self, num_classes: int, *, width: int = 16, blocks: int = 1, output_stride: int = 8, dropout: float = 0.0,
        rates: Sequence[int] = (3, 6, 9),
    ) -> None:  # fmt: skip
        super().__init__(
            "deeplabv3", num_classes, "aspp", width=width, blocks=blocks, output_stride=output_stride, dropout=dropout,
            rates=_scaled("deeplabv3", rates, 16 // max(8, output_stride)),
        )  # fmt: skip


@register("deeplabv3plus", source="Chen et al. 2018, arXiv:1802.02611, fig. 2, over a small residual backbone")
class DeepLabV3Plus(nn.Module):
    """DeepLabV3 whose decoder adds the features of stride 4; logits at stride 4."""

    def __init__(
        self, num_classes: int, *, width: int = 16, blocks: int = 1, output_stride: int = 16, dropout: float = 0.0,
        rates: Sequence[int] = (3, 6, 9),
    ) -> None:  # fmt: skip
        super().__init__()
        check("deeplabv3plus", dropout, width=width, blocks=blocks)
        self.stride = 4
        self.backbone = _named("deeplabv3plus", Residual, width=width, output_stride=output_stride, blocks=blocks)
        channels = self.backbone.channels
        scaled = _scaled("deeplabv3plus", rates, 16 // max(8, output_stride))
        self.context = _named("deeplabv3plus", ASPP, channels[3], 4 * width, scaled)
        self.skip = convolution(channels[0], SKIP, 1)
        self.decoder = nn.Sequential(convolution(4 * width + SKIP, 4 * width), convolution(4 * width, 4 * width))
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(4 * width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, C, ceil(H / 4), ceil(W / 4))."""
        stages = self.backbone(image)
        fine = self.skip(stages[0])
        deep = upsample(self.context(stages[3]), fine.shape[-2:])
        logits: Tensor = self.head(self.dropout(self.decoder(torch.cat([deep, fine], 1))))
        return logits


@register("fastfcn", source="Wu et al. 2019, arXiv:1903.11816, over a small residual backbone")
class FastFCN(nn.Module):
    """A backbone of stride 32, joint pyramid upsampling to stride 8, then any head: aspp, psp or fcn."""

    def __init__(
        self, num_classes: int, *, width: int = 16, blocks: int = 1, head: str = "aspp", dropout: float = 0.0,
        rates: Sequence[int] = (3, 6, 9),
    ) -> None:  # fmt: skip
        super().__init__()
        check("fastfcn", dropout, width=width, blocks=blocks)
        self.stride = 8
        self.backbone = Residual(width=width, output_stride=32, blocks=blocks)
        self.neck = JPU(self.backbone.channels[1:], 2 * width)
        self.context = _named("fastfcn", make_head, head, self.neck.channels, 4 * width, _scaled("fastfcn", rates, 2))
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(4 * width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, C, ceil(H / 8), ceil(W / 8))."""
        logits: Tensor = self.head(self.dropout(self.context(self.neck(self.backbone(image)[1:]))))
        return logits


def _scaled(name: str, rates: Any, factor: int) -> list[int]:
    """Dilations given for output stride 16, at another one: never below 1."""
    if not isinstance(rates, list | tuple) or not rates or not all(type(r) is int and r >= 1 for r in rates):
        raise ConfigError(f"model '{name}': rates are {rates}, wanted a list of dilations of at least 1")
    return [max(1, rate * factor) for rate in rates]


def _named(name: str, make: Any, *arguments: Any, **options: Any) -> Any:
    """A part whose errors name the network."""
    try:
        return make(*arguments, **options)
    except ConfigError as error:
        raise ConfigError(f"model '{name}': {error}") from None
