"""Stage predict: logits of val and test images at the network's stride, compressed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from segpipe.config.context import Context
from segpipe.config.sections import Predict
from segpipe.core import files, outputs, seeding
from segpipe.core.arrays import new_array
from segpipe.core.parallel import Pool
from segpipe.data import folds
from segpipe.data.dataset import Index
from segpipe.data.maps import MapWriter
from segpipe.data.normalize import curve
from segpipe.data.packed import Packed
from segpipe.data.prepared import Stack, alike, gather, stored
from segpipe.stages import SPLITS
from segpipe.training import device, inference, trained

_ALONE = Lock()
# Folder of the training, snapshot, digest of the weights, looks, device, seed: what a worker needs to read a network.
Network = tuple[Path, int | None, str, inference.Options, str, int]


def run(context: Context) -> dict[str, Any]:
    """Write `<split>_logits` (C, h, w) of each image; of a fold, `train_logits` holds its images, see `rows.json`.

    Monte Carlo passes add `<split>_uncertainty.npy` (N, 2, h, w): entropy and mutual information, where all images
    have one size.
    """
    trained_at, prepared, out = context.path("train"), context.path("prepare"), context.path("predict")
    section = context.params.predict_of(context.run)
    seeding.make_deterministic(context.params.threads)
    pool = Pool(1, context.scheduler, partial(seeding.make_deterministic, context.params.threads))
    fields = section.model_dump(exclude={"batch_size"}).items()
    frozen: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields}
    looks = inference.Options(**frozen, look=context.look)
    config, weights = trained.read(trained_at), trained.weights_of(trained_at, context.snapshot)
    place = device.choose(context.device)
    digest = outputs.digests(trained_at)[weights.name]
    network: Network = (trained_at, context.snapshot, digest, looks, place, context.seed)
    number = {}
    index = Index.read(prepared)
    with outputs.folder(out, context.describe("predict")) as folder:
        for split in SPLITS if context.fold is None else ("train",):
            images = stored(prepared, index, split, "images")
            rows = _rows(context, index, len(images), folder)
            _write_logits(folder, split, images, rows, network, section.batch_size, pool, context.key)
            number[split] = len(rows)
        files.write_json(folder / "train_ids.json", files.read_json(trained_at / "train_ids.json"))
        files.write_json(folder / "made.json", _made(context, index, config, weights))
    return {"path": str(out), "images": number}


def _write_logits(
    folder: Path, split: str, images: Stack, rows: Sequence[int], network: Network, size: int, pool: Pool,
    name: str,
) -> None:  # fmt: skip
    """The maps of a split, which grow on disk batch by batch."""
    uncertainties: NDArray[np.float16] | None = None
    batches = list(alike(images, rows, size))
    starts = [0, *itertools.accumulate(len(batch) for batch in batches)][:-1]
    work = ((network, gather(images, batch), first) for first, batch in zip(starts, batches, strict=True))
    shown = tqdm(pool.map(logits_of, work), f"{name} {split}", len(starts), unit="batch", disable=None)
    with MapWriter(folder / f"{split}_logits") as writer:
        for first, (logits, uncertainty) in zip(starts, shown, strict=True):
            for one in logits:
                writer.add(one)
            if uncertainty is None or not _of_one_size(images):
                continue
            if uncertainties is None:
                shape = (len(rows), *uncertainty.shape[1:])
                uncertainties = new_array(folder / f"{split}_uncertainty.npy", shape, np.float16)
            uncertainties[first : first + len(uncertainty)] = uncertainty
    if uncertainties is not None:
        uncertainties.flush()  # type: ignore[attr-defined]  # a memory map


def _of_one_size(images: Stack) -> bool:
    """Whether arrays of all images fit into one."""
    return isinstance(images, np.ndarray) or len(set(images.shapes)) == 1


def logits_of(
    network: Network, images: NDArray[np.uint8], first: int
) -> tuple[list[Packed], NDArray[np.float32] | None]:
    """Logits of a batch and, of Monte Carlo passes, its uncertainty; the network is read once a process."""
    with _ALONE:  # passes draw from torch's global generator
        logits, uncertainty = _predictor(*network).logits(images, first)
    packed = [Packed.scores(one) for one in logits.cpu().numpy()]
    return packed, None if uncertainty is None else uncertainty.cpu().numpy()


@lru_cache(1)
def _predictor(
    folder: Path, snapshot: int | None, digest: str, looks: inference.Options, place: str, seed: int
) -> inference.Predictor:
    """digest: of the weights, so that others in the same place are read anew."""
    del digest
    model, config = trained.load(folder, snapshot)
    return inference.Predictor(model, curve(config["normalization"]), looks, device=torch.device(place), seed=seed)


def _made(context: Context, index: Index, config: dict[str, Any], weights: Path) -> dict[str, Any]:
    """What an ensemble checks before it takes the predictions as a member, and what they cost an image."""
    section, looks = context.params.predict_of(context.run), context.params.looks_of(context.run)
    areas = [_seen(config["size"], scale, section) for scale in section.scales]
    seen = looks * sum(areas) / len(areas)
    if context.look is not None:
        looks, seen = 1, areas[(context.look - 1) % len(areas)]
    return {
        "classes": config["classes"],
        "splits": {split: index.digest(split) for split in index.splits},
        "model": outputs.digest_file(weights),
        "looks": looks,
        "multiply_adds": round(seen * config.get("multiply_adds", 0)),
    }


def _seen(grid: list[int], scale: float, section: Predict) -> float:
    """Pixels that the network sees in a look of this size, as a share of the grid's."""
    if section.window is None:
        return scale**2
    seen = 1.0
    for side, window in zip(grid, section.window, strict=True):
        own = max(1, round(side * scale))
        seen *= len(inference.starts(own, window, section.overlap)) * min(own, window) / side
    return seen


def _rows(context: Context, index: Index, number: int, folder: Path) -> list[int]:
    """The positions of the images to predict: all, or those of the fold, which are then written down."""
    if context.fold is None:
        return list(range(number))
    assigned = folds.assign(index.groups("train"), context.params.folds.number)
    rows = [i for i, fold in enumerate(assigned) if fold == context.fold]
    files.write_json(folder / "rows.json", rows)
    return rows
