"""Mean-field inference of the dense CRF with a bilateral and a spatial Gaussian kernel."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segpipe.crf import checks
from segpipe.crf.kernels import Normalized, by_rows_and_columns, exact, on_lattice
from segpipe.crf.lattice import bilateral_features

ENGINES = ("lattice", "exact")
EXACT_LIMIT = 10_000  # pixels; the exact engine needs their square
SMALLEST = 1e-30  # probability that stands for 0 in the unary
DOUBLE_FROM = 500  # widths an image may span before float32 is too coarse for barycentric weights


def dense_crf(
    image: checks.Values,
    probs: checks.Values,
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
    exp(-d^2 / (2 std^2)) with the self term, colours in 0..255, updates synchronous
    (Krahenbuhl and Koltun 2011, algorithm 1). No gradient flows: `DenseCRFLayer` is for training.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) grey.
        probs: (C, H, W) probabilities; a tensor stays on its device and is returned as one.
        pos_w, bi_w: weights of the spatial and the bilateral kernel; 0 switches one off.
        pos_xy_std, bi_xy_std: widths in pixels. bi_rgb_std: width in grey levels of 0..255.
        normalization: "symmetric" D^-1/2 K D^-1/2, "before" K D^-1, "after" D^-1 K, or "none".
        compatibility: (C, C) penalties between labels; None: Potts.
        prune: where > 0, classes whose largest probability is not above it are left out and get 0.
        engine: "lattice", or "exact", the float64 oracle that refuses large images.

    Returns:
        (C, H, W) float32 probabilities.

    Raises:
        ValueError: shapes, types or parameters do not fit; said before any work.
    """
    device = probs.device if isinstance(probs, Tensor) else None
    crf = DenseCRF(
        image, pos_xy_std=pos_xy_std, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std, engine=engine, device=device
    )
    return crf.infer(
        probs, pos_w=pos_w, bi_w=bi_w, iterations=iterations, unary_scale=unary_scale, normalization=normalization,
        compatibility=compatibility, prune=prune,
    )  # fmt: skip


class DenseCRF:
    """The kernels of one image, for many inferences with other weights or probabilities.

    A kernel is built when an inference first gives it a weight.

    Raises:
        ValueError: the image is no uint8 image or too large for the memory, or a width is not > 0.
    """

    def __init__(
        self,
        image: checks.Values,
        *,
        pos_xy_std: float = 1,
        bi_xy_std: float = 67,
        bi_rgb_std: float = 3,
        engine: str = "lattice",
        device: torch.device | str | None = None,
    ) -> None:
        pixels = checks.pixels(image, device)
        checks.widths(pos_xy_std=pos_xy_std, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std)
        if engine not in ENGINES:
            raise ValueError(f"engine is {engine!r}, wanted one of {', '.join(ENGINES)}")
        self.size = (int(pixels.shape[0]), int(pixels.shape[1]))
        if engine == "exact" and math.prod(self.size) > EXACT_LIMIT:
            raise ValueError(f"the exact engine takes up to {EXACT_LIMIT} pixels, found {math.prod(self.size)}")
        self.engine = engine
        self.pos_xy_std, self.bi_xy_std, self.bi_rgb_std = float(pos_xy_std), float(bi_xy_std), float(bi_rgb_std)
        self._image = pixels
        self._like = torch.empty(0, dtype=torch.float64 if engine == "exact" else torch.float32, device=pixels.device)
        self._built: dict[str, Normalized] = {}  # by name and width; `spaced` copies share it

    def spaced(self, pos_xy_std: float) -> DenseCRF:
        """The same with another spatial width; the bilateral kernel, which costs the time, is shared."""
        checks.widths(pos_xy_std=pos_xy_std)
        other = copy.copy(self)
        other.pos_xy_std = float(pos_xy_std)
        return other

    def infer(self, probs: checks.Values, **options: Any) -> Any:
        """As `dense_crf`, on this image; computed on the image's device, returned on that of the probabilities.

        options: those of `dense_crf` that no kernel depends on, with its defaults: pos_w, bi_w, iterations,
        unary_scale, normalization, compatibility, prune.
        """
        chosen = checks.Options(**options)
        given, kept = checks.probabilities(probs, self.size, chosen)
        refined = self._steps(given, kept, chosen)
        return refined.to(given.device) if isinstance(probs, Tensor) else refined.cpu().numpy()

    @torch.no_grad()
    def _steps(self, given: Tensor, kept: list[int], options: checks.Options) -> Tensor:
        """Mean field over the kept classes of checked probabilities (C, H, W)."""
        _keep_memory()
        c = len(given)
        planes = given.reshape(c, -1).to(self._like)
        planes = planes if len(kept) == c else planes[kept]
        log_unary = planes.T.clamp(min=SMALLEST).log_().contiguous()  # (P, C)
        if options.unary_scale != 1:
            log_unary *= options.unary_scale  # -U
        weights = ((options.pos_w, self._spatial), (options.bi_w, self._bilateral)) if options.iterations else ()
        kernels = [build().under(options.normalization, w, len(kept)) for w, build in weights if w]
        penalties = options.compatibility
        if penalties is not None:
            penalties = torch.as_tensor(penalties).to(log_unary)[kept][:, kept].T
        # With a largest of 0 in every row and messages that cannot be negative, nothing underflows.
        log_unary -= log_unary.amax(1, keepdim=True)
        q = _softmax(log_unary.clone())
        for _ in range(int(options.iterations) if kernels else 0):
            if penalties is None:
                # Potts penalises unequal labels: up to a constant, that rewards the message of the own one.
                logits = log_unary
                for kernel in kernels:
                    logits = kernel(q, logits)
                q = _softmax(logits)
            else:
                message = torch.zeros_like(q)
                for kernel in kernels:
                    message = kernel(q, message)
                q = (log_unary - message @ penalties).softmax(1)
        result = torch.zeros(c, len(q), dtype=torch.float32, device=q.device)
        for k, column in zip(kept, q.T, strict=True):
            result[k] = column
        return result.reshape(c, *self.size)

    def _bilateral(self) -> Normalized:
        if "bilateral" not in self._built:
            span = max(max(self.size) / self.bi_xy_std, 255 / self.bi_rgb_std)
            dtype = torch.float64 if span > DOUBLE_FROM else self._like.dtype
            features = bilateral_features(self._image, self.bi_xy_std, self.bi_rgb_std, dtype)
            found = exact(features) if self.engine == "exact" else on_lattice(features, self._like)
            self._built["bilateral"] = found
        return self._built["bilateral"]

    def _spatial(self) -> Normalized:
        name = f"spatial {self.pos_xy_std}"
        if name not in self._built:
            if self.engine == "exact":
                y, x = np.divmod(np.arange(math.prod(self.size)), self.size[1])
                self._built[name] = exact(torch.from_numpy(np.stack([x, y], 1)).to(self._like) / self.pos_xy_std)
            else:
                self._built[name] = by_rows_and_columns(self.pos_xy_std, self.size, self._like)
        return self._built[name]


def _keep_memory() -> None:
    """Have glibc keep freed blocks of a few MiB: else a third of the time goes into getting their pages anew.

    Freeing a mapped block raises malloc's mapping threshold to its size and the trimming threshold to
    twice that, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD). The block is never touched; elsewhere
    this does nothing.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over rows of few entries, in place; the largest of each row is at least 0.

    torch's own takes ten times as long on such rows, and most of it for maxima that are not needed
    unless exp would overflow.
    """
    if logits.device.type != "cpu" or float(logits.amax()) > 80:
        return logits.softmax(1)
    logits.exp_()
    return logits.div_(logits @ logits.new_ones(logits.shape[1], logits.shape[1]))
