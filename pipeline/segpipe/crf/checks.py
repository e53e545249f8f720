"""What the CRF refuses: all that would end in a wrong number, a traceback or a killed process."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.crf.kernels import NORMALIZATIONS

NARROWEST, WIDEST = 1e-3, 1e6  # widths; beyond, float32 ends before the Gaussian does
LARGEST = 1e6  # of weights, scales and penalties
TOLERANCE = 5e-3  # of the sums of probabilities, which may have been kept in half precision


Values = NDArray[Any] | Tensor


def pixels(image: Values, device: torch.device | str | None) -> Tensor:
    """The image as uint8 (H, W, 3)."""
    memory(math.prod(np.shape(image)[:2]), 1, image.device if isinstance(image, Tensor) else torch.device("cpu"))
    found = _tensor(image, "image")
    shown = f"image is {tuple(found.shape)} {_kind(found)}"
    if found.ndim == 2:
        found = found[:, :, None].expand(-1, -1, 3)
    if found.dtype != torch.uint8 or found.ndim != 3 or found.shape[2] != 3 or found.numel() == 0:
        raise ValueError(f"{shown}, wanted (H, W, 3) RGB or (H, W) grey, uint8 from 0 to 255")
    return found if device is None else found.to(device)


def widths(**given: float) -> None:
    """Standard deviations of the kernels."""
    for name, value in given.items():
        if not NARROWEST <= value <= WIDEST:
            raise ValueError(
                f"{name} is {value}, wanted a number > 0 from {NARROWEST:g} to {WIDEST:g}; a weight of 0 switches a "
                "kernel off"
            )


@dataclass(frozen=True)
class Options:
    """What an inference may choose anew on the same kernels; see `dense_crf`.

    Raises:
        ValueError: a value is out of its range.
    """

    pos_w: float = 3
    bi_w: float = 4
    iterations: int = 10
    unary_scale: float = 1.0
    normalization: str = "symmetric"
    compatibility: Any = None
    prune: float = 0.0

    def __post_init__(self) -> None:
        for name in ("pos_w", "bi_w"):
            if not 0 <= getattr(self, name) <= LARGEST:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted a number >= 0 and <= {LARGEST:g}")
        if not 1 / LARGEST <= self.unary_scale <= LARGEST:
            raise ValueError(f"unary_scale is {self.unary_scale}, wanted a number from {1 / LARGEST:g} to {LARGEST:g}")
        if not 0 <= self.iterations <= LARGEST or self.iterations != int(self.iterations):
            raise ValueError(f"iterations is {self.iterations}, wanted a whole number >= 0")
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization is {self.normalization!r}, wanted one of {', '.join(NORMALIZATIONS)}")
        if not 0 <= self.prune <= 1:
            raise ValueError(f"prune is {self.prune}, wanted a share from 0 to 1")


def probabilities(probs: Values, size: tuple[int, ...], options: Options) -> tuple[Tensor, list[int]]:
    """The probabilities as a tensor, and the classes that are kept; also that the penalties fit them."""
    given = _tensor(probs, "probs")
    if given.ndim != 3 or tuple(given.shape[1:]) != size or not len(given) or not given.is_floating_point():
        swapped = given.ndim == 3 and tuple(given.shape[1:]) == size[::-1] != size
        hint = "; height and width are swapped, transpose them" if swapped else ""
        raise ValueError(
            f"probs are {tuple(given.shape)} {_kind(given)}, wanted floats (C, {size[0]}, {size[1]}) as the image{hint}"
        )
    memory(math.prod(size), len(given), given.device)
    with torch.no_grad():
        least, most, total = given.amin(), given.flatten(1).amax(1), given.sum(0, dtype=torch.float32)
        if not bool(least >= 0) or not bool(((total - 1).abs() <= TOLERANCE).all()):  # NaN fails as well
            found = "NaN" if bool(torch.isnan(total).any()) else f"sums from {total.min():.4g} to {total.max():.4g}"
            raise ValueError(
                f"probs must be finite, not negative and sum to one over the classes, found {found}"
                f"{'' if bool(torch.isnan(least)) else f' and a least value of {least:.4g}'}; apply a softmax first"
            )
        kept = [k for k, value in enumerate(most.tolist()) if value > options.prune or not options.prune]
    if not kept:
        raise ValueError(f"prune={options.prune} leaves no class; lower it")
    if options.compatibility is not None:
        table = torch.as_tensor(options.compatibility)
        if table.shape != (len(given), len(given)) or not bool((table.abs() <= LARGEST).all()):
            raise ValueError(
                f"compatibility is {tuple(table.shape)}, wanted penalties {(len(given), len(given))} up to {LARGEST:g}"
            )
    return given, kept


def memory(pixels: int, classes: int, device: torch.device) -> None:
    """Refuse what the machine cannot hold, instead of being killed half-way.

    Measured on noise, where every pixel has vertices of its own: about 1150 + 80 C bytes a pixel.
    """
    if pixels * 6 >= 2**31:
        raise ValueError(f"the image has {pixels} pixels, wanted fewer than {2**31 // 6}; cut it into tiles")
    needed, held = pixels * (1150 + 80 * classes), _memory_of(device)
    if held is not None and needed > held:
        raise ValueError(
            f"{pixels} pixels of {classes} classes need up to {needed / 2**30:.1f} GiB, the memory is "
            f"{held / 2**30:.1f} GiB; cut it into tiles or make it smaller"
        )


def _memory_of(device: torch.device) -> int | None:
    """Bytes of the device, or of this machine or container; None where that is not told."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as stream:
            known.append(int(stream.read()))
    except (OSError, ValueError):  # no container, or "max"
        pass
    return min(known, default=None)


def _tensor(values: Values, what: str) -> Tensor:
    """Tensors as they are, arrays without a copy where torch can take them."""
    if isinstance(values, Tensor):
        return values
    array = np.ascontiguousarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} holds {array.dtype}, wanted numbers")
    if array.dtype.kind == "f" and (array.dtype.itemsize > 8 or not array.dtype.isnative):
        array = array.astype(np.float64)  # torch has no such numbers
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
