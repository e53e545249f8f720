"""Stage stats: class frequencies of the original train masks, class weights, colour moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.stages import options
from segpipe.stages.context import Context, start
from segpipe.stages.samples import read_samples


def stats(settings: options.Set = None, dry_run: options.DryRun = False, as_json: options.Json = False) -> None:
    """Count pixels and images per class; derive class weights and normalisation."""
    context = start("stats", overrides=settings, dry_run=dry_run, as_json=as_json)
    source, prepared = context.require("download"), context.require("prepare")
    if dry_run:
        context.announce(context.path("stats"), source, prepared)
        return
    with context.writing(context.path("stats")):
        result = run(context)
    width = max(len(name) for name in result["classes"])
    rows = zip(result["classes"], result["share"], result["images"], result["weights"]["median_frequency"], strict=True)
    lines = [f"{'class':<{width}}  share    images  median-frequency weight"]
    lines += [f"{name:<{width}}  {share:6.2%}  {images:6d}  {weight:.3f}" for name, share, images, weight in rows]
    context.run = next(iter(context.params.runs))
    context.finish(result, lines, context.command("train"))


def run(context: Context) -> dict[str, Any]:
    """Write data/stats.json."""
    import numpy as np

    from segpipe.core import files
    from segpipe.data import catalog
    from segpipe.data.frequencies import class_weights

    source, prepared, out = context.path("download"), context.path("prepare"), context.path("stats")
    index = files.read_json(prepared / "index.json")
    card = catalog.card(index["dataset"])
    samples = [sample for sample in read_samples(source) if sample.split == "train"]
    table = np.stack(
        [
            np.bincount(catalog.read_labels(source, sample, card, index["labels"]).ravel(), minlength=256)
            for sample in samples
        ]
    )  # (images, 256) pixels by label, void at 255
    pixels, sizes = table[:, : card.num_classes], table.sum(1)
    present = pixels > 0
    total = int(sizes.sum())
    with_class = [int(sizes[present[:, k]].sum()) for k in range(card.num_classes)]
    counts = [int(n) for n in pixels.sum(0)]
    result = {
        "config": context.digest("stats"),
        "classes": card.classes,
        "pixels": counts,
        "images": [int(n) for n in present.sum(0)],
        "share": [n / total for n in counts],
        "void_share": float(table[:, 255].sum() / total),
        "train_images": len(samples),
        "weights": class_weights(counts, with_class, total, effective_beta=context.params.stats.effective_beta),
        **_colors(prepared, index["splits"]["train"]),
    }
    files.write_json(out, result)
    return result


def _colors(prepared: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What normalisation needs of the prepared train images, without padding."""
    import numpy as np

    from segpipe.core.files import read_array
    from segpipe.data.normalize import colors

    images, histogram = read_array(prepared / "train_images.npy"), np.zeros((3, 256), np.int64)
    for image, row in zip(images, rows, strict=True):
        size = row["geometry"]
        part = image[: size["resized_height"], : size["resized_width"]].reshape(-1, 3)
        histogram += np.stack([np.bincount(part[:, channel], minlength=256) for channel in range(3)])
    return colors(histogram)
