"""Gaussian filtering in d dimensions on the permutohedral lattice (Adams, Baek and Davis 2010).

A pixel with feature vector f lies in one simplex of the lattice; it splats onto the d + 1
corners with barycentric weights, the corners are blurred along d + 1 axes, and the pixel reads
its result back. The cost is linear in the pixels and independent of the kernel's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


class Lattice:
    """The filter exp(-|f_i - f_j|^2 / 2) over fixed features (P, d); apply it to many inputs.

    Vertices are numbered by the corner they are (0..d, which is the remainder of their
    coordinates), then by their key; one more row, always zero, stands for all that lies beside.

    dtype: of the weights and of what is filtered; None: that of the features.

    Raises:
        ValueError: the features span more cells than a 64-bit key can hold.
    """

    def __init__(self, features: Tensor, dtype: torch.dtype | None = None) -> None:
        pixels, d = features.shape
        with torch.no_grad():
            cells, ranks, weights = _simplex(features)
            weights = weights.to(dtype or features.dtype)
            self.weights = weights.T.contiguous()  # (P, d + 1)
            radix, cells_in_all = _radix(cells)
            # What a key loses when the coordinate of each rank steps back by one cell.
            steps = torch.tensor([*radix, 0], device=features.device)[:, None].expand(-1, pixels)
            steps = torch.empty(d + 1, pixels, dtype=torch.long, device=features.device).scatter_(0, ranks, steps)
            base = torch.zeros_like(steps[0])
            for i, place in enumerate(radix):
                base += (cells[i] - (cells[i].amin() - 2)).long().mul_(place)
            own = torch.arange(pixels, device=features.device)
            blocks, starts, keys, vertex_of, splat_weights, count = [], [], [], [], [], 0
            for corner in range(d + 1):
                if corner:
                    base = base - steps[d + 1 - corner]
                block, key = _by_key(base, own, cells_in_all)
                new = torch.cat([key.new_ones(1, dtype=torch.bool), key[1:] != key[:-1]])
                first = _positions(new)
                numbers = torch.cumsum(new, 0, dtype=torch.int32) + (count - 1)
                vertex_of.append(torch.empty_like(numbers).scatter_(0, block, numbers))
                splat_weights.append(weights[corner].index_select(0, block))
                blocks.append(block.int())
                starts.append(first.int() + corner * pixels)
                keys.append(key.index_select(0, first))
                count += len(first)
            self.vertex_of = torch.stack(vertex_of, 1)  # (P, d + 1)
            self.splat_pixels, self.splat_weights = torch.cat(blocks), torch.cat(splat_weights)
            self.splat_offsets = torch.cat([*starts, starts[0].new_tensor([pixels * (d + 1)])])
            self.neighbours = _neighbours(keys, radix)
            half = torch.tensor([0.5, 1.0, 0.5], device=features.device, dtype=weights.dtype)
            self.half = half.repeat(count + 1, 1)
        self.count = count
        self.scale = 1 / (1 + 2.0**-d)

    def between(self, before: Tensor, after: Tensor) -> Callable[[Tensor], Tensor]:
        """The filter (P, C) -> (P, C), self term included, between two diagonals (P,) that its weights absorb."""
        splat_weights = self.splat_weights * before.index_select(0, self.splat_pixels)
        slice_weights = self.weights * (self.scale * after[:, None])

        def apply(values: Tensor) -> Tensor:
            lattice = _bags(self.splat_pixels, values, splat_weights, self.splat_offsets)
            return _bags(self.vertex_of, self.blur(lattice), slice_weights)

        return apply

    def blur(self, lattice: Tensor, *, backwards: bool = False) -> Tensor:
        """(vertices + 1, C) along all axes; an axis is its own adjoint, so `backwards` is the adjoint."""
        for index in reversed(self.neighbours) if backwards else self.neighbours:
            lattice = _bags(index, lattice, self.half)
        return lattice

    def differentiable(self, values: Tensor, weights: Tensor) -> Tensor:
        """The filter with barycentric weights (P, d + 1) of one's own, differentiable in both."""
        result: Tensor = _Filter.apply(values, weights, self)  # type: ignore[no-untyped-call]
        return result

    def splat(self, values: Tensor, weights: Tensor) -> Tensor:
        """(P, C) onto the vertices, with weights (P, d + 1)."""
        pixels, corners = weights.shape
        blocks = self.splat_pixels.reshape(corners, pixels)
        ordered = torch.cat([row.index_select(0, block) for row, block in zip(weights.T, blocks, strict=True)])
        return _bags(self.splat_pixels, values, ordered, self.splat_offsets)

    def slice(self, lattice: Tensor, weights: Tensor) -> Tensor:
        """Each pixel's weighted sum of its d + 1 vertices."""
        return _bags(self.vertex_of, lattice, weights)


class _Filter(torch.autograd.Function):
    """slice(blur(splat)): linear in the values, and its adjoint is the same with the axes reversed."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor, lattice: Lattice) -> Tensor:
        values, weights = values.contiguous(), weights.contiguous()
        blurred = lattice.blur(lattice.splat(values, weights))
        ctx.lattice = lattice
        ctx.save_for_backward(values, weights, blurred)
        return lattice.scale * lattice.slice(blurred, weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        values, weights, blurred = ctx.saved_tensors
        lattice, gradient = ctx.lattice, gradients[0] * ctx.lattice.scale
        back = lattice.blur(lattice.splat(gradient.contiguous(), weights), backwards=True)
        of_weights = torch.stack(
            [
                (gradient * blurred.index_select(0, corner)).sum(1) + (values * back.index_select(0, corner)).sum(1)
                for corner in lattice.vertex_of.T
            ],
            1,
        )
        return lattice.slice(back, weights), of_weights, None


def _bags(index: Tensor, rows: Tensor, weights: Tensor, offsets: Tensor | None = None) -> Tensor:
    """Weighted sums of rows, gathered and added without an array between."""
    found: Tensor = functional.embedding_bag(index, rows, offsets, mode="sum", per_sample_weights=weights)
    return found


def barycentric(features: Tensor) -> Tensor:
    """(P, d + 1) weights of the corners, differentiable in the features (P, d)."""
    return _simplex(features)[2].T


def _simplex(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per pixel, coordinates first: the cell, the ranks and the weights, each (d + 1, P).

    Corner 0 is (d + 1) times the cell. Features are scaled by sqrt(2/3) (d + 1), so that splat, blur
    and slice together have unit variance in feature space.
    """
    d = features.shape[1]
    tail = torch.zeros_like(features[:, 0])
    elevated: list[Tensor] = []
    for i in range(d, 0, -1):  # coordinate i: the sum of the scaled from i on, less i times the one before
        scaled = features[:, i - 1] * (math.sqrt(2 / 3) / math.sqrt(i * (i + 1)))
        elevated.append(tail - i * scaled)
        tail = tail + scaled
    coordinates = torch.stack([tail, *reversed(elevated)])  # rows sum to 0
    cells = torch.round(coordinates.detach())
    difference = coordinates.detach() - cells
    ranks = cells.sum(0).repeat(d + 1, 1)
    for i in range(d):
        for j in range(i + 1, d + 1):
            lower = (difference[i] < difference[j]).to(ranks.dtype)
            ranks[i] += lower
            ranks[j] += 1 - lower
    shift = -torch.floor(ranks / (d + 1))
    cells += shift
    ranks = ranks.add_(shift, alpha=d + 1).long()
    share = torch.empty_like(coordinates).scatter(0, ranks, coordinates - cells)  # by rank, falling
    weights = torch.cat([1 + share[d:] - share[:1], (share[:-1] - share[1:]).flip(0)])
    return cells, ranks, weights


def _radix(cells: Tensor) -> tuple[list[int], int]:
    """Place values of the first d coordinates, with room for corners and blur neighbours, and their number."""
    d = len(cells) - 1
    extremes = cells[:d].amin(1).tolist(), cells[:d].amax(1).tolist()
    span = [int(high - low) + 4 for low, high in zip(*extremes, strict=True)]
    if math.prod(span) >= 2**62:
        raise ValueError(f"the image spans {span} lattice cells, more than a 64-bit key holds; use larger widths")
    return [math.prod(span[i + 1 :]) for i in range(d)], math.prod(span)


def _by_key(keys: Tensor, pixels: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Pixels in order of their keys, and the keys in order; pixels of one key stay in theirs.

    Key and pixel in one integer, where both fit, need one sort of plain numbers.
    """
    bits = len(pixels).bit_length()
    if largest << bits < 2**63:
        packed = _sorted((keys << bits) | pixels)
        return packed & ((1 << bits) - 1), packed >> bits
    ordered, order = torch.sort(keys, stable=True)
    return order, ordered


def _neighbours(keys: list[Tensor], radix: list[int]) -> list[Tensor]:
    """For each blur axis (M + 1, 3): the vertex before, itself, the vertex after; M where there is none.

    One step along an axis adds 1 to every coordinate and takes d + 1 from one of them: from corner
    k to k + 1, and from the last to corner 0 of the next cell in every direction.
    """
    corners, device = len(keys), keys[0].device
    starts = [0, *np.cumsum([len(part) for part in keys]).tolist()]
    count = starts[-1]
    own = torch.arange(count + 1, dtype=torch.int32, device=device)
    found = []
    for axis in range(corners):
        after = torch.full((count + 1,), count, device=device)
        for corner, part in enumerate(keys):
            onto = (corner + 1) % corners
            wanted = part - ((radix[axis] if axis < corners - 1 else 0) - (0 if onto else sum(radix)))
            position = torch.searchsorted(keys[onto], wanted).clamp_(max=len(keys[onto]) - 1)
            exists = keys[onto].index_select(0, position) == wanted
            after[starts[corner] : starts[corner + 1]] = torch.where(exists, position + starts[onto], count)
        before = torch.full_like(own, count).scatter_(0, after, own)
        before[count] = count
        found.append(torch.stack([before, own, after.int()], 1))
    return found


def _sorted(values: Tensor) -> Tensor:
    """Ascending; NumPy's vectorised sort is several times faster than torch's on a CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy()))
    return torch.sort(values).values


def _positions(mask: Tensor) -> Tensor:
    """Where a mask is true; NumPy's again for the same reason."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return torch.nonzero(mask)[:, 0]


def bilateral_features(image: Tensor, xy_std: Tensor | float, rgb_std: Tensor | float, dtype: torch.dtype) -> Tensor:
    """(H, W, 3) -> (P, 5): position over xy_std and colour over rgb_std.

    Both from 0 on: pydensecrf's lattice has its origin there, and another one moves single labels.
    """
    height, width = image.shape[:2]
    y, x = torch.meshgrid(
        *(torch.arange(side, dtype=dtype, device=image.device) for side in (height, width)), indexing="ij"
    )
    features = torch.cat([torch.stack([x, y], 2) / xy_std, image.to(dtype) / rgb_std], 2)
    return features.reshape(height * width, 5)
