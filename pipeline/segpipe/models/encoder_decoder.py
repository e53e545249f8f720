"""A network composed of an encoder and a decoder, both by name: what pretrained weights are for."""

from __future__ import annotations

from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.core.upsample import upsample
from segpipe.models.blocks import decoders, encoders
from segpipe.models.blocks.context import FCN
from segpipe.models.blocks.layers import check


@register("encoder_decoder", source="composed; the sources of its parts are listed below")
class EncoderDecoder(nn.Module):
    """Any encoder under any decoder, dropout and a classifier.

    pretrained: weights to start from, such as imagenet. encoder_stride: of the deepest features; below 32 the last
    stages are atrous (Chen et al. 2017, arXiv:1706.05587, fig. 3). output_stride: of the logits; 0 is the decoder's
    usual one. auxiliary: weight in the loss of a second classifier, on the features before the deepest ones (Zhao et
    al. 2017, arXiv:1612.01105, sec. 3.3: 0.4); it is there in training alone.
    """

    def __init__(
        self, num_classes: int, *, encoder: str = "residual", pretrained: str = "none", decoder: str = "pyramid",
        width: int = 64, encoder_stride: int = 32, output_stride: int = 0, dropout: float = 0.0, auxiliary: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        check("encoder_decoder", dropout, width=width)
        if not 0 <= auxiliary <= 1:
            raise ConfigError(f"model 'encoder_decoder': auxiliary is {auxiliary}, wanted a weight from 0 to 1")
        self.encoder = encoders.create(encoder, pretrained, encoder_stride)
        channels, strides = self.encoder.channels, self.encoder.strides
        self.decoder = decoders.create(decoder, channels, strides, width, output_stride or None)
        self.stride = self.decoder.stride
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(self.decoder.channels, num_classes, 1)
        self.auxiliary = auxiliary
        self.second = (
            nn.Sequential(FCN(channels[-2], max(1, width // 2)), nn.Conv2d(max(1, width // 2), num_classes, 1))
            if auxiliary
            else None
        )

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> logits (N, C, ceil(H / stride), ceil(W / stride)); in training with an auxiliary classifier
        also its logits, at the same size.
        """
        stages = self.encoder(image)
        logits: Tensor = self.head(self.dropout(self.decoder(stages)))
        if self.second is None or not self.training:
            return logits
        return logits, upsample(self.second(stages[-2]), logits.shape[-2:])
