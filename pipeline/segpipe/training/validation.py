"""Counts on the val images after an epoch, and what they give away."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segpipe.core import distributed
from segpipe.core.spoken import spoken
from segpipe.core.upsample import upsample
from segpipe.data.normalize import Curve, to_input
from segpipe.data.prepared import Stack, alike, gather
from segpipe.metrics.counts import Counts, count
from segpipe.training.inference import starts

LARGE, TILE = 2**21, 1024  # pixels of an image, from which it is cut into tiles of that side
COLLAPSED = 0.99  # share of the predictions in one class


@torch.no_grad()
def validate(
    model: nn.Module, images: Stack, labels: Stack, curve: Curve, *, size: int, num_classes: int, device: torch.device
) -> Counts:
    """Counts on prepared images (their padding is void), `size` images at a time; processes share them."""
    model.eval()
    found: list[Counts] = []
    large = [i for i in range(len(images)) if images[i].shape[0] * images[i].shape[1] > LARGE]
    batches = list(alike(images, range(len(images)), 1 if large else size))
    for rows in batches[distributed.rank() :: distributed.world()]:
        predicted = _labels(model, to_input(gather(images, rows), curve, str(device)))
        found.append(count(predicted, gather(labels, rows), num_classes))
    shares = distributed.gather(found)
    return Counts.concat([shares[i % len(shares)][i // len(shares)] for i in range(len(batches))])


def _labels(model: nn.Module, batch: Tensor) -> Tensor:
    """(N, H, W) predicted of images (N, 3, H, W), in tiles where they are large: memory stays flat."""
    height, width = batch.shape[-2:]
    if height * width <= LARGE:
        return upsample(model(batch).float(), (height, width)).argmax(1)
    found = torch.empty(len(batch), height, width, dtype=torch.long, device=batch.device)
    for top in starts(height, TILE, 0):
        for left in starts(width, TILE, 0):
            tile = batch[..., top : top + TILE, left : left + TILE]
            found[:, top : top + TILE, left : left + TILE] = upsample(model(tile).float(), tile.shape[-2:]).argmax(1)
    return found


def collapse(counts: Counts) -> str | None:
    """A warning when nearly all is predicted as one class that the labels do not hold as often."""
    predicted, true = (counts.tp + counts.fp).sum(0), (counts.tp + counts.fn).sum(0)
    if not predicted.sum() or not true.sum():
        return None
    top = int(predicted.argmax())
    share, wanted = predicted[top] / predicted.sum(), true[top] / true.sum()
    if share < COLLAPSED or wanted > 0.95 * share:
        return None
    return spoken(
        f"{share:.0%} of val is predicted as class {top}, which {wanted:.0%} of the labels are; try a longer "
        "train.warmup_epochs, another train.lr, class weights such as ce(class_weights=median_frequency), or a "
        "region loss such as 0.25*ce + 0.75*jml"
    )


def not_finite(model: nn.Module) -> str | None:
    """The first weight or statistic that is not finite: a step may spoil them after a loss that still was."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None
