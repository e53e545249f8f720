"""Stage evaluate: counts per image and class at the original resolution, and all scores from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from segpipe.core.errors import ConfigError
from segpipe.stages import SPLITS, options
from segpipe.stages.context import Context, start
from segpipe.stages.probs import read_probs

EnsembleOption = Annotated[
    str | None, typer.Option(help="An ensemble of params.yaml instead of a run.", show_default=False)
]
CrfOption = Annotated[bool, typer.Option("--crf", help="Evaluate the run's predictions after the CRF.")]
HEADLINE = ("acc", "miou_dataset", "miou_image", "miou_class", "miou_image_q5", "ece_dataset", "nll_dataset")


def evaluate(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    ensemble: EnsembleOption = None,
    crf: CrfOption = False,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Score a run, its CRF or an ensemble on val and test."""
    if sum(value is not None for value in (run, loss, ensemble)) != 1 or (crf and ensemble):
        raise ConfigError("give one of --run NAME, --loss NAME, --ensemble NAME; --crf goes with a run")
    context = start(
        "evaluate", run=run, loss=loss, seed=seed, method=ensemble, overrides=settings, dry_run=dry_run, as_json=as_json
    )
    variant = "ensembles" if ensemble else "crf" if crf else "runs"
    source = context.require({"ensembles": "ensemble", "crf": "crf", "runs": "predict"}[variant])
    out = context.path("evaluate", variant="" if variant != "crf" else "crf")
    if dry_run:
        context.announce(out, source)
        return
    with context.writing(out):
        result = write(context, variant, source, out)
    test = result["test"]
    lines = [f"{out}: test " + ", ".join(f"{name} {_show(test[name])}" for name in HEADLINE if name in test)]
    context.finish(result, lines, context.command("report"))


def write(context: Context, variant: str, source: Path, out: Path) -> dict[str, Any]:
    """Write counts.csv, calibration.csv, metrics.json, headline.json and pictures/."""
    from segpipe.core import files
    from segpipe.metrics import Bins, Counts, summarize
    from segpipe.reporting.tables import BINS_HEADER, COUNTS_HEADER, bins_rows, counts_rows, csv_text

    settings = context.params.evaluate
    index = files.read_json(context.path("prepare") / "index.json")
    classes: list[str] = index["classes"]
    name = {"runs": "plain", "crf": "crf", "ensembles": context.method}[variant]
    counts_text, bins_text, scores = csv_text(COUNTS_HEADER), csv_text(BINS_HEADER), {}
    digest = context.digest("evaluate", "crf" if variant == "crf" else "")
    with files.folder(out, {"config": digest}) as folder:
        for split in SPLITS:
            rows = index["splits"][split]
            counts, bins = [], []
            for image_counts, image_bins in _images(context, index, split, source, folder):
                counts.append(image_counts)
                bins += [] if image_bins is None else [image_bins]
            table = Counts.concat(counts)
            scores[split] = summarize(table, quantiles=settings.quantiles, thresholds=settings.thresholds)
            scores[split]["per_class"]["names"] = classes
            counts_text += csv_text(None, counts_rows(table, split, name, rows, classes))
            if bins:
                scores[split] |= Bins.concat(bins).summarize()
                bins_text += csv_text(None, bins_rows(Bins.concat(bins), split, name, rows))
        files.write_text(folder / "counts.csv", counts_text)
        files.write_text(folder / "calibration.csv", bins_text)
        files.write_json(folder / "metrics.json", {"passport": _passport(context, index), **scores})
        headline = {split: {k: scores[split][k] for k in HEADLINE if k in scores[split]} for split in SPLITS}
        files.write_json(folder / "headline.json", headline)
    return {"path": str(out), **headline}


def _images(
    context: Context, index: dict[str, Any], split: str, source: Path, folder: Path
) -> Iterator[tuple[Any, Any]]:
    """Counts and calibration bins of each image, one at a time; pictures of some test images."""
    from tqdm import tqdm

    from segpipe.core.files import write_bytes
    from segpipe.data import catalog
    from segpipe.data.files import png_bytes
    from segpipe.metrics import Bins, count

    settings, root = context.params.evaluate, context.path("download")
    card = catalog.card(index["dataset"])
    palette: list[tuple[int, ...]] = [tuple(color) for color in card.palette] + [(0, 0, 0)] * (256 - len(card.palette))
    rows = index["splits"][split]
    kept = pictured(len(rows), settings.pictures) if split == "test" else []
    pairs = _predictions(source, split, rows)
    title = f"{context.method or context.key} {split}"
    for i, row in enumerate(tqdm(rows, title, unit="image", disable=None)):
        sample = catalog.Sample(row["id"], split, row["group"], row["image"], tuple(row["labels"]))
        target = catalog.read_labels(root, sample, card, index["labels"])
        labels, probs = next(pairs)
        if i in kept:
            write_bytes(folder / "pictures" / f"{row['id']}.png", png_bytes(labels, palette))
        counts = count(labels[None], target[None], card.num_classes)
        yield counts, None if probs is None else Bins.of_image(probs, target, bins=settings.bins)


def _predictions(source: Path, split: str, rows: list[dict[str, Any]]) -> Iterator[tuple[Any, Any]]:
    """(labels, probs or None) of each image: from logits, or from the stored maps.

    Stored labels are taken as they are: argmax of float16 probabilities would break ties anew.
    """
    import numpy as np

    from segpipe.data.maps import Maps

    if (source / f"{split}.npy").exists():
        for probs in read_probs(source, split, rows):
            yield probs.argmax(0).astype(np.uint8), probs
        return
    stored = Maps(source / f"{split}_labels")
    kept = Maps(source / f"{split}_probs") if (source / f"{split}_probs.json").exists() else [None] * len(rows)
    for i in range(len(rows)):
        yield stored[i], kept[i]


def pictured(number: int, wanted: int) -> list[int]:
    """Evenly spaced positions of the images that the report shows."""
    wanted = min(number, wanted)
    return [(2 * i + 1) * number // (2 * wanted) for i in range(wanted)]


def _passport(context: Context, index: dict[str, Any]) -> dict[str, Any]:
    """What the numbers mean."""
    return {
        "dataset": index["dataset"],
        "resolution": "original",
        "void": "pixels whose label is void count nowhere",
        "absent": "a class absent from an image's label is left out of that image",
        "images": {split: len(index["splits"][split]) for split in SPLITS},
        "calibration_bins": context.params.evaluate.bins,
        "headline": "miou_dataset",
    }


def _show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
