"""Probabilities of a trained network: whole images or windows, flips, sizes and Monte Carlo passes averaged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from segpipe.core.errors import TrainingError
from segpipe.core.seeding import seed_torch
from segpipe.core.upsample import upsample
from segpipe.data.geometry import Geometry, place_image, resize_back, restore
from segpipe.data.normalize import Curve, to_input
from segpipe.data.packed import rounded
from segpipe.models.blocks.layers import awake

FLOOR = 1e-12  # of a probability whose logarithm is taken
MOST = 2**22  # numbers of an image that are kept at a network's own stride
_COARSEST = 4  # stride beyond which nothing is averaged unasked
_SHOWN = 16  # windows of an image, beyond which their progress is shown
_PASSES = 6  # stream of the seed that dropout draws from


@dataclass(frozen=True)
class Options:
    """How an image is looked at.

    flips: also mirrored. scales: at these sizes. window: height and width of the pieces that an image is cut
    into, None for whole images; overlap: share that neighbouring windows have in common at least. passes:
    Monte Carlo passes with dropout awake, 0 for none. look: from 1, that look alone instead of the mean of all:
    passes vary slowest, sizes fastest. stride: of the logits, rounded up to a multiple of the network's own; None: its
    own, but up to 4 where an image has more than `MOST` numbers.
    """

    flips: bool = False
    scales: Sequence[float] = (1.0,)
    window: Sequence[int] | None = None
    overlap: float = 0.5
    passes: int = 0
    look: int | None = None
    stride: int | None = None

    @property
    def plain(self) -> bool:
        """One look at the whole image, whose logits can be kept as they are."""
        return not self.flips and tuple(self.scales) == (1.0,) and self.window is None and not self.passes


class Predictor:
    """A network that is asked for many images of one size at a time.

    Raises:
        ConfigError: passes are asked of a network without dropout.
        TrainingError: the network predicts values that are not finite.
    """

    def __init__(
        self, model: nn.Module, curve: Curve, options: Options, *, device: torch.device | None = None, seed: int = 0
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.curve, self.options, self.seed = curve, options, seed
        self.stride = int(getattr(self.model, "stride", 1))
        awake(self.model) if options.passes else self.model.eval()

    @torch.no_grad()
    def logits(self, images: NDArray[np.uint8], first: int = 0) -> tuple[Tensor, Tensor | None]:
        """Logits (N, C, h, w) of images (N, H, W, 3) at the stride of the options, and (N, 2, h, w) uncertainty.

        Where several looks are averaged, the logits are logarithms of mean probabilities. Uncertainty, of Monte
        Carlo passes alone, is the entropy of the mean and the mutual information, in nats (Gal et al. 2017,
        arXiv:1703.02910, eq. 4).

        first: the number of the first image: passes draw by it, so that a rerun draws the same.
        """
        logits, uncertainty = self._logits(images, first)
        times = self._times(logits.shape[1], *images.shape[1:3])
        return _averaged(logits, times), None if uncertainty is None else _averaged(uncertainty, times)

    def _times(self, classes: int, height: int, width: int) -> int:
        """How many times coarser than the network's logits are those of the options, in each direction."""
        kept, wanted = self.stride, self.options.stride
        if wanted is not None:
            return max(1, -(-wanted // kept))
        while kept < _COARSEST and classes * -(-height // kept) * -(-width // kept) > MOST:
            kept *= 2
        return kept // self.stride

    def _logits(self, images: NDArray[np.uint8], first: int) -> tuple[Tensor, Tensor | None]:
        batch = to_input(images, self.curve, str(self.device))
        if self.options.plain:
            return self._forward(batch), None
        total, entropies, number = torch.zeros(()), torch.zeros(()), 0
        for probs in self._looks(batch, first):
            total, number = total + probs, number + 1
            if self.options.passes:
                entropies = entropies + entropy(probs)
        mean = total / number
        if not self.options.passes or self.options.look is not None:
            return mean.clamp(min=FLOOR).log(), None
        whole = entropy(mean)
        return mean.clamp(min=FLOOR).log(), torch.stack([whole, (whole - entropies / number).clamp(min=0)], 1)

    def _looks(self, batch: Tensor, first: int) -> Iterator[Tensor]:
        """The probabilities of every look, all at the stride of the whole image."""
        size = [-(-side // self.stride) for side in batch.shape[-2:]]
        flips, scales = (False, True) if self.options.flips else (False,), self.options.scales
        looks = itertools.product(range(max(1, self.options.passes)), flips, scales)
        for position, (_, flipped, scale) in enumerate(looks, 1):
            if self.options.look not in (None, position):
                continue
            if self.options.passes:
                seed_torch(self.seed, _PASSES, first, position - 1)
            seen = batch.flip(3) if flipped else batch
            if scale != 1:
                sides = [max(1, round(side * scale)) for side in batch.shape[-2:]]
                seen = functional.interpolate(seen, sides, mode="bilinear", align_corners=False, antialias=scale < 1)
            probs = self._windows(seen) if self.options.window else self._forward(seen).softmax(1)
            probs = upsample(probs, size)
            yield probs.flip(3) if flipped else probs

    def _windows(self, batch: Tensor) -> Tensor:
        """Probabilities (N, C, h, w) from overlapping windows, blended by weights that fall towards their edges.

        Windows begin at multiples of the stride and are blended there, so that memory grows with the logits alone.
        """
        assert self.options.window is not None
        sides = batch.shape[-2:]
        ends = [
            spans(side, min(window, side), self.options.overlap, self.stride)
            for side, window in zip(sides, self.options.window, strict=True)
        ]
        total, weights = None, batch.new_zeros([-(-side // self.stride) for side in sides])
        places = list(itertools.product(*ends))
        for (top, bottom), (left, right) in tqdm(places, "windows", disable=None if len(places) > _SHOWN else True):
            piece = batch[..., top:bottom, left:right].contiguous(memory_format=torch.channels_last)
            probs = self._forward(piece).softmax(1)
            weight = (_hill(probs.shape[-2])[:, None] * _hill(probs.shape[-1])).to(probs)
            if total is None:
                total = probs.new_zeros(len(batch), probs.shape[1], *weights.shape)
            rows, columns = (
                slice(at // self.stride, at // self.stride + length)
                for at, length in zip((top, left), probs.shape[-2:], strict=True)
            )
            total[..., rows, columns] += probs * weight
            weights[rows, columns] += weight
        assert total is not None
        return total.div_(weights)

    def _forward(self, batch: Tensor) -> Tensor:
        found: Tensor = self.model(batch).float()
        if not bool(torch.isfinite(found).all()):
            raise TrainingError("the network predicts values that are not finite; lower train.lr and train it again")
        return found


def _averaged(maps: Tensor, times: int) -> Tensor:
    """Means over cells of maps (N, K, h, w)."""
    if times == 1:
        return maps
    height, width = maps.shape[-2:]
    return functional.adaptive_avg_pool2d(maps, (-(-height // times), -(-width // times)))


def starts(side: int, window: int, overlap: float) -> list[int]:
    """Where windows begin so that they cover a side, evenly, with at least this share in common.

    >>> starts(100, 40, 0.25), starts(30, 30, 0.5)
    ([0, 30, 60], [0])
    """
    if side <= window:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    number = -(-(side - window) // step) + 1
    return [round(i * (side - window) / (number - 1)) for i in range(number)]


def spans(side: int, window: int, overlap: float, stride: int) -> list[tuple[int, int]]:
    """Where windows begin and end: as `starts` says, but at multiples of the stride.

    >>> spans(100, 40, 0.25, 4), spans(30, 30, 0.5, 4)
    ([(0, 40), (28, 68), (60, 100)], [(0, 30)])
    """
    begins = [start // stride * stride for start in starts(side, window, overlap)]
    return [(begin, side if begin == begins[-1] else begin + window) for begin in begins]


def entropy(probs: Tensor) -> Tensor:
    """(N, h, w) of (N, C, h, w), in nats."""
    found: Tensor = torch.special.entr(probs).sum(1)
    return found


def _hill(length: int) -> Tensor:
    """Weights from near 0 at the edges to 1 in the middle; never 0, so that every pixel is covered."""
    position = (torch.arange(length) + 0.5) / length
    return (2 * torch.minimum(position, 1 - position)).clamp(min=1e-3)


def image_probs(
    predictor: Predictor, image: NDArray[np.uint8], grid: Sequence[int] | None, number: int = 0, *, fitted: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Probabilities (C, H, W) of one image (H, W, 3) at its size, and (2, H, W) uncertainty of Monte Carlo passes.

    With windows the image is seen at its own size, unless it shall be fitted; without, it is fitted into the `grid`
    (height, width) of the training, where there is one.
    """
    size = image.shape[0], image.shape[1]
    whole = grid is None or (predictor.options.window is not None and not fitted)
    geometry = Geometry.fit(size, None if whole or grid is None else (grid[0], grid[1]))
    logits, uncertainty = predictor.logits(place_image(image, geometry)[None], number)
    found = restore(rounded(logits[0].cpu().numpy()), geometry)  # as stage predict keeps them
    if uncertainty is None:
        return found, None
    return found, resize_back(uncertainty[0].cpu().numpy(), geometry)
