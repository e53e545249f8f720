"""Losses of shapes: distances to borders, skeletons. They depend on pixel positions; add them to a loss of labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from segpipe.core.batch import Batch
from segpipe.core.registry import register
from segpipe.losses.options import Classes, active_classes, in_range


@register(
    "boundary",
    source="Kervadec et al. 2019, arXiv:1812.07032, eq. 5",
    bare=True,
    spatial=True,
    on_cpu=True,
    needs="hard labels",
)
def boundary(batch: Batch, *, classes: Classes = "present") -> Tensor:
    """Mean over images and classes of 1/n sum_i phi_c(i) p_ic, phi_c the signed distance to the label's border.

    phi is in pixels, positive outside of the label's region and negative inside, where it begins at 0 beside the
    border; it is 0 for a class that the image's label does not hold or holds everywhere. Void pixels are in no
    region. The value may be negative. Add it to a region loss when borders matter more than areas; its weight
    is usually increased during training.
    """
    labels = _label_maps(batch, "boundary")
    valid = _valid_maps(batch)
    phi = np.zeros((*labels.shape[:1], batch.num_classes, *labels.shape[1:]))
    for n, (image, known) in enumerate(zip(labels, valid, strict=True)):
        for k in np.unique(image[known]):
            phi[n, k] = _signed_distance(known & (image == k), known & (image != k))
    return _mean_of_classes(batch, torch.from_numpy(phi).flatten(2).to(batch.raw.device) * _masked(batch), classes)


def _signed_distance(inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in pixels to the nearest pixel inside, or minus that to the nearest outside plus 1; 0 without both."""
    if not inside.any() or not outside.any():
        return np.zeros(inside.shape)
    away, deep = distance_transform_edt(~inside), distance_transform_edt(~outside)
    found: NDArray[np.float64] = np.where(inside, 1 - deep, away)
    return found


@register(
    "hausdorff",
    source="Karimi and Salcudean 2019, arXiv:1904.10030, eq. 8 (by distance transforms)",
    bare=True,
    spatial=True,
    on_cpu=True,
    needs="hard labels",
)
def hausdorff(batch: Batch, *, alpha: float = 2.0, classes: Classes = "present") -> Tensor:
    """Mean over images and classes of 1/n sum_i (p_ic - y_ic)^2 (d_y(i)^alpha + d_p(i)^alpha), in pixels.

    d_y is the distance to the border of the label's region, d_p that of the region where p > 1/2; both are constants
    of the gradient, and 0 where a region is empty or everywhere. Void pixels are in no region. Errors far from a
    border cost most, as they do in the Hausdorff distance. The transforms run on the CPU at every step.
    """
    in_range("hausdorff", "alpha", alpha, 0.01)
    labels, valid = _label_maps(batch, "hausdorff"), _valid_maps(batch)
    predicted = (batch.probs.detach() > 0.5).reshape(len(labels), -1, *batch.size).cpu().numpy()
    weights = np.zeros(predicted.shape)
    for n, known in enumerate(valid):
        for k in range(batch.num_classes):
            for region in (labels[n] == k, predicted[n, k]):
                weights[n, k] += np.abs(_border_distance(known & region, known & ~region)) ** alpha
    truth = torch.zeros_like(batch.probs).scatter(1, batch.require_hard("hausdorff").unsqueeze(1), 1)
    errors = (batch.probs - truth).square().masked_fill(~batch.valid.unsqueeze(1), 0)
    return _mean_of_classes(batch, torch.from_numpy(weights).flatten(2).to(batch.raw.device) * errors, classes)


def _border_distance(inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in pixels to the nearest pixel of the other side; 0 where there is none, and under void."""
    if not inside.any() or not outside.any():
        return np.zeros(inside.shape)
    found: NDArray[np.float64] = np.where(inside, distance_transform_edt(~outside), distance_transform_edt(~inside))
    return np.where(inside | outside, found, 0)


@register("cldice", source="Shit et al. 2021, arXiv:2003.07311, eq. 3 and algorithm 1", bare=True, spatial=True)
def cldice(batch: Batch, *, iterations: int = 3, smooth: float = 1.0, classes: Classes = "present") -> Tensor:
    """1 - clDice of soft skeletons: the harmonic mean of how much of the predicted skeleton lies in the label, and of
    the label's skeleton in the prediction; mean over the classes of each image, then over images.

    iterations: erosions of the skeleton, at least half the width of the widest tube in pixels. Void counts as
    background of every class. Add it to a region loss for vessels, roads and cracks, whose connections matter: give
    their classes.
    """
    in_range("cldice", "iterations", iterations, 1)
    in_range("cldice", "smooth", smooth, 1e-12)
    shape = (len(batch.raw), batch.num_classes, *batch.size)
    probs = _masked(batch).reshape(shape)
    truth = _truth(batch).reshape(shape)
    both = [_skeleton(maps, iterations) for maps in (probs, truth)]
    precision, sensitivity = (
        ((skeleton * other).sum((2, 3), dtype=torch.float64) + smooth)
        / (skeleton.sum((2, 3), dtype=torch.float64) + smooth)
        for skeleton, other in zip(both, (truth, probs), strict=True)
    )
    losses = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    active = active_classes(classes, batch)
    of_image = losses.masked_fill(~active, 0).sum(1) / active.sum(1).clamp(min=1)
    return batch.mean_over_images(of_image, batch.valid.any(1))


def _truth(batch: Batch) -> Tensor:
    """(N, C, P) the target, 0 under void."""
    if batch.soft is not None:
        return batch.soft
    assert batch.labels is not None
    return torch.zeros_like(batch.probs).scatter(1, batch.labels.unsqueeze(1), batch.valid.unsqueeze(1).to(batch.dtype))


def _skeleton(maps: Tensor, iterations: int) -> Tensor:
    """(N, C, H, W) soft skeleton: what openings take away, from the map and from its erosions, joined."""
    skeleton = (maps - _opened(maps)).relu()
    for _ in range(iterations):
        maps = _eroded(maps)
        removed = (maps - _opened(maps)).relu()
        skeleton = skeleton + (removed - skeleton * removed).relu()
    return skeleton


def _eroded(maps: Tensor) -> Tensor:
    """The smallest of each pixel and its four neighbours."""
    upright = -functional.max_pool2d(-maps, (3, 1), 1, (1, 0))
    return torch.minimum(upright, -functional.max_pool2d(-maps, (1, 3), 1, (0, 1)))


def _opened(maps: Tensor) -> Tensor:
    """Eroded, then the largest of each 3 x 3."""
    return functional.max_pool2d(_eroded(maps), 3, 1, 1)


def _label_maps(batch: Batch, name: str) -> NDArray[np.int64]:
    """(N, H, W) labels on the CPU."""
    found: NDArray[np.int64] = batch.require_hard(name).reshape(-1, *batch.size).cpu().numpy()
    return found


def _valid_maps(batch: Batch) -> NDArray[np.bool_]:
    """(N, H, W) on the CPU."""
    found: NDArray[np.bool_] = batch.valid.reshape(-1, *batch.size).cpu().numpy()
    return found


def _masked(batch: Batch) -> Tensor:
    """(N, C, P) probabilities, 0 under void."""
    return batch.probs.masked_fill(~batch.valid.unsqueeze(1), 0)


def _mean_of_classes(batch: Batch, values: Tensor, classes: Classes) -> Tensor:
    """The mean over valid pixels of (N, C, P) values, then over the active classes of each image, then over images."""
    active, pixels = active_classes(classes, batch), batch.valid.sum(1)
    of_class = values.sum(2) / pixels.clamp(min=1)[:, None]
    of_image = of_class.masked_fill(~active, 0).sum(1) / active.sum(1).clamp(min=1)
    return batch.mean_over_images(of_image, pixels > 0)
