"""A small U-Net that is fast on a laptop: a strided stem, then encoder, skips and decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segpipe.core.registry import register
from segpipe.models.blocks.layers import check, double, encoder, stem


@register("unet", source="Ronneberger et al. 2015, arXiv:1505.04597, with a strided stem and batch norm")
class UNet(nn.Module):
    """U-Net with `width` channels at the first of `depth` levels; logits at `stem_stride`.

    The stem halves the image once (2) or twice (4): most time goes into the finest level, so a
    stride of 4 costs half of 2 and a fifth of full resolution, and blurs things under ~4 pixels.
    """

    def __init__(
        self, num_classes: int, *, width: int = 16, depth: int = 4, stem_stride: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check("unet", dropout, width=width, depth=depth)
        self.stride = stem_stride
        widths = [width * 2**level for level in range(depth)]
        self.stem, first = stem("unet", width, stem_stride)
        self.encoder = encoder(first, widths)
        self.decoder = nn.ModuleList(
            double(deep + skip, skip) for skip, deep in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, C, ceil(H / stride), ceil(W / stride))."""
        features = self.stem(image)
        skips = []
        for level, block in enumerate(self.encoder):
            features = block(functional.max_pool2d(features, 2, ceil_mode=True) if level else features)
            skips.append(features)
        skips.pop()
        features = self.dropout(features)
        for block in self.decoder:
            skip = skips.pop()
            features = functional.interpolate(features, size=skip.shape[-2:], mode="nearest")
            features = block(torch.cat([features, skip], 1))
        logits: Tensor = self.head(features)
        return logits
