"""Mean-field inference of the dense CRF with a bilateral and a spatial Gaussian kernel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segpipe.crf.lattice import Lattice, bilateral_features

Filter = Callable[[Tensor], Tensor]
NORMALIZATIONS = ("symmetric", "before", "after", "none")
EXACT_LIMIT = 10_000  # pixels; the exact engine needs their square
_SMALLEST = 1e-30  # probability that stands for 0 in the unary


def dense_crf(
    image: Any,
    probs: Any,
    *,
    pos_w: float = 3,
    pos_xy_std: float = 1,
    bi_w: float = 4,
    bi_xy_std: float = 67,
    bi_rgb_std: float = 3,
    iterations: int = 10,
    unary_scale: float = 1.0,
    normalization: str = "symmetric",
    compatibility: Any = None,
    prune: float = 0.0,
    engine: str = "lattice",
) -> Any:
    """Refine probabilities: pixels that are near and alike pull towards one label.

    U = -unary_scale log p, Q0 = softmax(-U), Q = softmax(-U + sum_m w_m K_m Q), kernels
    exp(-d^2 / (2 std^2)) with the self term, colours in 0..255, updates synchronous.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) grey.
        probs: (C, H, W) probabilities; a tensor stays on its device and is returned as one.
        normalization: "symmetric" D^-1/2 K D^-1/2, "before" K D^-1, "after" D^-1 K, or "none".
        compatibility: (C, C) penalties between labels; None: Potts.
        prune: classes whose largest probability is not above it are left out and get 0.
        engine: "lattice", or "exact", the float64 oracle that refuses large images.

    Returns:
        (C, H, W) float32 probabilities.

    Raises:
        ValueError: shapes, types or parameters do not fit.
    """
    device = probs.device if isinstance(probs, Tensor) else "cpu"
    crf = DenseCRF(
        image, pos_xy_std=pos_xy_std, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std, engine=engine, device=device
    )
    return crf.infer(
        probs,
        pos_w=pos_w,
        bi_w=bi_w,
        iterations=iterations,
        unary_scale=unary_scale,
        normalization=normalization,
        compatibility=compatibility,
        prune=prune,
    )


class DenseCRF:
    """The kernels of one image, for many inferences with other weights or probabilities."""

    def __init__(
        self,
        image: Any,
        *,
        pos_xy_std: float = 1,
        bi_xy_std: float = 67,
        bi_rgb_std: float = 3,
        engine: str = "lattice",
        device: torch.device | str = "cpu",
    ) -> None:
        pixels = torch.as_tensor(np.asarray(image) if not isinstance(image, Tensor) else image)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None].expand(-1, -1, 3)
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.numel() == 0:
            raise ValueError(f"image is {tuple(pixels.shape)} {pixels.dtype}, wanted (H, W, 3) or (H, W) uint8")
        for name, value in (("pos_xy_std", pos_xy_std), ("bi_xy_std", bi_xy_std), ("bi_rgb_std", bi_rgb_std)):
            if not value > 0 or not math.isfinite(value):
                raise ValueError(f"{name} is {value}, wanted a finite number > 0; a weight of 0 switches a kernel off")
        if engine not in ("lattice", "exact"):
            raise ValueError(f"engine is {engine!r}, wanted 'lattice' or 'exact'")
        self.size = (int(pixels.shape[0]), int(pixels.shape[1]))
        self.dtype = torch.float64 if engine == "exact" else torch.float32
        features = bilateral_features(pixels, bi_xy_std, bi_rgb_std).to(device)
        if engine == "exact":
            if len(features) > EXACT_LIMIT:
                raise ValueError(f"the exact engine takes up to {EXACT_LIMIT} pixels, found {len(features)}")
            position = features[:, :2] * (bi_xy_std / pos_xy_std)
            self._bilateral, self._spatial = _exact(features), _exact(position)
        else:
            self._bilateral = Lattice(features).filter
            self._spatial = _separable(pos_xy_std, self.size)
        ones = torch.ones(len(features), 1, dtype=self.dtype, device=features.device)
        self._norms = [kernel(ones) for kernel in (self._spatial, self._bilateral)]

    def infer(
        self,
        probs: Any,
        *,
        pos_w: float = 3,
        bi_w: float = 4,
        iterations: int = 10,
        unary_scale: float = 1.0,
        normalization: str = "symmetric",
        compatibility: Any = None,
        prune: float = 0.0,
    ) -> Any:
        """As `dense_crf`, on this image."""
        given = torch.as_tensor(probs)
        _check(given, self.size, pos_w, bi_w, iterations, unary_scale, normalization)
        c = len(given)
        flat = given.reshape(c, -1).T.to(self.dtype)  # (P, C)
        kept = (flat.amax(0) > prune) if prune > 0 else torch.ones(c, dtype=torch.bool, device=flat.device)
        if not bool(kept.any()):
            raise ValueError(f"prune={prune} leaves no class; lower it")
        penalties = None if compatibility is None else torch.as_tensor(compatibility).to(flat)
        if penalties is not None and penalties.shape != (c, c):
            raise ValueError(f"compatibility is {tuple(penalties.shape)}, wanted {(c, c)}")
        if penalties is not None:
            penalties = penalties[kept][:, kept]
        log_unary = unary_scale * flat[:, kept].clamp(min=_SMALLEST).log()  # -U
        q = log_unary.softmax(1)
        for _ in range(iterations):
            message = torch.zeros_like(q)
            for weight, kernel, norm in zip((pos_w, bi_w), (self._spatial, self._bilateral), self._norms, strict=True):
                if weight:
                    message += weight * _normalized(kernel, norm, normalization)(q).to(q.dtype)
            # Potts penalises unequal labels: up to a constant, that rewards the message of the own one.
            q = (log_unary + (message if penalties is None else -message @ penalties.T)).softmax(1)
        full = torch.zeros(len(flat), c, dtype=torch.float32, device=flat.device)
        full[:, kept] = q.float()
        result = full.T.reshape(c, *self.size)
        return result if isinstance(probs, Tensor) else result.cpu().numpy()


def _normalized(kernel: Filter, norm: Tensor, normalization: str) -> Filter:
    """The kernel divided by its row sums D before, after, or half and half."""
    if normalization == "none":
        return kernel
    if normalization == "before":
        return lambda q: kernel(q / norm)
    if normalization == "after":
        return lambda q: kernel(q) / norm
    root = norm.sqrt()
    return lambda q: kernel(q / root) / root


def _exact(features: Tensor) -> Filter:
    """The full kernel matrix in float64."""
    matrix = torch.exp(-0.5 * torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist") ** 2)
    return lambda values: matrix @ values


def _separable(std: float, size: tuple[int, int]) -> Filter:
    """Exact Gaussian over positions by rows and columns, cut where it is below 1e-6.

    Pixels by classes is the memory order that depthwise convolution is fastest on (a tenth of the
    time of one plane a class), so nothing is transposed.
    """
    reach = max(1, math.ceil(std * math.sqrt(-2 * math.log(1e-6))))

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


def _check(
    probs: Tensor, size: tuple[int, int], pos_w: float, bi_w: float, iterations: int, scale: float, normalization: str
) -> None:
    """Refuse what would give a wrong number silently."""
    if probs.ndim != 3 or tuple(probs.shape[1:]) != size:
        raise ValueError(f"probs are {tuple(probs.shape)}, wanted (C, {size[0]}, {size[1]}) as the image")
    total = probs.double().sum(0)
    if bool((probs < 0).any()) or not bool(((total - 1).abs() <= 5e-3).all()):  # NaN fails as well
        raise ValueError("probs must be finite, not negative and sum to one over the classes; apply a softmax first")
    if min(pos_w, bi_w) < 0 or iterations < 0 or not scale > 0:
        raise ValueError("wanted weights >= 0, iterations >= 0 and unary_scale > 0")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}, wanted one of {', '.join(NORMALIZATIONS)}")
