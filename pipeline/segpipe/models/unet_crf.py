"""The U-Net with a dense CRF as its last layer, trained end to end."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.crf.layer import DenseCRFLayer
from segpipe.models.unet import UNet


@register("unet_crf", source="Zheng et al. 2015, arXiv:1502.03240, over the network of `unet`")
class UNetCRF(nn.Module):
    """`unet` at full resolution, then `iterations` mean-field steps whose weights and widths are learned.

    Colours are those that the network sees, so bi_rgb_std is in units of the normalised image:
    0.2 with z-scores is about 13 of 255. Padding takes no part in the CRF.
    """

    def __init__(
        self, num_classes: int, *, width: int = 16, depth: int = 4, stem_stride: int = 2, dropout: float = 0.0,
        iterations: int = 5, pos_w: float = 1.0, pos_xy_std: float = 1.0, bi_w: float = 1.0, bi_xy_std: float = 15.0,
        bi_rgb_std: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stride = 1
        self.unary = UNet(num_classes, width=width, depth=depth, stem_stride=stem_stride, dropout=dropout)
        try:
            self.crf = DenseCRFLayer(
                pos_w=pos_w, pos_xy_std=pos_xy_std, bi_w=bi_w, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std,
                iterations=iterations,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"model 'unet_crf': {error}") from None

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, C, H, W)."""
        logits = self.unary(image)
        if logits.shape[-2:] != image.shape[-2:]:
            logits = functional.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
        refined: Tensor = self.crf(logits, image, ~padding(image))
        return refined


def padding(image: Tensor) -> Tensor:
    """(N, H, W) True on the rows and columns at the edges that hold one colour only, as padding does.

    An image's own rows of one colour at its edge are taken for padding too; they lose their messages, no more.
    """
    found = torch.zeros(image.shape[0], *image.shape[2:], dtype=torch.bool, device=image.device)
    for turned, mark in ((image, found), (image.flip(2, 3), found.flip(1, 2))):
        same = (turned == turned[:, :, :1, :1]).all(1)
        rows, columns = same.all(2).cummin(1).values, same.all(1).cummin(1).values
        mark |= rows[:, :, None] | columns[:, None, :]
        if mark is not found:
            found |= mark.flip(1, 2)
    return found
