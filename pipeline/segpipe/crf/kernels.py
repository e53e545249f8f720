"""The CRF's two kernels between their normalising diagonals, as functions from (P, C) to (P, C)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from segpipe.crf.lattice import Lattice

Filter = Callable[[Tensor], Tensor]
Term = Callable[[Tensor, Tensor], Tensor]  # q (P, C) and what it is added to
NORMALIZATIONS = ("symmetric", "before", "after", "none")
CUT = 1e-6  # the spatial kernel ends where it has fallen below this


@dataclass(frozen=True)
class Normalized:
    """A kernel and its row sums D: `under(how)` is D^-1/2 K D^-1/2, K D^-1, D^-1 K or K.

    between: two diagonals (P,) and the number of classes -> (q, onto) to onto + diag(after) K diag(before) q.
    """

    between: Callable[[Tensor, Tensor, int], Term]
    sums: Tensor

    def under(self, how: str, weight: float, classes: int) -> Term:
        """The normalised kernel of (P, classes), times `weight`."""
        power = {"symmetric": (-0.5, -0.5), "before": (-1, 0), "after": (0, -1), "none": (0, 0)}[how]
        before, after = (self.sums**exponent for exponent in power)
        return self.between(before, after * weight, classes)


def on_lattice(features: Tensor, like: Tensor) -> Normalized:
    """The Gaussian over features (P, d) on the permutohedral lattice; values are of `like`'s type."""
    lattice = Lattice(features, like.dtype)

    def between(before: Tensor, after: Tensor, classes: int) -> Term:
        del classes
        apply = lattice.between(before, after)
        return lambda q, onto: apply(q).add_(onto)

    ones = like.new_ones(len(features))
    return Normalized(between, lattice.between(ones, ones)(ones[:, None])[:, 0])


def by_rows_and_columns(std: float, size: tuple[int, int], like: Tensor) -> Normalized:
    """The Gaussian over positions as `separable` filters it; its sums are those of rows times those of columns."""
    sides = (size[0], 1), (1, size[1])
    # In float64, which no GPU rounds to TF32; a line of pixels costs nothing.
    rows, columns = (separable(std, side)(like.new_ones(max(side), 1, dtype=torch.float64)) for side in sides)
    return Normalized(_dense(separable(std, size)), (rows * columns.T).reshape(-1).to(like.dtype))


def exact(features: Tensor) -> Normalized:
    """The Gaussian over features as the full matrix."""
    matrix = torch.exp(-0.5 * torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist") ** 2)
    return Normalized(_dense(lambda values: matrix @ values), matrix.sum(1))


def _dense(kernel: Filter) -> Callable[[Tensor, Tensor, int], Term]:
    """`between` of a kernel that cannot absorb the diagonals."""

    def between(before: Tensor, after: Tensor, classes: int) -> Term:
        # Repeated along the classes: torch multiplies by a column of short rows at a third of the speed.
        left, right = (diagonal[:, None].repeat(1, classes) for diagonal in (before, after))
        return lambda q, onto: torch.addcmul(onto, kernel(q * left), right)

    return between


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
