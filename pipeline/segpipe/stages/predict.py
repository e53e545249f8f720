"""Stage predict: logits of val and test images at the network's stride, as float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.core.errors import ConfigError, TrainingError
from segpipe.stages import SPLITS, options
from segpipe.stages.context import Context, start


def predict(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    fold: options.Fold = None,
    settings: options.Set = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Compute the logits of a trained run on val and test."""
    if run is None and loss is None:
        raise ConfigError("give --run NAME or --loss NAME: whose model shall predict?")
    context = start(
        "predict",
        run=run,
        loss=loss,
        seed=seed,
        fold=fold,
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
        result = write(context)
    lines = [f"{out}: logits of {', '.join(f'{n} {split}' for split, n in result['images'].items())} images"]
    context.finish(result, lines, context.command("evaluate") if fold is None else "segpipe audit")


def write(context: Context) -> dict[str, Any]:
    """Write `<split>.npy` of shape (N, C, h, w); of a fold, `train.npy` holds its images, named by `rows.json`."""
    import numpy as np
    import torch
    from tqdm import tqdm

    from segpipe import models
    from segpipe.core import files, seeding
    from segpipe.data.batches import to_input
    from segpipe.training import weights
    from segpipe.training.device import choose

    trained, prepared, out = context.path("train"), context.path("prepare"), context.path("predict")
    config = files.read_json(trained / "config.json")
    seeding.make_deterministic(context.params.threads)
    device = torch.device(choose(context.device))
    options_ = {key: value for key, value in config["model"].items() if key != "name"}
    model = models.create(config["model"]["name"], len(config["classes"]), **options_)
    model.load_state_dict(weights.load(trained / "model.pt"))
    model.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    size, number = context.params.predict.batch_size, {}
    largest = float(np.finfo(np.float16).max)
    with files.folder(out, {"config": context.digest("predict")}) as folder:
        for split in SPLITS if context.fold is None else ("train",):
            images = files.read_array(prepared / f"{split}_images.npy")
            rows = _rows(context, len(images), folder)
            stored: Any = None
            for first in tqdm(range(0, len(rows), size), f"{context.key} {split}", unit="batch", disable=None):
                batch = to_input(images[rows[first : first + size]], config["shift"], config["scale"]).to(device)
                with torch.no_grad():
                    logits = model(batch.contiguous(memory_format=torch.channels_last)).float()
                if not bool(torch.isfinite(logits).all()):
                    raise TrainingError(
                        f"{trained} predicts values that are not finite; lower train.lr and train it again"
                    )
                if stored is None:
                    shape = (len(rows), *logits.shape[1:])
                    stored = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.float16, shape)
                stored[first : first + len(logits)] = logits.clamp(-largest, largest).cpu().numpy()
            stored.flush()
            number[split] = len(rows)
        files.write_json(folder / "train_ids.json", files.read_json(trained / "train_ids.json"))
    return {"path": str(out), "images": number}


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
