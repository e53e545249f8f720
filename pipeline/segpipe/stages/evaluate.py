"""Stage evaluate: counts per image and class at the original resolution, and all scores from them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from segpipe.core.errors import ConfigError
from segpipe.stages import SPLITS, options
from segpipe.stages.context import Context, start
from segpipe.stages.judging import judge
from segpipe.stages.probs import probs_at

EnsembleOption = Annotated[
    str | None, typer.Option(help="An ensemble of params.yaml instead of a run.", show_default=False)
]
CrfOption = Annotated[bool, typer.Option("--crf", help="Evaluate the run's predictions after the CRF.")]
LabelsOption = Annotated[
    Path | None,
    typer.Option(help="A folder of label maps (PNG of class ids), without any pipeline.", show_default=False),
]
PredictionsOption = Annotated[
    Path | None, typer.Option(help="A folder of predicted label maps named as those of --labels.", show_default=False)
]
ClassesOption = Annotated[int | None, typer.Option(help="Number of classes of the folders.", show_default=False)]
IgnoreOption = Annotated[int, typer.Option(help="The void id in the folder of labels.")]
ConventionOption = Annotated[
    str | None,
    typer.Option(help="Print what mmseg, smp, torchmetrics, paddle or monai would say.", show_default=False),
]
_COVERED = 0.5  # a prediction that rejects more pixels is warned of
FIT_PIXELS = 50_000  # of val, over all images: what the temperature is fitted on


def evaluate(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    ensemble: EnsembleOption = None,
    crf: CrfOption = False,
    labels: LabelsOption = None,
    predictions: PredictionsOption = None,
    classes: ClassesOption = None,
    ignore_index: IgnoreOption = 255,
    convention: ConventionOption = None,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Score a run, its CRF or an ensemble on val and test; or two folders of label maps."""
    from segpipe.core.parallel import Pool

    if labels is not None or predictions is not None:
        if run or loss or ensemble or crf or settings:
            raise ConfigError("--labels and --predictions stand alone: no --run, --loss, --ensemble, --crf or --set")
        _extras().evaluate_folders(labels, predictions, classes, ignore_index, convention, as_json)
        return
    if sum(value is not None for value in (run, loss, ensemble)) != 1 or (crf and ensemble):
        raise ConfigError(
            "give one of --run NAME, --loss NAME, --ensemble NAME (--crf goes with a run), "
            "or --labels DIR --predictions DIR --classes N"
        )
    context = start(
        "evaluate", run=run, loss=loss, seed=seed, method=ensemble, overrides=settings, dry_run=dry_run, as_json=as_json
    )
    variant = "ensembles" if ensemble else "crf" if crf else "runs"
    out = context.path("evaluate", variant="" if variant != "crf" else "crf")
    if convention is not None:
        context.require("evaluate", variant="" if variant != "crf" else "crf")
        _extras().print_convention(out, convention, as_json)
        return
    source = context.require({"ensembles": "ensemble", "crf": "crf", "runs": "predict"}[variant])
    if dry_run:
        context.announce(out, source)
        return
    with context.writing(out):
        result = write(context, variant, source, out, Pool(jobs or context.params.threads, scheduler))
    test = result["test"]
    lines = [f"{out}: test " + ", ".join(f"{name} {_show(value)}" for name, value in test.items())]
    context.finish(result, lines, context.command("report"))


def write(context: Context, variant: str, source: Path, out: Path, pool: Any) -> dict[str, Any]:
    """Write the tables (counts, images, calibration), metrics.json, headline.json, curves.json and pictures/;
    of an ensemble also members.json: what its members and its gain are.
    """
    from segpipe.core import files
    from segpipe.metrics.evaluation import HEADLINE, Evaluation
    from segpipe.metrics.evaluation import Options as Chosen
    from segpipe.reporting.tables import BINS_HEADER, COUNTS_HEADER, bins_rows, counts_rows, csv_text

    settings = context.params.evaluate
    index = files.read_json(context.path("prepare") / "index.json")
    classes: list[str] = index["classes"]
    name = {"runs": "plain", "crf": "crf", "ensembles": context.method}[variant]
    counts_text, bins_text, images_text = csv_text(COUNTS_HEADER), csv_text(BINS_HEADER), ""
    scores: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    fitted: dict[str, Any] | None = None
    digest = context.digest("evaluate", "crf" if variant == "crf" else "")
    with files.folder(out, {"config": digest}) as folder:
        for split in SPLITS:
            rows = index["splits"][split]
            chosen = Chosen(**settings.model_dump(exclude={"pictures"}))
            collected = Evaluation(len(classes), chosen, fitted["value"] if fitted else None)
            sampled = _collect(context, index, split, source, folder, collected, pool)
            if split == "val" and sampled:
                fitted = _fit(sampled)
                if fitted["value"] is None:
                    context.log(f"warning: temperature refused: {fitted['reason']}")
            scores[split] = collected.scores([row["group"] for row in rows])
            scores[split]["per_class"]["names"] = classes
            _warn(context, name, split, scores[split])
            tables = collected.tables
            counts_text += csv_text(None, counts_rows(tables.counts, split, name, rows, classes))
            each = collected.image_rows()
            keys = ("split", "variant", "image", "group")
            images_text += csv_text(
                (*keys, *each[0]) if not images_text else None,
                (
                    (split, name, row["id"], row["group"], *values.values())
                    for row, values in zip(rows, each, strict=True)
                ),
            )
            if collected.calibration is not None and tables.bins is not None:
                bins_text += csv_text(None, bins_rows(tables.bins, split, name, rows))
                curves[split] = collected.calibration.curves()
            if collected.calibrated is not None:
                curves[f"{split} calibrated"] = collected.calibrated.curves()
        files.write_text(folder / "counts.csv", counts_text)
        files.write_text(folder / "images.csv", images_text)
        files.write_text(folder / "calibration.csv", bins_text)
        files.write_json(folder / "curves.json", curves)
        passport = _passport(context, index, scores)
        files.write_json(folder / "metrics.json", {"passport": passport, "temperature": fitted, **scores})
        headline = {split: {k: scores[split][k] for k in HEADLINE if k in scores[split]} for split in SPLITS}
        files.write_json(folder / "headline.json", headline)
        if variant == "ensembles":
            judge(context, source, folder, index["splits"]["test"], tables)
    return {"path": str(out), **headline}


def _warn(context: Context, name: str, split: str, scores: dict[str, Any]) -> None:
    """Say which classes a split lacks, and when most of it is rejected."""
    per_class = scores["per_class"]
    absent = [c for c, n in zip(per_class["names"], per_class["images"], strict=True) if not n]
    if absent:
        context.log(f"warning: no label of {split} holds {', '.join(absent)}: left out of ^I and ^C")
    covered = scores["coverage"]
    if covered is not None and covered < _COVERED:
        context.log(f"warning: {name} rejects {1 - covered:.0%} of the pixels of {split}")


def _collect(
    context: Context, index: dict[str, Any], split: str, source: Path, folder: Path, collected: Any, pool: Any
) -> list[tuple[Any, Any]]:
    """Feed all images of a split, keep pictures of some test images; of val, pixels to fit a temperature on."""
    from tqdm import tqdm

    from segpipe.core.files import write_bytes
    from segpipe.data import catalog
    from segpipe.data.files import png_bytes

    card = catalog.card(index["dataset"])
    palette: list[tuple[int, ...]] = [tuple(color) for color in card.palette] + [(0, 0, 0)] * (256 - len(card.palette))
    rows = index["splits"][split]
    kept = pictured(len(rows), context.params.evaluate.pictures) if split == "test" else []
    where = (source, context.path("download"), index["dataset"], index["labels"])
    how = (collected.num_classes, collected.options, collected.temperature)
    pixels = max(1, FIT_PIXELS // len(rows)) if split == "val" else 0
    done = pool.map(measure, ((where, how, pixels, split, i, row, i in kept) for i, row in enumerate(rows)))
    sampled = []
    for i, (part, labels, drawn) in enumerate(
        tqdm(done, f"{context.method or context.key} {split}", len(rows), unit="image", disable=None)
    ):
        collected.merge(part)
        if labels is not None:
            write_bytes(folder / "pictures" / f"{rows[i]['id']}.png", png_bytes(labels, palette))
        if drawn is not None:
            sampled.append(drawn)
    return sampled


def measure(
    where: tuple[Path, Path, str, str],
    how: tuple[Any, ...],
    pixels: int,
    split: str,
    i: int,
    row: dict[str, Any],
    pictured: bool,
) -> tuple[Any, Any, Any]:
    """One image: what is counted of it, its labels where they are wanted, and so many pixels for the temperature.

    where: the folders of predictions and dataset, the dataset's name, which annotator; how: of `Evaluation`.
    """
    from segpipe.core.seeding import mix
    from segpipe.data import catalog
    from segpipe.metrics import temperature
    from segpipe.metrics.evaluation import Evaluation
    from segpipe.stages.samples import read_target, sample_of

    source, root, dataset, annotator = where
    target = read_target(root, dataset, annotator, row, split)
    several = len(row["labels"]) > 1
    raters = catalog.read_annotators(root, sample_of(row, split), catalog.card(dataset)) if several else ()
    stored, probs = _predicted(source, split, i, row)
    part = Evaluation(*how)
    labels = part.add(target, labels=stored, probs=probs, raters=raters)
    drawn = temperature.sample(probs, target, pixels, mix(0, i)) if pixels and probs is not None else None
    return part, labels if pictured else None, drawn


def _fit(sampled: list[tuple[Any, Any]]) -> dict[str, Any]:
    """The temperature of a val split, as metrics.json holds it."""
    import numpy as np

    from segpipe.metrics import temperature

    found = temperature.fit(*(np.concatenate(parts) for parts in zip(*sampled, strict=True)))
    return {"fitted_on": "val", "bounds": list(temperature.BOUNDS), **vars(found)}


def _predicted(source: Path, split: str, i: int, row: dict[str, Any]) -> tuple[Any, Any]:
    """(labels or None, probs or None) of an image: from logits, or from the stored maps.

    Stored labels are taken as they are: argmax of float16 probabilities would break ties anew.
    """
    from segpipe.data.maps import open_maps

    if (source / f"{split}.npy").exists():
        return None, probs_at(source, split, row, i)
    held = (source / f"{split}_probs.json").exists()
    return open_maps(source / f"{split}_labels")[i], open_maps(source / f"{split}_probs")[i] if held else None


def pictured(number: int, wanted: int) -> list[int]:
    """Evenly spaced positions of the images that the report shows."""
    wanted = min(number, wanted)
    return [(2 * i + 1) * number // (2 * wanted) for i in range(wanted)]


def _passport(context: Context, index: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """What the numbers mean."""
    settings = context.params.evaluate
    return {
        "dataset": index["dataset"],
        "labels": index["labels"],
        "classes": index["classes"],
        "resolution": "original: predictions are resized to the labels, never labels to predictions",
        "void": "pixels whose label is void count nowhere, whatever was predicted there",
        "absent": "image and class averages leave a class out of an image whose label does not hold it; "
        "dataset averages leave out a class that is in no label and in no prediction",
        "rejected": "a rejected pixel is a miss of its class; `accepted` scores leave it out; `coverage`: share kept",
        "headline": "miou_dataset",
        "unit": "fractions from 0 to 1",
        "images": {split: len(index["splits"][split]) for split in SPLITS},
        "images_of_class": {split: scores[split]["per_class"]["images"] for split in SPLITS},
        "calibration_bins": settings.bins,
        "worst_case": "mean of the max(1, floor(n q / 100)) lowest of n values",
        "borders": f"boundary IoU in bands of {settings.boundary:g} of the diagonal; trimap: within w pixels",
        "intervals": "percentile bootstrap; dataset scores pool the resampled counts",
    }


def _extras() -> Any:
    """What is no part of the pipeline; imported by name so that DVC's code dependencies stay exact."""
    return import_module("segpipe.stages.folders")


def _show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
