"""Stage predict: logits of val and test images at the network's stride, as float16."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

from segpipe.core.errors import ConfigError
from segpipe.stages import SPLITS, options
from segpipe.stages.context import Context, start

_ALONE = Lock()


def predict(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    fold: options.Fold = None,
    snapshot: options.Snapshot = None,
    look: options.Look = None,
    settings: options.Set = None,
    device: options.Device = "auto",
    scheduler: options.Scheduler = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Compute the logits of a trained run on val and test; section `predict` says from how many looks."""
    from segpipe.core.parallel import Pool
    from segpipe.core.seeding import make_deterministic

    if run is None and loss is None:
        raise ConfigError("give --run NAME or --loss NAME: whose model shall predict?")
    context = start(
        "predict",
        run=run,
        loss=loss,
        seed=seed,
        fold=fold,
        snapshot=snapshot,
        look=look,
        overrides=settings,
        device=device,
        dry_run=dry_run,
        as_json=as_json,
    )
    model, prepared, out = context.require("train"), context.require("prepare"), context.path("predict")
    if dry_run:
        context.announce(out, model, prepared)
        return
    with context.writing(out):
        result = write(context, Pool(1, scheduler, partial(make_deterministic, context.params.threads)))
    lines = [f"{out}: logits of {', '.join(f'{n} {split}' for split, n in result['images'].items())} images"]
    member = {"*-snap*": snapshot, "*-look*": look}
    named = [pattern for pattern, number in member.items() if number is not None]
    following = f"an ensemble whose members name {named[0]}" if named else context.command("evaluate")
    context.finish(result, lines, following if fold is None else "segpipe audit")


def write(context: Context, pool: Any) -> dict[str, Any]:
    """Write `<split>.npy` of shape (N, C, h, w); of a fold, `train.npy` holds its images, named by `rows.json`.

    Monte Carlo passes add `<split>_uncertainty.npy` (N, 2, h, w): entropy and mutual information.
    """
    import numpy as np
    from tqdm import tqdm

    from segpipe.core import files, seeding
    from segpipe.training import inference, trained
    from segpipe.training.device import choose

    folder_of_run, prepared, out = context.path("train"), context.path("prepare"), context.path("predict")
    section = context.params.predict_of(context.run)
    seeding.make_deterministic(context.params.threads)
    fields = section.model_dump(exclude={"batch_size"}).items()
    frozen: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields}
    chosen = inference.Options(**frozen, look=context.look)
    config, weights = trained.read(folder_of_run), trained.weights_of(folder_of_run, context.snapshot)
    network = (
        folder_of_run,
        context.snapshot,
        files.digest_file(weights),
        chosen,
        choose(context.device),
        context.seed,
    )
    size, number = section.batch_size, {}
    largest = float(np.finfo(np.float16).max)
    with files.folder(out, {"config": context.digest("predict")}) as folder:
        for split in SPLITS if context.fold is None else ("train",):
            images = files.read_array(prepared / f"{split}_images.npy")
            rows = _rows(context, len(images), folder)
            stored: dict[str, Any] = {}
            starts = range(0, len(rows), size)
            done = pool.map(logits_of, ((network, images[rows[first : first + size]], first) for first in starts))
            shown = tqdm(done, f"{context.key} {split}", len(starts), unit="batch", disable=None)
            for first, (logits, uncertainty) in zip(starts, shown, strict=True):
                found = {split: np.clip(logits, -largest, largest), f"{split}_uncertainty": uncertainty}
                for name, values in found.items():
                    if values is None:
                        continue
                    if name not in stored:
                        shape = (len(rows), *values.shape[1:])
                        stored[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, shape)
                    stored[name][first : first + len(values)] = values
            for array in stored.values():
                array.flush()
            number[split] = len(rows)
        files.write_json(folder / "train_ids.json", files.read_json(folder_of_run / "train_ids.json"))
        files.write_json(folder / "made.json", _made(context, config, folder_of_run))
    return {"path": str(out), "images": number}


def logits_of(network: tuple[Any, ...], images: Any, first: int) -> tuple[Any, Any]:
    """Logits of a batch and, of Monte Carlo passes, its uncertainty; the network is read once a process."""
    with _ALONE:  # passes draw from torch's global generator
        logits, uncertainty = _predictor(*network).logits(images, first)
        return logits.cpu().numpy(), None if uncertainty is None else uncertainty.cpu().numpy()


@lru_cache(1)
def _predictor(folder: Path, snapshot: int | None, digest: str, options: Any, device: str, seed: int) -> Any:
    """digest: of the weights, so that others in the same place are read anew."""
    import torch

    from segpipe.data.normalize import curve
    from segpipe.training import inference, trained

    del digest
    model, config = trained.load(folder, snapshot)
    return inference.Predictor(model, curve(config["normalization"]), options, device=torch.device(device), seed=seed)


def _made(context: Context, config: dict[str, Any], folder_of_run: Path) -> dict[str, Any]:
    """What an ensemble checks before it takes the predictions as a member, and what they cost an image."""
    from segpipe.core import files
    from segpipe.training.trained import weights_of

    index = files.read_json(context.path("prepare") / "index.json")
    section, looks = context.params.predict_of(context.run), context.params.looks_of(context.run)
    areas = [_seen(config["size"], scale, section) for scale in section.scales]
    seen = looks * sum(areas) / len(areas)
    if context.look is not None:
        looks, seen = 1, areas[(context.look - 1) % len(areas)]
    return {
        "classes": config["classes"],
        "splits": {split: files.digest_json([row["id"] for row in rows]) for split, rows in index["splits"].items()},
        "model": files.digest_file(weights_of(folder_of_run, context.snapshot)),
        "looks": looks,
        "multiply_adds": round(seen * config.get("multiply_adds", 0)),
    }


def _seen(grid: list[int], scale: float, section: Any) -> float:
    """Pixels that the network sees in a look of this size, as a share of the grid's."""
    from segpipe.training.inference import starts

    if section.window is None:
        return scale**2
    seen = 1.0
    for side, window in zip(grid, section.window, strict=True):
        own = max(1, round(side * scale))
        seen *= len(starts(own, window, section.overlap)) * min(own, window) / side
    return seen


def _rows(context: Context, number: int, folder: Path) -> Any:
    """The positions of the images to predict: all, or those of the fold, which are then written down."""
    from segpipe.core import files
    from segpipe.data import folds

    if context.fold is None:
        return list(range(number))
    groups = [row["group"] for row in files.read_json(context.path("prepare") / "index.json")["splits"]["train"]]
    rows = [i for i, fold in enumerate(folds.assign(groups, context.params.folds.number)) if fold == context.fold]
    files.write_json(folder / "rows.json", rows)
    return rows
