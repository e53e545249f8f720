"""Stage stats: class frequencies of the original train masks, class weights, colour moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segpipe.config.context import Context
from segpipe.core import files, outputs
from segpipe.data import catalog
from segpipe.data.dataset import Index, read_samples
from segpipe.data.frequencies import class_weights
from segpipe.data.normalize import colors
from segpipe.data.prepared import stored


def run(context: Context) -> dict[str, Any]:
    """Write data/stats.json."""
    source, prepared, out = context.path("download"), context.path("prepare"), context.path("stats")
    index = Index.read(prepared)
    card = catalog.card(index.dataset)
    samples = [sample for sample in read_samples(source) if sample.split == "train"]
    maps = (catalog.read_labels(source, sample, card, index.labels) for sample in samples)
    # (images, 256) pixels by label, void at 255
    table = np.stack([np.bincount(labels.ravel(), minlength=256) for labels in maps])
    pixels, sizes = table[:, : card.num_classes], table.sum(1)
    present = pixels > 0
    total = int(sizes.sum())
    with_class = [int(sizes[present[:, k]].sum()) for k in range(card.num_classes)]
    counts = [int(n) for n in pixels.sum(0)]
    result = {
        **context.describe("stats"),
        "classes": card.classes,
        "pixels": counts,
        "images": [int(n) for n in present.sum(0)],
        "share": [n / total for n in counts],
        "void_share": float(table[:, 255].sum() / total),
        "train_images": len(samples),
        "weights": class_weights(counts, with_class, total, effective_beta=context.params.stats.effective_beta),
        **_colors(prepared, index),
    }
    files.write_json(out, outputs.sealed(result))
    return result


def _colors(prepared: Path, index: Index) -> dict[str, Any]:
    """What normalisation needs of the prepared train images, without padding."""
    images, histogram = stored(prepared, index, "train", "images"), np.zeros((3, 256), np.int64)
    for image, row in zip(images, index.splits["train"], strict=True):
        part = image[row.inside].reshape(-1, 3)
        histogram += np.stack([np.bincount(part[:, channel], minlength=256) for channel in range(3)])
    return colors(histogram)
