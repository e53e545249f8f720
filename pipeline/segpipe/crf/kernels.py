"""The CRF's two kernels between their normalising diagonals, as functions from (P, C) to (P, C)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from segpipe.crf.lattice import Lattice

Filter = Callable[[Tensor], Tensor]
Term = Callable[[Tensor, Tensor], Tensor]  # q (P, C) and what it is added to
NORMALIZATIONS = ("symmetric", "before", "after", "none")
CUT = 1e-6  # the spatial kernel ends where it has fallen below this


class Normalized:
    """A kernel and its row sums D: `under(how)` is D^-1/2 K D^-1/2, K D^-1, D^-1 K or K."""

    def __init__(self, kernel: Lattice | Filter, pixels: int, like: Tensor) -> None:
        self.kernel = kernel
        if isinstance(kernel, Lattice):
            self.sums = kernel.filter(like.new_ones(pixels, 1))[:, 0]
        else:  # in float64, which no GPU rounds to TF32
            self.sums = kernel(like.new_ones(pixels, 1, dtype=torch.float64))[:, 0].to(like.dtype)

    def under(self, how: str, weight: float, classes: int) -> Term:
        """The normalised kernel of (P, classes), times `weight`, added to a second argument."""
        power = {"symmetric": (-0.5, -0.5), "before": (-1, 0), "after": (0, -1), "none": (0, 0)}[how]
        before, after = (self.sums**exponent for exponent in power)
        after = after * weight
        if isinstance(self.kernel, Lattice):
            scaled = self.kernel.scaled(before, after)
            return lambda q, onto: scaled(q).add_(onto)
        # Repeated along the classes: torch multiplies by a column of short rows at a third of the speed.
        left, right = (diagonal[:, None].repeat(1, classes) for diagonal in (before, after))
        kernel = self.kernel
        return lambda q, onto: torch.addcmul(onto, kernel(q * left), right)


def exact(features: Tensor) -> Filter:
    """The full kernel matrix."""
    matrix = torch.exp(-0.5 * torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist") ** 2)
    return lambda values: matrix @ values


def separable(std: float | Tensor, size: tuple[int, int]) -> Filter:
    """Exact Gaussian over positions by rows and columns, differentiable in `std`.

    Pixels by classes is the memory order that depthwise convolution is fastest on (a tenth of the
    time of one plane a class), so nothing is transposed.
    """
    reach = max(1, math.ceil(float(std.detach() if isinstance(std, Tensor) else std) * math.sqrt(-2 * math.log(CUT))))

    def along(values: Tensor, axis: int) -> Tensor:
        radius, classes = min(reach, size[axis] - 1), values.shape[1]
        offset = torch.arange(-radius, radius + 1, device=values.device, dtype=values.dtype)
        kernel = torch.exp(-0.5 * (offset / std) ** 2).reshape((1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1))
        padding = (radius, 0) if axis == 0 else (0, radius)
        return functional.conv2d(values, kernel.expand(classes, -1, -1, -1), padding=padding, groups=classes)

    def apply(values: Tensor) -> Tensor:
        planes = values.reshape(1, *size, -1).permute(0, 3, 1, 2)  # (1, C, H, W), channels last
        return along(along(planes, 0), 1).permute(0, 2, 3, 1).reshape(values.shape)

    return apply
