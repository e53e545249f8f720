"""Networks of segmentation_models_pytorch and timm, by names: `smp:Unet/resnet34`, `smp:FPN/tu-regnetx_002`."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from segpipe.core.errors import ConfigError

MULTIPLE = 32  # of the sides that every encoder there takes


def create(name: str, num_classes: int, *, pretrained: str | None = None, **options: Any) -> nn.Module:
    """The network, logits at full resolution.

    Args:
        name: Architecture/encoder; an encoder of timm has the prefix tu-.
        pretrained: weights that the libraries download, e.g. imagenet; None: fresh ones.

    Raises:
        ConfigError: the extra is not installed, or the libraries refuse the name or an option.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        raise ConfigError(f"model 'smp:{name}' needs the extra: pip install 'segpipe[smp]'") from None
    architecture, _, encoder = name.partition("/")
    try:
        network = smp.create_model(
            architecture, encoder or "resnet34", encoder_weights=pretrained, classes=num_classes, **options
        )
    except Exception as error:
        raise ConfigError(f"model 'smp:{name}': {' '.join(str(error).split())[:300]}") from None
    return _Padded(network)


class _Padded(nn.Module):
    """Any size in, the same size out: sides are padded to a multiple that the encoder takes."""

    stride = 1

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, C, H, W)."""
        height, width = image.shape[-2:]
        below, right = (math.ceil(side / MULTIPLE) * MULTIPLE - side for side in (height, width))
        if below or right:
            image = functional.pad(image, (0, right, 0, below), mode="replicate")
        logits: Tensor = self.network(image)
        return logits[..., :height, :width]
