"""A decoder that adds a pyramid of features over any encoder: light on a CPU, and made for pretrained encoders."""

from __future__ import annotations

from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.core.upsample import upsample
from segpipe.models.blocks import encoders
from segpipe.models.blocks.layers import check, convolution, separable


@register("pyramid", source="Lin et al. 2017, arXiv:1612.03144, with separable convolutions and sums")
class Pyramid(nn.Module):
    """Feature pyramid over `encoder`: every stage as `width` channels, coarse ones added to finer ones.

    `pretrained: imagenet` starts from weights that `segpipe[pretrained]` brings; with them take
    `prepare.normalization: symmetric`. Logits at `output_stride`.
    """

    def __init__(
        self, num_classes: int, *, encoder: str = "residual", pretrained: str = "none", width: int = 64,
        output_stride: int = 4, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        check("pyramid", dropout, width=width)
        self.encoder = encoders.create(encoder, pretrained)
        if output_stride not in self.encoder.strides[:3]:
            wanted = ", ".join(map(str, self.encoder.strides[:3]))
            raise ConfigError(f"model 'pyramid': output_stride is {output_stride}, wanted {wanted} for '{encoder}'")
        self.stride = output_stride
        self.finest = self.encoder.strides.index(output_stride)
        self.lateral = nn.ModuleList(convolution(c, width, 1) for c in self.encoder.channels[self.finest :])
        self.smooth = nn.ModuleList(separable(width, width) for _ in self.encoder.channels[self.finest :])
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, C, ceil(H / stride), ceil(W / stride))."""
        stages = self.encoder(image)[self.finest :]
        features = self.smooth[-1](self.lateral[-1](stages[-1]))
        for stage, lateral, smooth in zip(stages[-2::-1], self.lateral[-2::-1], self.smooth[-2::-1], strict=True):
            features = smooth(lateral(stage) + upsample(features, stage.shape[-2:]))
        logits: Tensor = self.head(self.dropout(features))
        return logits
