"""The dense CRF as a refiner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.argmax import label_and_confidence
from segpipe.core.registry import register
from segpipe.crf.dense import DenseCRF, dense_crf
from segpipe.refine.base import Refiner
from segpipe.refine.search import Point


@register(
    "crf",
    source="Kraehenbuehl and Koltun 2011, arXiv:1210.5644",
    tuned=("unary_scale", "pos_w", "pos_xy_std", "bi_w", "bi_xy_std", "bi_rgb_std"),
    may_be_zero=("pos_w", "bi_w"),
)
class CRF(Refiner):
    """Pixels that are near and alike pull towards one label; see `segpipe.crf.dense_crf` for the numbers."""

    def __init__(
        self,
        *,
        unary_scale: float = 1.0,
        pos_w: float = 3.0,
        pos_xy_std: float = 1.0,
        bi_w: float = 4.0,
        bi_xy_std: float = 67.0,
        bi_rgb_std: float = 3.0,
        iterations: int = 10,
    ) -> None:
        self.unary_scale, self.iterations = unary_scale, iterations
        self.pos_w, self.pos_xy_std = pos_w, pos_xy_std
        self.bi_w, self.bi_xy_std, self.bi_rgb_std = bi_w, bi_xy_std, bi_rgb_std

    def apply(self, image: NDArray[np.uint8], probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """As `segpipe.crf.dense_crf`."""
        refined: NDArray[np.float32] = dense_crf(image, probs, **self.describe())
        return refined

    @classmethod
    def label_maps(
        cls, image: NDArray[np.uint8], probs: NDArray[np.floating], points: Sequence[Point], fixed: Mapping[str, Any]
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """A lattice is built once for all points that share its widths."""
        for bi_xy_std, bi_rgb_std in sorted({(point["bi_xy_std"], point["bi_rgb_std"]) for point in points}):
            kernel: DenseCRF | None = None
            for i, point in enumerate(points):
                if (point["bi_xy_std"], point["bi_rgb_std"]) == (bi_xy_std, bi_rgb_std):
                    space = point["pos_xy_std"]
                    if kernel is None:
                        kernel = DenseCRF(image, pos_xy_std=space, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std)
                    weights: dict[str, Any] = {name: point[name] for name in ("unary_scale", "pos_w", "bi_w")}
                    refined = kernel.spaced(space).infer(probs, **fixed, **weights)
                    yield i, label_and_confidence(refined)[0]
