"""Normalisation of colours as one curve a channel: 256 values that a byte is looked up in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.opencv import cv2

if TYPE_CHECKING:  # torch is loaded where it is used: stage stats has no need of it
    from torch import Tensor

SCHEMES = ("zscore", "minmax", "piecewise_linear", "half_normal", "symmetric", "imagenet")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of its photos, in [0, 1]
QUANTILES = (0.02, 0.5, 0.98)
Curve = NDArray[np.float32]


def colors(histogram: NDArray[np.int64]) -> dict[str, Any]:
    """What the schemes need of the (3, 256) histogram of pixels: numbers of R, G, B in [0, 1].

    mean, std; rms: root of the mean square; quantiles: QUANTILES of each channel, the least value that
    so many pixels do not exceed.
    """
    values, number = np.arange(256), histogram.sum(1)
    mean = histogram @ values / number
    squares = histogram @ (values * values) / number
    below = np.cumsum(histogram, 1) / number[:, None]
    quantiles = [[int(np.searchsorted(row, q)) / 255 for q in QUANTILES] for row in below]
    return {
        "mean": (mean / 255).tolist(),
        "std": (np.sqrt(np.maximum(squares - mean * mean, 0)) / 255).tolist(),
        "rms": (np.sqrt(squares) / 255).tolist(),
        "quantiles": quantiles,
    }


def recipe(scheme: str, numbers: dict[str, Any]) -> dict[str, Any]:
    """The scheme with those of the numbers that it uses."""
    used = {"zscore": ("mean", "std"), "minmax": (), "piecewise_linear": ("quantiles",), "half_normal": ("rms",),
            "symmetric": (), "imagenet": ()}  # fmt: skip
    return {"scheme": scheme, **{name: numbers[name] for name in used[scheme]}}


def curve(chosen: dict[str, Any]) -> Curve:
    """(256, 3) float32: what each byte of R, G, B becomes.

    zscore: (v - mean) / std. minmax: v in [0, 1], the range of the type. symmetric: (byte - 127) / 128, as
    EfficientNet's weights of ImageNet want it. imagenet: zscore with the numbers of ImageNet, as most others want it.
    piecewise_linear: the 2 %, 50 % and 98 % quantiles become 0, 1/2 and 1, straight between and cut beyond.
    half_normal: erf(v / (rms sqrt 2)), the distribution function of the half-normal curve that fits best.
    """
    import torch
    from scipy.special import erf

    levels = torch.arange(256).float().div_(255)
    scheme = chosen["scheme"]
    if scheme == "imagenet":
        chosen = {"scheme": "zscore", **dict(zip(("mean", "std"), IMAGENET, strict=True))}
    if chosen["scheme"] == "zscore":
        shift, scale = torch.tensor(chosen["mean"]), torch.tensor([max(s, 1e-6) for s in chosen["std"]])
        return np.ascontiguousarray(levels[:, None].sub(shift).div_(scale).numpy())
    if scheme == "minmax":
        return np.repeat(levels.numpy()[:, None], 3, 1)
    if scheme == "symmetric":
        return np.repeat(((np.arange(256, dtype=np.float32) - 127) / 128)[:, None], 3, 1)
    v = np.arange(256) / 255
    if scheme == "piecewise_linear":
        columns = [np.interp(v, _rising(knots), (0, 0.5, 1)) for knots in chosen["quantiles"]]
    else:
        columns = [erf(v / (max(rms, 1e-6) * np.sqrt(2))) for rms in chosen["rms"]]
    return np.stack(columns, 1).astype(np.float32)


def _rising(knots: Sequence[float]) -> NDArray[np.float64]:
    """Knots with a step where a channel has none, as constant ones do."""
    found = [float(knots[0])]
    for knot in knots[1:]:
        found.append(max(knot, found[-1] + 1e-6))
    return np.array(found)


def to_input(images: NDArray[np.uint8], chosen: Curve, device: str = "cpu") -> Tensor:
    """uint8 (N, H, W, 3) as normalised float32 (N, 3, H, W), channels last in memory.

    A GPU is sent the bytes, without waiting for them, and looks them up itself.
    """
    import torch

    if not device.startswith("cpu"):
        stored = torch.from_numpy(np.ascontiguousarray(images))
        stored = stored.pin_memory() if device.startswith("cuda") else stored
        return look_up(stored.to(device, non_blocking=True), torch.from_numpy(chosen).to(device, non_blocking=True))
    n, height, width, _ = images.shape
    flat: Any = np.ascontiguousarray(images).reshape(n * height, width, 3)
    found = cv2.LUT(flat, chosen[None])
    return torch.from_numpy(found.reshape(n, height, width, 3)).permute(0, 3, 1, 2)


def look_up(images: Tensor, table: Tensor) -> Tensor:
    """The same of tensors on one device, table (256, 3)."""
    shift = table.new_tensor([0, 1, 2]).long()
    return table.reshape(-1)[images.long() * 3 + shift].permute(0, 3, 1, 2)
