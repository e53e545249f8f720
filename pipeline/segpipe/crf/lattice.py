"""Gaussian filtering in d dimensions on the permutohedral lattice (Adams, Baek and Davis 2010).

A pixel with feature vector f lies in one simplex of the lattice; it splats onto the d + 1
corners with barycentric weights, the corners are blurred along d + 1 axes, and the pixel reads
its result back. The cost is linear in the pixels and independent of the kernel's width.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


class Lattice:
    """The filter exp(-|f_i - f_j|^2 / 2) over fixed features (P, d); apply it to many inputs."""

    def __init__(self, features: Tensor) -> None:
        pixels, d = features.shape
        remainder0, rank, weights = _simplex(features.double())
        canonical = torch.tensor(
            [[r if k <= d - r else r - (d + 1) for k in range(d + 1)] for r in range(d + 1)], device=features.device
        )  # (corner, rank) offset of a corner's coordinates
        corners = remainder0[:, None, :d] + canonical[:, rank[:, :d]].permute(1, 0, 2)  # (P, d + 1, d)
        keys = corners.reshape(-1, d)
        packed, radix = _pack(keys, d)
        vertices, self.vertex_of = torch.unique(packed, return_inverse=True)
        self.count = len(vertices)
        self.weights = weights.float()
        # Splat: the (pixel, weight) pairs of each vertex, in order of the pixels.
        order = torch.argsort(self.vertex_of, stable=True)
        self.splat_pixels = order // (d + 1)
        self.splat_weights = self.weights.reshape(-1)[order]
        sizes = torch.bincount(self.vertex_of, minlength=self.count)
        self.splat_offsets = torch.cumsum(sizes, 0) - sizes
        self.vertex_of = self.vertex_of.reshape(pixels, d + 1)
        self.neighbours = _neighbours(vertices, radix, d)
        self.scale = 1 / (1 + 2.0**-d)

    def filter(self, values: Tensor) -> Tensor:
        """(P, C) -> (P, C): sum over j of the kernel times values_j, j = i included."""
        values = values.float().contiguous()
        lattice = functional.embedding_bag(
            self.splat_pixels, values, self.splat_offsets, mode="sum", per_sample_weights=self.splat_weights
        )
        half = torch.tensor([0.5, 1.0, 0.5], device=values.device).expand(self.count, 3).contiguous()
        empty = torch.zeros(1, values.shape[1], device=values.device)  # what lies beside the lattice
        for index in self.neighbours:
            lattice = functional.embedding_bag(index, torch.cat([lattice, empty]), mode="sum", per_sample_weights=half)
        return self.scale * functional.embedding_bag(
            self.vertex_of, lattice, mode="sum", per_sample_weights=self.weights
        )


def _simplex(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per pixel: the nearest remainder-0 point (P, d+1), the ranks (P, d+1), the weights (P, d+1).

    Features are scaled by sqrt(2/3) (d + 1), so that the splat, blur and slice together have
    unit variance in feature space.
    """
    pixels, d = features.shape
    scale = torch.tensor(
        [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)], dtype=features.dtype
    ).to(features.device)
    scaled = features * scale
    tail = torch.flip(torch.cumsum(torch.flip(scaled, [1]), 1), [1])  # sum over i >= j
    zeros = torch.zeros(pixels, 1, dtype=features.dtype, device=features.device)
    steps = torch.arange(1, d + 1, device=features.device)
    elevated = torch.cat([tail, zeros], 1) - torch.cat([zeros, scaled * steps], 1)  # (P, d + 1), rows sum to 0
    remainder0 = torch.round(elevated / (d + 1)) * (d + 1)
    excess = torch.round(remainder0.sum(1) / (d + 1)).long()
    difference = elevated - remainder0
    rank = torch.zeros(pixels, d + 1, dtype=torch.long, device=features.device)
    for i in range(d):
        for j in range(i + 1, d + 1):
            lower = difference[:, i] < difference[:, j]
            rank[:, i] += lower
            rank[:, j] += ~lower
    rank += excess[:, None]
    shift = (rank < 0).long() - (rank > d).long()
    rank, remainder0 = rank + shift * (d + 1), remainder0 + shift * (d + 1)
    share = (elevated - remainder0) / (d + 1)
    weights = torch.zeros(pixels, d + 2, dtype=features.dtype, device=features.device)
    weights.scatter_add_(1, d - rank, share)
    weights.scatter_add_(1, d + 1 - rank, -share)
    weights[:, 0] += 1 + weights[:, d + 1]
    return remainder0.long(), rank, weights[:, : d + 1]


def _pack(keys: Tensor, d: int) -> tuple[Tensor, list[int]]:
    """Integer coordinates (K, d) as one int64 each, with room for blur neighbours."""
    low = keys.amin(0) - d - 1
    span = (keys.amax(0) - low + d + 2).tolist()
    if math.prod(span) >= 2**62:
        raise ValueError(
            f"the image spans {span} lattice cells, more than fit a 64-bit key; use larger standard deviations"
        )
    radix = [math.prod(span[i + 1 :]) for i in range(d)]
    packed = ((keys - low) * torch.tensor(radix, device=keys.device)).sum(1)
    return packed, radix


def _neighbours(vertices: Tensor, radix: list[int], d: int) -> list[Tensor]:
    """For each blur axis (M, 3): the vertex before, itself, the vertex after; M where there is none."""
    count = len(vertices)
    own = torch.arange(count, device=vertices.device)
    everywhere = sum(radix)
    found = []
    for axis in range(d + 1):
        # One step along an axis adds 1 to every coordinate and takes d + 1 from one of them.
        step = everywhere - ((d + 1) * radix[axis] if axis < d else 0)
        columns = []
        for sign in (-1, 1):
            wanted = vertices + sign * step
            position = torch.searchsorted(vertices, wanted).clamp(max=count - 1)
            columns.append(torch.where(vertices[position] == wanted, position, count))
        found.append(torch.stack([columns[0], own, columns[1]], 1))
    return found


def bilateral_features(image: np.ndarray | Tensor, xy_std: float, rgb_std: float) -> Tensor:
    """(H, W, 3) uint8 -> (P, 5): position over xy_std and colour over rgb_std."""
    color = torch.as_tensor(image).double() / rgb_std
    height, width = color.shape[:2]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.stack([x, y], 2).to(color) / xy_std
    return torch.cat([position, color], 2).reshape(height * width, 5)
