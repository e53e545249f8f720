"""Networks of segmentation_models_pytorch by name, `smp:Unet/resnet34`, and encoders of timm, `timm:resnet18`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segpipe.core.errors import ConfigError

TIMM = "timm:"
MULTIPLE = 32  # of the sides that every encoder there takes


def create(name: str, num_classes: int, *, pretrained: str | None = None, **options: Any) -> nn.Module:
    """The network, logits at the stride at which it makes them.

    Args:
        name: Architecture/encoder; an encoder of timm has the prefix tu-.
        pretrained: weights that the libraries download, e.g. imagenet; None: fresh ones.

    Raises:
        ConfigError: the extra is not installed, or the libraries refuse the name or an option.
    """
    with _libraries(f"model 'smp:{name}'"):
        import segmentation_models_pytorch as smp
    architecture, _, encoder = name.partition("/")
    try:
        network = smp.create_model(
            architecture, encoder or "resnet34", encoder_weights=pretrained, classes=num_classes, **options
        )
    except Exception as error:
        raise ConfigError(f"model 'smp:{name}': {_line(error)}") from None
    return _Native(network)


def encoder(name: str, pretrained: str, stride: int) -> tuple[nn.Module, tuple[int, ...], tuple[int, ...]]:
    """An encoder of timm, the strides of its features, and their channels.

    pretrained: "none" or "default", weights that the library downloads.

    Raises:
        ConfigError: the extra is not installed, or timm refuses the name or the stride.
    """
    if pretrained not in ("none", "default"):
        raise ConfigError(f"encoder 'timm:{name}' has no weights '{pretrained}'; it has none, default")
    with _libraries(f"encoder 'timm:{name}'"):
        import timm
    wanted = {} if stride == MULTIPLE else {"output_stride": stride}
    try:
        network = timm.create_model(name, features_only=True, pretrained=pretrained == "default", **wanted)
        strides, channels = network.feature_info.reduction(), network.feature_info.channels()
        with torch.no_grad():
            found = [features.shape[1:] for features in network.eval()(torch.zeros(1, 3, 64, 64))]
    except Exception as error:
        raise ConfigError(f"encoder 'timm:{name}': {_line(error)}") from None
    if found != [(c, 64 // s, 64 // s) for c, s in zip(channels, strides, strict=True)]:
        raise ConfigError(f"encoder 'timm:{name}': its features are no maps (C, H, W) at rising strides; take another")
    return network.train(), tuple(strides), tuple(channels)


@contextmanager
def _libraries(what: str) -> Iterator[None]:
    """Imports of the extra's libraries, whose failures become one line."""
    try:
        let_torchvision_pass()
        yield
    except ModuleNotFoundError:
        raise ConfigError(f"{what} needs the extra: pip install 'segpipe[smp]'") from None
    except (ImportError, RuntimeError, OSError) as error:  # of builds that do not fit each other
        raise ConfigError(
            f"{what} cannot be imported ({_line(error)}); install the torchvision that goes with torch "
            f"{torch.__version__}, from where torch was installed"
        ) from None


@cache
def let_torchvision_pass() -> None:
    """Both libraries import torchvision, of which they use nothing here. One that was built for another torch, as
    PyPI's is for the CPU build, has no compiled part and stops at describing operators of it: declare those.
    """
    found = find_spec("torchvision")
    for folder in found.submodule_search_locations or () if found else ():
        for compiled in (*Path(folder).glob("_C*.so"), *Path(folder).glob("_C*.pyd")):
            try:
                torch.ops.load_library(compiled)  # type: ignore[no-untyped-call]
            except OSError:
                library: Any = torch.library
                _DECLARED.append(library.Library("torchvision", "FRAGMENT"))
                for name in ("nms", "qnms"):
                    _DECLARED[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_DECLARED: list[Any] = []  # declarations live as long as their library


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def padded(image: Tensor, multiple: int) -> Tensor:
    """The image with its last rows and columns repeated until its sides are multiples."""
    below, right = (-side % multiple for side in image.shape[-2:])
    return functional.pad(image, (0, right, 0, below), mode="replicate") if below or right else image


class _Native(nn.Module):
    """A network of smp without the upsampling at its end; any size in, sides are padded to what its encoder takes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.stride = network, 1
        head = network.get_submodule("segmentation_head")
        for name, layer in head.named_children():
            if isinstance(layer, nn.Upsample):
                self.stride *= int(layer.scale_factor)  # type: ignore[arg-type]
                setattr(head, name, nn.Identity())

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, C, ceil(H / stride), ceil(W / stride))."""
        logits: Tensor = self.network(padded(image, MULTIPLE))
        return logits[..., : -(-image.shape[-2] // self.stride), : -(-image.shape[-1] // self.stride)]
