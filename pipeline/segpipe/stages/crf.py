"""Stage crf: a dense CRF after the network, tuned on val; it may decide that none is best."""

from __future__ import annotations

from typing import Any

from segpipe.core.errors import ConfigError
from segpipe.stages import SPLITS, options
from segpipe.stages.context import Context, start
from segpipe.stages.probs import read_probs, refuse_leak


def crf(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Refine a run's predictions with a fully connected CRF."""
    if run is None and loss is None:
        raise ConfigError("give --run NAME or --loss NAME: whose predictions shall be refined?")
    context = start("crf", run=run, loss=loss, seed=seed, overrides=settings, dry_run=dry_run, as_json=as_json)
    source, out = context.require("predict"), context.path("crf")
    if dry_run:
        context.announce(out, source)
        return
    with context.writing(out):
        result = write(context)
    line = (
        f"{out}: {context.params.crf.tune.metric} of {result['tune_images']} val images "
        f"{result['score_without']:.4f} -> {result['score']:.4f} ({result['verdict']})"
    )
    context.finish(result, [line], context.command("evaluate", "crf"))


def write(context: Context) -> dict[str, Any]:
    """Write probs and labels of every image at its original size, and `crf.json`."""
    import numpy as np

    from segpipe.core import files, seeding
    from segpipe.core.argmax import label_and_confidence
    from segpipe.data.maps import write_maps

    seeding.make_deterministic(context.params.threads)
    prepared, out = context.path("prepare"), context.path("crf")
    index = files.read_json(prepared / "index.json")
    choice = _tune(context, index)
    verdict = "no CRF is better" if choice.parameters is None else "the CRF helps on these images"
    summary = {
        "parameters": choice.parameters,
        "iterations": context.params.crf.tune.iterations,
        "metric": context.params.crf.tune.metric,
        "tune_images": min(context.params.crf.tune.images, len(index["splits"]["val"])),
        "score_without": choice.score_without,
        "score": choice.score,
        "verdict": verdict,
        "candidates": choice.candidates,
    }
    with files.folder(out, {"config": context.digest("crf")}) as folder:
        for split in SPLITS:
            labels: list[Any] = []

            def refined(split: str = split, labels: list[Any] = labels) -> Any:
                for probs in _refined(context, index, split, choice.parameters):
                    labels.append(label_and_confidence(probs)[0])
                    yield probs

            write_maps(folder / f"{split}_probs", refined(), np.float16)
            write_maps(folder / f"{split}_labels", labels, np.uint8)
        files.write_json(folder / "crf.json", summary)
    return {"path": str(out), **summary}


def _tune(context: Context, index: dict[str, Any]) -> Any:
    """Search the grid on evenly spaced val images, by the named metric at original resolution."""
    from tqdm import tqdm

    from segpipe.crf import tune
    from segpipe.crf.tune import grid_size
    from segpipe.data import catalog
    from segpipe.data.files import read_image
    from segpipe.metrics.counts import Counts, count
    from segpipe.metrics.scores import summarize

    settings, source = context.params.crf.tune, context.path("download")
    card = catalog.card(index["dataset"])
    rows = index["splits"]["val"]
    number = min(settings.images, len(rows))
    chosen = [i * len(rows) // number for i in range(number)]
    refuse_leak(context.path("predict"), [rows[i]["id"] for i in chosen], "tune the CRF")
    probs = [p for i, p in enumerate(read_probs(context.path("predict"), "val", rows)) if i in chosen]
    samples = [
        catalog.Sample(r["id"], "val", r["group"], r["image"], tuple(r["labels"])) for r in (rows[i] for i in chosen)
    ]
    images = [read_image(source / sample.image) for sample in samples]
    targets = [catalog.read_labels(source, sample, card, index["labels"]) for sample in samples]

    def score(labels: list[Any]) -> float:
        counts = [count(p[None], t[None], card.num_classes) for p, t in zip(labels, targets, strict=True)]
        reached = summarize(Counts.concat(counts)).get(settings.metric)
        if not isinstance(reached, float):
            raise ConfigError(f"crf.tune.metric: '{settings.metric}' is no score of the tuning images")
        return reached

    grid = {name: getattr(settings, name) for name in ("pos_w", "pos_xy_std", "bi_w", "bi_xy_std", "bi_rgb_std")}
    with tqdm(total=grid_size(grid), desc=f"tuning {context.key}", unit="point", disable=None) as bar:
        return tune(images, probs, grid, score, iterations=settings.iterations, tick=bar.update)


def _refined(context: Context, index: dict[str, Any], split: str, parameters: dict[str, Any] | None) -> Any:
    """The refined probabilities image by image; as they are when no CRF won."""
    from tqdm import tqdm

    from segpipe.crf import dense_crf
    from segpipe.data.files import read_image

    rows = index["splits"][split]
    pairs = zip(rows, read_probs(context.path("predict"), split, rows), strict=True)
    for row, probs in tqdm(pairs, f"{context.key} {split}", len(rows), unit="image", disable=None):
        if parameters is None:
            yield probs
        else:
            image = read_image(context.path("download") / row["image"])
            yield dense_crf(image, probs, iterations=context.params.crf.tune.iterations, **parameters)
