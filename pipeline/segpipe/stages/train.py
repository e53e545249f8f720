"""Stage train: one network under one loss and one seed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from segpipe.core.errors import ConfigError
from segpipe.stages import options
from segpipe.stages.context import HIDDEN, Context, inside_dvc, start

ARRAYS = ("train_images", "train_labels", "val_images", "val_labels")


def train(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    fold: options.Fold = None,
    settings: options.Set = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Train a run of params.yaml, or any loss: segpipe train --loss focal."""
    if run is None and loss is None:
        raise ConfigError("give --run NAME (a run of params.yaml) or --loss NAME, for example --loss focal")
    context = start(
        "train",
        run=run,
        loss=loss,
        seed=seed,
        fold=fold,
        overrides=settings,
        device=device,
        dry_run=dry_run,
        as_json=as_json,
    )
    out = context.path("train")
    if dry_run:
        context.announce(out, *(context.path(stage) for stage in ("prepare", "stats")))
        return
    if inside_dvc():
        context.require("prepare")
        context.require("stats")
    else:
        _extras().make_upstream(context)
    with context.writing(out):
        result = fit(context)
    lines = [
        f"{out}: val mIoU^D {result['val_miou_dataset']:.4f} in epoch {result['best_epoch']} of {result['epochs']}"
    ]
    if result["overlay"]:
        lines.append(f"overlay: {result['overlay']}")
    context.finish(result, lines, context.command("predict"))


def fit(context: Context) -> dict[str, Any]:
    """Train and write the folder of the run."""
    import shutil

    import torch

    from segpipe import losses, models
    from segpipe.core import files, seeding
    from segpipe.data.augment import Augmentation
    from segpipe.data.batches import TrainSet
    from segpipe.training import loop
    from segpipe.training.device import choose

    params, prepared = context.params, context.path("prepare")
    index = files.read_json(prepared / "index.json")
    config = _config(context, index)
    model_section, section = params.model_of(context.run), params.train_of(context.run)
    device = torch.device(choose(context.device))
    seeding.make_deterministic(params.threads)
    seeding.seed_torch(context.seed, 0)
    model = models.create(model_section.name, len(config["classes"]), **model_section.options)
    arrays = {name: files.read_array(prepared / f"{name}.npy") for name in ARRAYS}
    augmentation = Augmentation(**section.augment.model_dump())
    settings = loop.Settings(
        **section.model_dump(exclude={"augment"}), seed=context.seed, shift=config["shift"], scale=config["scale"]
    )
    rows = _rows(context, index)
    ids = [index["splits"]["train"][i]["id"] for i in rows]
    checkpoint = HIDDEN / "checkpoints" / _checkpoint_key(context, config) / "state.pt"
    fitted = loop.fit(
        model,
        losses.create(config["resolved_loss"], uncertainty=config["uncertainty"]),
        TrainSet(arrays["train_images"], arrays["train_labels"], augmentation, context.seed, rows),
        (arrays["val_images"], arrays["val_labels"]),
        settings,
        num_classes=len(config["classes"]),
        device=device,
        checkpoint=checkpoint,
        name=context.key,
        ids=ids,
    )
    _write(context, fitted, config, ids)
    shutil.rmtree(checkpoint.parent, ignore_errors=True)
    model.load_state_dict(fitted.state)
    return {
        "path": str(context.path("train")),
        "run": context.run,
        "seed": context.seed,
        "val_miou_dataset": fitted.best_score,
        "best_epoch": fitted.best_epoch,
        "epochs": section.epochs,
        "overlay": None if inside_dvc() else _extras().overlay(context, model, settings, arrays, index),
    }


def _rows(context: Context, index: dict[str, Any]) -> list[int]:
    """The images to train on: all, or those outside of the fold."""
    from segpipe.data import folds

    groups = [row["group"] for row in index["splits"]["train"]]
    if context.fold is None:
        return list(range(len(groups)))
    assigned = folds.assign(groups, context.params.folds.number)
    return [i for i, fold in enumerate(assigned) if fold != context.fold]


def _config(context: Context, index: dict[str, Any]) -> dict[str, Any]:
    """All that predict needs to know, and all that a reader wants to: the resolved configuration."""
    from segpipe import losses
    from segpipe.core import files
    from segpipe.data.batches import normalization

    params, stats = context.params, files.read_json(context.path("stats"))
    loss = params.runs[context.run].loss
    shift, scale = normalization(index["normalization"], stats["mean"], stats["std"])
    return {
        "loss": loss,
        "resolved_loss": losses.with_class_weights(loss, stats["weights"]),
        "uncertainty": params.runs[context.run].uncertainty,
        "seed": context.seed,
        "model": params.model_of(context.run).model_dump(),
        "train": params.train_of(context.run).model_dump(exclude={"workers"}, mode="json"),
        "classes": index["classes"],
        "shift": shift,
        "scale": scale,
    }


def _write(context: Context, fitted: Any, config: dict[str, Any], ids: list[str]) -> None:
    """The folder of the run."""
    from segpipe.core import files
    from segpipe.training import weights

    with files.folder(context.path("train"), {"config": context.digest("train")}) as folder:
        weights.save(folder / "model.pt", fitted.state)
        files.write_json(folder / "config.json", config)
        files.write_text(folder / "history.csv", _table(fitted.history))
        files.write_json(folder / "train_ids.json", {"sha256": files.digest_json(sorted(ids)), "ids": ids})


def _extras() -> Any:
    """What only a call by hand needs; imported by name so that DVC's code dependencies stay exact."""
    return import_module("segpipe.stages.extras")


def _checkpoint_key(context: Context, config: dict[str, Any]) -> str:
    """Output, config, data and code: a checkpoint of anything else is not found, so never resumed."""
    from segpipe.code import digest_of_stage
    from segpipe.core import files

    prepared = context.path("prepare")
    data = {name: files.digest_file(prepared / f"{name}.npy") for name in ARRAYS}
    return files.digest_json(
        [context.path("train").as_posix(), config, data, digest_of_stage("train"), context.params.threads]
    )[:32]


def _table(history: list[dict[str, float]]) -> str:
    """The history as CSV; numbers with all their digits."""
    import csv
    import io

    stream = io.StringIO()
    writer = csv.DictWriter(stream, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return stream.getvalue()
