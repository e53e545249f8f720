"""SegNet, which remembers where its maxima were, and its Bayesian form."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segpipe.core.registry import register
from segpipe.models.blocks.layers import check, double, encoder, stem


@register("segnet", source="Badrinarayanan et al. 2017, arXiv:1511.00561, with a strided stem")
class SegNet(nn.Module):
    """Encoder and decoder of `depth` levels; the decoder unpools to where the encoder found its maxima.

    No features are passed across, only positions. Dropout follows the two deepest levels of both
    (the central dropout of arXiv:1511.02680, sec. 4.1).
    """

    def __init__(
        self, num_classes: int, *, width: int = 16, depth: int = 4, stem_stride: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check("segnet", dropout, width=width, depth=depth)
        self.stride = stem_stride
        widths = [width * 2**level for level in range(depth)]
        self.stem, first = stem("segnet", width, stem_stride)
        self.encoder = encoder(first, widths)
        self.decoder = nn.ModuleList(double(o, i) for i, o in zip([width, *widths], widths, strict=False))
        self.drop = nn.Dropout(dropout)
        self.central = max(0, depth - 2)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, C, ceil(H / stride), ceil(W / stride))."""
        features = self.stem(image)
        places = []
        for level, block in enumerate(self.encoder):
            features = block(features)
            size = features.shape[-2:]
            features, indices = functional.max_pool2d(features, 2, ceil_mode=True, return_indices=True)
            features = self.drop(features) if level >= self.central else features
            places.append((indices, size))
        for level, block in reversed(list(enumerate(self.decoder))):
            indices, size = places[level]
            features = block(unpool(features, indices, size))
            features = self.drop(features) if level >= self.central else features
        logits: Tensor = self.head(features)
        return logits


def unpool(features: Tensor, indices: Tensor, size: torch.Size) -> Tensor:
    """Put features (N, C, h, w) at the places in a (H, W) map that max pooling found, 0 elsewhere.

    Windows do not overlap, so places are unique; torch's own warns that it is not deterministic.
    """
    n, c = features.shape[:2]
    empty = features.new_zeros(n, c, size[0] * size[1])
    return empty.scatter(2, indices.flatten(2), features.flatten(2)).reshape(n, c, *size)


@register("bayesian_segnet", source="Kendall et al. 2015, arXiv:1511.02680")
class BayesianSegNet(SegNet):
    """SegNet with dropout 0.5; ask `predict` for Monte Carlo passes to sample from it."""

    def __init__(
        self, num_classes: int, *, width: int = 16, depth: int = 4, stem_stride: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__(num_classes, width=width, depth=depth, stem_stride=stem_stride, dropout=dropout)
