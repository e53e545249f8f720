"""Stage train: one network under one loss and one seed."""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from segpipe.core.errors import ConfigError, DataError
from segpipe.stages import options
from segpipe.stages.context import HIDDEN, Context, first_process, inside_dvc, start

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
    out, teacher = context.path("train"), context.teacher
    inputs = [context.path(stage) for stage in ("prepare", "stats")]
    if dry_run:
        context.announce(out, *inputs, *([] if teacher is None else [teacher.path("train")]))
        return
    if inside_dvc():
        context.require("prepare")
        context.require("stats")
    else:
        _extras().make_upstream(context)
    if teacher is not None:
        teacher.require("train")
    with context.writing(out) if first_process() else nullcontext():
        result = fit(context)
    if not first_process():
        return
    lines = [
        f"{out}: val mIoU^D {result['val_miou_dataset']:.4f} in epoch {result['best_epoch']} of {result['epochs']}"
    ]
    lines += [f"{result['snapshots']} snapshots: segpipe predict ... --snapshot 1"] if result["snapshots"] else []
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    if result["overlay"]:
        lines.append(f"overlay: {result['overlay']}")
    context.finish(result, lines, context.command("predict"))


def fit(context: Context) -> dict[str, Any]:
    """Train and write the folder of the run."""
    import shutil

    import torch

    from segpipe import losses, models
    from segpipe.core import distributed, files, seeding
    from segpipe.data.augment import Augmentation
    from segpipe.data.batches import TrainSet
    from segpipe.models.cost import multiply_adds
    from segpipe.training import loop
    from segpipe.training.device import choose

    params, prepared = context.params, context.path("prepare")
    index = files.read_json(prepared / "index.json")
    config = _config(context, index)
    several = distributed.launched()
    device = distributed.join(choose(context.device)) if several else torch.device(choose(context.device))
    seeding.make_deterministic(params.threads)
    seeding.seed_torch(context.seed, 0)
    model = models.create(config["model"]["name"], len(config["classes"]), **params.model_of(context.run).options)
    if config["model"]["weights"] is not None:
        models.initialise(model, Path(config["model"]["weights"]).expanduser())
    config["multiply_adds"] = multiply_adds(model, config["size"])
    arrays = {name: files.read_array(prepared / f"{name}.npy") for name in ARRAYS}
    rows = _rows(context, index)
    ids = [index["splits"]["train"][i]["id"] for i in rows]
    labels, extents, extra = _targets(context, index, arrays, rows)
    checkpoint = HIDDEN / "checkpoints" / _checkpoint_key(context, config) / "state.pt"
    fitted = loop.fit(
        model,
        losses.create(config["resolved_loss"], uncertainty=config["uncertainty"]),
        TrainSet(
            arrays["train_images"],
            labels,
            Augmentation(**params.train_of(context.run).augment.model_dump()),
            context.seed,
            rows,
            extents=extents,
        ),
        (arrays["val_images"], arrays["val_labels"]),
        _settings(context, config),
        num_classes=len(config["classes"]),
        device=device,
        checkpoint=checkpoint,
        name=context.key,
        ids=ids,
        **extra,
    )
    first = distributed.rank() == 0
    if first:
        _write(context, fitted, config, ids)
        shutil.rmtree(checkpoint.parent, ignore_errors=True)
    if several:
        distributed.leave()
    drawn = first and not inside_dvc()
    return {
        "path": str(context.path("train")),
        "run": context.run,
        "seed": context.seed,
        "val_miou_dataset": fitted.best_score,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "snapshots": len(fitted.snapshots),
        "warnings": fitted.warnings,
        "overlay": _extras().overlay(context, fitted.state, config, arrays, index) if drawn else None,
    }


def _settings(context: Context, config: dict[str, Any]) -> Any:
    """The numbers of the training loop."""
    from segpipe.data.normalize import curve
    from segpipe.training.settings import Settings

    section = context.params.train_of(context.run)
    return Settings(
        **section.model_dump(exclude={"augment", "budget", "epochs", "lookahead"}),
        epochs=section.own_epochs,
        lookahead_steps=section.lookahead.steps,
        lookahead_rate=section.lookahead.rate,
        seed=context.seed,
        curve=curve(config["normalization"]),
    )


def _rows(context: Context, index: dict[str, Any]) -> list[int]:
    """The images to train on: all, or those outside of the fold."""
    from segpipe.data import folds

    groups = [row["group"] for row in index["splits"]["train"]]
    if context.fold is None:
        return list(range(len(groups)))
    assigned = folds.assign(groups, context.params.folds.number)
    return [i for i, fold in enumerate(assigned) if fold != context.fold]


def _targets(
    context: Context, index: dict[str, Any], arrays: dict[str, Any], rows: list[int]
) -> tuple[Any, Any, dict[str, Any]]:
    """The label maps that the run's targets want, the extents without padding, and the loop's teacher and agreement."""
    import numpy as np

    from segpipe.core import files
    from segpipe.training import targets, trained

    source, labels = _source(context), arrays["train_labels"]
    extents: Any = None
    extra: dict[str, Any] = {}
    if source.extents:
        sizes = [row["geometry"] for row in index["splits"]["train"]]
        extents = np.array([[size["resized_height"], size["resized_width"]] for size in sizes])
    if source.annotators:
        path = context.path("prepare") / "train_annotators.npy"
        if not path.exists():
            raise DataError(f"dataset '{index['dataset']}' has one annotator, targets 'annotators' want several")
        maps, classes = files.read_array(path), len(index["classes"])
        extra["agreement"] = np.stack([targets.agreement(maps[i], labels[i], classes) for i in rows])
        labels = maps
    if context.teacher is not None:
        taught, known = trained.load(context.teacher.path("train"))
        if known["classes"] != index["classes"]:
            raise DataError(
                f"{context.teacher.path('train')} knows {len(known['classes'])} classes "
                f"({', '.join(known['classes'][:3])}, ...), the data have {len(index['classes'])}; train it anew"
            )
        extra["teacher"] = taught
    return labels, extents, extra


def _source(context: Context) -> Any:
    """The class of the run's targets, which says what it wants."""
    from segpipe.core import registry
    from segpipe.training import parts

    name = parts.options("targets", context.params.train_of(context.run).targets)[0]
    return registry.find(parts.MODULES["targets"], "targets", name).load()


def _config(context: Context, index: dict[str, Any]) -> dict[str, Any]:
    """All that predict needs to know, and all that a reader wants to: the resolved configuration."""
    from segpipe import losses
    from segpipe.core import files
    from segpipe.data.normalize import recipe

    params, stats = context.params, files.read_json(context.path("stats"))
    loss, weights = params.runs[context.run].loss, params.model_of(context.run).weights
    if weights is not None and not Path(weights).expanduser().is_file():
        raise DataError(f"{weights} is missing; check model.weights")
    return {
        "loss": loss,
        "resolved_loss": losses.with_class_weights(loss, stats["weights"]),
        "uncertainty": params.runs[context.run].uncertainty,
        "teacher": params.runs[context.run].teacher,
        "seed": context.seed,
        "model": params.model_of(context.run).model_dump(),
        "weights_sha256": None if weights is None else files.digest_file(Path(weights).expanduser()),
        "train": params.train_of(context.run).model_dump(exclude={"workers"}, mode="json"),
        "classes": index["classes"],
        "palette": index["palette"],
        "size": [index["height"], index["width"]],
        "normalization": recipe(index["normalization"], stats),
    }


def _write(context: Context, fitted: Any, config: dict[str, Any], ids: list[str]) -> None:
    """The folder of the run."""
    from segpipe.core import files
    from segpipe.training import weights

    with files.folder(context.path("train"), {"config": context.digest("train")}) as folder:
        weights.save(folder / "model.pt", fitted.state)
        for number, state in enumerate(fitted.snapshots):
            weights.save(folder / f"snapshot{number + 1}.pt", state)
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
    data = {path.name: files.digest_file(path) for path in sorted(prepared.glob("*.npy"))}
    taught = None if context.teacher is None else files.digest_file(context.teacher.path("train") / "model.pt")
    return files.digest_json(
        [context.path("train").as_posix(), config, data, taught, digest_of_stage("train"), context.params.threads]
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
