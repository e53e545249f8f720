"""EfficientNet-Lite0, whose ImageNet weights arrive by pip: a backbone that is light on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional

# Of each stage: blocks, kernel, stride, expansion, channels out (Tan and Le 2019, arXiv:1905.11946, table 1).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
_TAPS = (0, 1, 2, 4, 6)  # stages whose results are given: the last of each stride
_EPSILON = 1e-3  # of batch norm, as the weights were trained


class Lite0(nn.Module):
    """EfficientNet-Lite0 without its classifier: no squeeze-excitation, ReLU6 (the Lite variants of 2020).

    channels: of the five results, at strides 2, 4, 8, 16 and 32 or, from `output_stride` on, atrous at that stride.
    Images are as `normalization` symmetric makes them.
    """

    channels = (16, 24, 40, 112, 320)

    def __init__(self, output_stride: int = 32) -> None:
        super().__init__()
        self.stem = _convolution(3, _STEM, 3, stride=2)
        stages, inputs, reached, dilation = [], _STEM, 2, 1
        for blocks, kernel, stride, expansion, outputs in _STAGES:
            before, strided = dilation, reached < output_stride
            reached *= stride if strided else 1
            dilation *= 1 if strided else stride
            # The convolution that would have strided still has the dilation of the stage before.
            first = _Inverted(inputs, outputs, kernel, stride if strided else 1, expansion, before)
            rest = (_Inverted(outputs, outputs, kernel, 1, expansion, dilation) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features at strides 2, 4, 8, 16, 32."""
        features, found = self.stem(image), []
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return [found[tap] for tap in _TAPS]

    def load_imagenet(self, state: dict[str, Tensor]) -> None:
        """Take over the weights of the released classifier, whose layers come in the same order.

        Raises:
            ValueError: they are of another network.
        """
        theirs = [(name, value) for name, value in state.items() if not name.startswith(("_conv_head", "_bn1", "_fc"))]
        own = self.state_dict()
        if len(theirs) != len(own):
            raise ValueError(f"found {len(theirs)} tensors, wanted {len(own)}")
        for (name, value), (theirs_name, new) in zip(own.items(), theirs, strict=True):
            if value.shape != new.shape or name.rpartition(".")[2] != theirs_name.rpartition(".")[2]:
                raise ValueError(f"{theirs_name} is {tuple(new.shape)}, wanted {tuple(value.shape)} for {name}")
        self.load_state_dict(dict(zip(own, (value for _, value in theirs), strict=True)))


class _Strided(nn.Conv2d):
    """Pads as TensorFlow does, where the weights come from: at even sizes one pixel less on top and left.

    On street pictures the ImageNet classifier is sure to .36 on average with this padding and to .25 with torch's.
    """

    def forward(self, features: Tensor) -> Tensor:
        kernel = self.kernel_size[0]
        pads = []
        for side in (features.shape[-1], features.shape[-2]):
            total = max(0, (-(-side // 2) - 1) * 2 + kernel - side)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(features, pads))


def _convolution(
    inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    layers = _linear(inputs, outputs, size, stride=stride, groups=groups, dilation=dilation)
    return nn.Sequential(*layers, nn.ReLU6(inplace=True))


def _linear(
    inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, dilation: int = 1
) -> Iterator[nn.Module]:
    if stride == 2:
        yield _Strided(inputs, outputs, size, stride, groups=groups, bias=False)
    else:
        padding = size // 2 * dilation
        yield nn.Conv2d(inputs, outputs, size, padding=padding, dilation=dilation, groups=groups, bias=False)
    yield nn.BatchNorm2d(outputs, eps=_EPSILON, momentum=0.01)


class _Inverted(nn.Module):
    """Expansion, depthwise convolution, projection; a shortcut where nothing changes its shape."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, dilation: int = 1
    ) -> None:  # fmt: skip
        super().__init__()
        middle = inputs * expansion
        layers = [] if expansion == 1 else [_convolution(inputs, middle, 1)]
        layers.append(_convolution(middle, middle, kernel, stride=stride, groups=middle, dilation=dilation))
        self.layers = nn.Sequential(*layers, nn.Sequential(*_linear(middle, outputs, 1)))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.layers(features)
        return features + found if self.shortcut else found
