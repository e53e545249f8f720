"""A small residual network whose last stages can be atrous instead of strided."""

from __future__ import annotations

from torch import Tensor, nn

from segpipe.core.errors import ConfigError
from segpipe.models.blocks.layers import convolution


class Residual(nn.Module):
    """Four stages of basic blocks at strides 4, 8, 16, 32, or atrous from `output_stride` on.

    He et al. 2016, arXiv:1512.03385, with the dilations of Chen et al. 2017, arXiv:1706.05587, fig. 3.

    channels: of the four results, width times 1, 2, 4, 8. blocks: of each stage.
    """

    def __init__(self, *, width: int, output_stride: int, blocks: int = 1) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ConfigError(f"output_stride is {output_stride}, wanted 8, 16 or 32")
        self.channels = [width * 2**stage for stage in range(4)]
        self.stem = convolution(3, width, stride=2)
        stages, inputs, reached, dilation = [], width, 2, 1
        for outputs in self.channels:
            stride = 2 if reached < output_stride else 1
            dilation *= 1 if stride == 2 else 2
            reached *= stride
            # The convolution that would have strided still has the dilation of the stage before.
            first = _Basic(inputs, outputs, stride, dilation if stride == 2 else dilation // 2, dilation)
            rest = (_Basic(outputs, outputs, 1, dilation, dilation) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the results of the four stages."""
        features, found = self.stem(image), []
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return found


class _Basic(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, before: int, dilation: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride, dilation=before)
        self.second = nn.Sequential(*list(convolution(outputs, outputs, dilation=dilation))[:2])
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*list(convolution(inputs, outputs, 1, stride=stride))[:2])
        )

    def forward(self, features: Tensor) -> Tensor:
        total: Tensor = self.second(self.first(features)) + self.shortcut(features)
        return total.relu()
