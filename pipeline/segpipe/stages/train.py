"""Stage train: one network under one loss and one seed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe import losses, models
from segpipe.config.context import HIDDEN, Context
from segpipe.config.depends import known_before
from segpipe.config.digests import digest_of
from segpipe.core import distributed, files, outputs, registry, seeding
from segpipe.core.errors import DataError
from segpipe.core.spreadsheet import csv_text
from segpipe.data import folds
from segpipe.data.augment import Augmentation
from segpipe.data.batches import TrainSet
from segpipe.data.dataset import Index
from segpipe.data.normalize import curve, recipe
from segpipe.data.prepared import Stack, stored
from segpipe.models.blocks.encoders import wanted_normalization
from segpipe.models.cost import multiply_adds
from segpipe.training import device, loggers, loop, parts, targets, trained, weights
from segpipe.training.settings import Fitted, Settings

KINDS = ("images", "labels")
LOGS = Path("runs/logs")


def run(context: Context) -> dict[str, Any]:
    """Train and write the folder of the run."""
    params, prepared = context.params, context.path("prepare")
    index = Index.read(prepared)
    config = _config(context, index)
    _warn_of_normalization(context, index)
    several = distributed.launched()
    asked = device.choose(context.device)
    place = distributed.join(asked) if several else torch.device(asked)
    seeding.make_deterministic(params.threads)
    seeding.seed_torch(context.seed, 0)
    model = models.create(config["model"]["name"], len(config["classes"]), **params.model_of(context.run).options)
    if config["model"]["weights"] is not None:
        models.initialise(model, Path(config["model"]["weights"]).expanduser())
    config["multiply_adds"] = _multiply_adds(model, config)
    images, labels, *val = (stored(prepared, index, split, kind) for split in ("train", "val") for kind in KINDS)
    rows = _rows(context, index)
    ids = [index.splits["train"][i].id for i in rows]
    taught = _targets(context, index, labels, rows)
    augmentation = Augmentation(**params.train_of(context.run).augment.model_dump())
    checkpoint = HIDDEN / "checkpoints" / _checkpoint_key(context, config) / "state.pt"
    fitted = loop.fit(
        model,
        losses.create(config["resolved_loss"], uncertainty=config["uncertainty"]),
        TrainSet(images, taught.labels, augmentation, context.seed, rows, extents=taught.extents),
        (val[0], val[1]),
        _settings(context, config),
        num_classes=len(config["classes"]),
        device=place,
        checkpoint=checkpoint,
        name=context.key,
        ids=ids,
        teacher=taught.teacher,
        agreement=taught.agreement,
        logs=_logs(context, config) if distributed.rank() == 0 else (),
    )  # fmt: skip
    if distributed.rank() == 0:
        _write(context, fitted, config, ids)
        shutil.rmtree(checkpoint.parent, ignore_errors=True)
    if several:
        distributed.leave()
    return _told(context, fitted)


def _logs(context: Context, config: dict[str, Any]) -> list[loggers.Logger]:
    """Where the training is also logged, with what tells it from others."""
    section = config["train"]
    facts = {"loss": config["loss"], "model": config["model"]["name"], "seed": str(context.seed)}
    facts |= {key: str(section[key]) for key in ("epochs", "batch_size", "optimizer", "lr", "weight_decay")}
    out = context.path("train")
    name = f"adhoc-{context.key}" if context.is_adhoc("train") else context.key
    return loggers.create(context.params.log, LOGS, loggers.Training(name, str(out.absolute()), facts))


def _multiply_adds(model: torch.nn.Module, config: dict[str, Any]) -> int:
    """Of an image; one at its own size may be large, so they are counted on a crop."""
    size, crop = config["size"], config["train"]["augment"].get("crop")
    if not config.get("native") or crop is None:
        return multiply_adds(model, size)
    share: float = size[0] * size[1] / (crop[0] * crop[1])
    return round(multiply_adds(model, crop) * share)


def _warn_of_normalization(context: Context, index: Index) -> None:
    """Say so when pretrained weights were made with other colours than they will see."""
    options = context.params.model_of(context.run).options
    if options.get("pretrained", "none") != "none" and "encoder" in options:
        wanted = wanted_normalization(options["encoder"], options["pretrained"])
        if wanted not in (None, index.normalization):
            context.log(
                f"warning: the weights of {options['encoder']} want prepare.normalization: {wanted}, found "
                f"{index.normalization}; features are worse than they could be"
            )


def _told(context: Context, fitted: Fitted) -> dict[str, Any]:
    """What a command says of the training."""
    return {
        "path": str(context.path("train")),
        "run": context.run,
        "seed": context.seed,
        "val_miou_dataset": fitted.best_score,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "snapshots": len(fitted.snapshots),
        "warnings": fitted.warnings,
    }


def _settings(context: Context, config: dict[str, Any]) -> Settings:
    """The numbers of the training loop."""
    section = context.params.train_of(context.run)
    return Settings(
        **section.model_dump(exclude={"augment", "budget", "epochs", "lookahead", "recipe"}),
        epochs=section.own_epochs,
        lookahead_steps=section.lookahead.steps,
        lookahead_rate=section.lookahead.rate,
        seed=context.seed,
        curve=curve(config["normalization"]),
    )


def _rows(context: Context, index: Index) -> list[int]:
    """The images to train on: all, or those outside of the fold."""
    groups = index.groups("train")
    if context.fold is None:
        return list(range(len(groups)))
    assigned = folds.assign(groups, context.params.folds.number)
    return [i for i, fold in enumerate(assigned) if fold != context.fold]


@dataclass
class _Taught:
    """The label maps that the run's targets want, the extents without padding, the teacher, and how well each
    annotator agrees with the majority.
    """

    labels: Stack
    extents: NDArray[np.int64] | None = field(default=None)
    teacher: torch.nn.Module | None = field(default=None)
    agreement: NDArray[np.float32] | None = field(default=None)


def _targets(context: Context, index: Index, labels: Stack, rows: list[int]) -> _Taught:
    source, taught = _source(context), _Taught(labels)
    if source.extents:
        sizes = [row.geometry for row in index.splits["train"]]
        taught.extents = np.array([[size.resized_height, size.resized_width] for size in sizes])
    if source.annotators:
        path = context.path("prepare") / "train_annotators.npy"
        if not path.exists():
            raise DataError(f"dataset '{index.dataset}' has one annotator, targets 'annotators' want several")
        raters, classes = max(len(row.labels) for row in index.splits["train"]), len(index.classes)
        maps = stored(context.path("prepare"), index, "train", "annotators", raters)
        taught.agreement = np.stack([targets.agreement(maps[i], labels[i], classes) for i in rows])
        taught.labels = maps
    if context.teacher is not None:
        taught.teacher, known = trained.load(context.teacher.path("train"))
        if known["classes"] != index.classes:
            raise DataError(
                f"{context.teacher.path('train')} knows {len(known['classes'])} classes "
                f"({', '.join(known['classes'][:3])}, ...), the data have {len(index.classes)}; train it anew"
            )
    return taught


def _source(context: Context) -> type[targets.Source]:
    """The class of the run's targets, which says what it wants."""
    name = parts.options("targets", context.params.train_of(context.run).targets)[0]
    source: type[targets.Source] = registry.find(parts.MODULES["targets"], "targets", name).load()  # type: ignore[assignment]
    return source


def _config(context: Context, index: Index) -> dict[str, Any]:
    """All that predict needs to know, and all that a reader wants to: the resolved configuration."""
    params, place = context.params, context.path("stats")
    stats = outputs.unsealed(files.read_json(place), place)
    run, start = params.runs[context.run], params.model_of(context.run).weights
    if start is not None and not Path(start).expanduser().is_file():
        raise DataError(f"{start} is missing; check model.weights")
    return {
        "loss": str(run.loss),
        "resolved_loss": str(run.loss.with_class_weights(stats["weights"])),
        "uncertainty": run.uncertainty,
        "teacher": run.teacher,
        "seed": context.seed,
        "model": params.model_of(context.run).model_dump(),
        "weights_sha256": None if start is None else outputs.digest_file(Path(start).expanduser()),
        "train": known_before(params.train_of(context.run).model_dump(exclude={"workers"}, mode="json")),
        "classes": index.classes,
        "palette": index.palette,
        "size": list(index.size),
        "normalization": recipe(index.normalization, stats),
        "reading": vars(index.reading),
        **({"native": True} if index.native else {}),
    }


def _write(context: Context, fitted: Fitted, config: dict[str, Any], ids: list[str]) -> None:
    """The folder of the run."""
    with outputs.folder(context.path("train"), context.describe("train")) as folder:
        weights.save(folder / "model.pt", fitted.state)
        for number, state in enumerate(fitted.snapshots):
            weights.save(folder / f"snapshot{number + 1}.pt", state)
        files.write_json(folder / "config.json", config)
        files.write_text(folder / "history.csv", _table(fitted.history))
        files.write_json(folder / "train_ids.json", {"sha256": outputs.digest_json(sorted(ids)), "ids": ids})


def _checkpoint_key(context: Context, config: dict[str, Any]) -> str:
    """Output, config, data and code: a checkpoint of anything else is not found, so never resumed."""
    prepared = context.path("prepare")
    data = outputs.digests(prepared, "*.npy")
    taught = None if context.teacher is None else outputs.digests(context.teacher.path("train"), "model.pt")
    code = digest_of(context, "train")
    return outputs.digest_json(
        [context.path("train").as_posix(), config, data, taught, code, context.params.threads]
    )[:32]  # fmt: skip


def _table(history: list[dict[str, float]]) -> str:
    """The history as CSV; numbers with all their digits."""
    return csv_text(list(history[0]), [list(row.values()) for row in history])
