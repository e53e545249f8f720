"""The training loop: seeded by (seed, epoch), best epoch kept, every epoch a checkpoint."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from segpipe.core.errors import DataError, TrainingError
from segpipe.core.seeding import seed_torch
from segpipe.data.batches import TrainSet, epoch_loader, to_input
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.scores import summarize
from segpipe.training import schedule, weights

Images = NDArray[np.uint8]
Row = dict[str, float]
_EPOCH = 3  # stream of the seed that dropout draws from


@dataclass(frozen=True)
class Settings:
    """Numbers of one training; the learning rate follows `schedule` over all steps."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    schedule: str
    warmup_epochs: float
    seed: int
    workers: int
    shift: Sequence[float]
    scale: Sequence[float]


@dataclass(frozen=True)
class Fitted:
    """The best epoch's weights, its score on val (mIoU^D) and the history, one row an epoch."""

    state: dict[str, Tensor]
    best_epoch: int
    best_score: float
    history: list[Row]


def fit(
    model: nn.Module,
    criterion: nn.Module,
    train_set: TrainSet,
    val: tuple[Images, Images],
    settings: Settings,
    *,
    num_classes: int,
    device: torch.device,
    checkpoint: Path,
    name: str,
    ids: Sequence[str],
) -> Fitted:
    """Train, resuming from `checkpoint` when it fits; the result does not depend on interruptions.

    Raises:
        TrainingError: the loss is not finite; the message names epoch and images.
    """
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    criterion.to(device)
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    learned = list(criterion.parameters())  # weights of a compound's terms; decay would pull them to 1
    groups += [{"params": learned, "weight_decay": 0.0}] if learned else []
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    scaler = torch.amp.GradScaler(enabled=device.type == "cuda")
    state: dict[str, Any] = {"epoch": 0, "best_epoch": 0, "best_score": -1.0, "best": {}, "history": []}
    if checkpoint.exists():
        state = _resume(checkpoint, model, criterion, optimizer, scaler, device) or state
    progress = _Progress(name, settings.epochs, state["epoch"], -(-len(train_set) // settings.batch_size))
    for epoch in range(state["epoch"], settings.epochs):
        row = _train_epoch(model, criterion, optimizer, scaler, train_set, settings, epoch, device, progress, ids)
        _require_finite(model, epoch)
        scores = summarize(validate(model, *val, settings, num_classes=num_classes, device=device))
        score = scores["miou_dataset"] or 0.0
        state["history"].append({**row, "val_miou_dataset": score, "val_acc": scores["acc"] or 0.0})
        if score > state["best_score"]:
            best = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
            state |= {"best_epoch": epoch + 1, "best_score": score, "best": best}
        state["epoch"] = epoch + 1
        progress.epoch(state["history"][-1], state["best_score"])
        modules: dict[str, Any] = {"model": model, "criterion": criterion, "optimizer": optimizer, "scaler": scaler}
        weights.save(checkpoint, {**state, **{name: part.state_dict() for name, part in modules.items()}})
    progress.close()
    return Fitted(state["best"], state["best_epoch"], state["best_score"], state["history"])


def _resume(
    checkpoint: Path, model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any,
    device: torch.device,
) -> dict[str, Any] | None:  # fmt: skip
    """The state of an interrupted training; a damaged checkpoint is said and passed over."""
    try:
        state: dict[str, Any] = weights.load(checkpoint)
    except DataError as error:
        print(f"starting anew: {error}", file=sys.stderr)
        return None
    model.load_state_dict(state.pop("model"))
    criterion.load_state_dict(state.pop("criterion"))
    model.to(device)
    optimizer.load_state_dict(state.pop("optimizer"))
    scaler.load_state_dict(state.pop("scaler"))
    print(f"resuming after epoch {state['epoch']}", file=sys.stderr)
    return state


def _train_epoch(
    model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any, train_set: TrainSet,
    settings: Settings, epoch: int, device: torch.device, progress: _Progress, ids: Sequence[str],
) -> Row:  # fmt: skip
    """One pass over the data; the row of the history without the validation scores."""
    model.train()
    seed_torch(settings.seed, _EPOCH, epoch)
    loader = epoch_loader(train_set, settings.batch_size, epoch, settings.workers)
    steps, warmup = settings.epochs * len(loader), round(settings.warmup_epochs * len(loader))
    total, seen, lr = 0.0, 0, 0.0
    for index, (images, labels, chosen) in enumerate(loader):
        lr = settings.lr * schedule.factor(settings.schedule, epoch * len(loader) + index, steps, warmup=warmup)
        for group in optimizer.param_groups:
            group["lr"] = lr
        batch = to_input(images, settings.shift, settings.scale).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, enabled=device.type == "cuda"):
            logits = upsample(model(batch).contiguous(), labels.shape[-2:])
        loss = _loss(criterion, logits, torch.from_numpy(labels).to(device))
        value = loss.item()
        if not np.isfinite(value):
            names = ", ".join(ids[i] for i in chosen)
            raise TrainingError(
                f"the loss became {value} in epoch {epoch + 1}, step {index + 1}, on images {names}; "
                "lower train.lr or look at these images"
            )
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        total, seen = total + value * len(chosen), seen + len(chosen)
        progress.step(value)
    return {"epoch": epoch + 1, "lr": lr, "train_loss": total / max(seen, 1)}


def _loss(criterion: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss; nan where the network's logits are not finite, which the criterion refuses."""
    try:
        value: Tensor = criterion(logits, labels)
    except ValueError:
        if bool(logits.isfinite().all()):
            raise
        return logits.new_tensor(float("nan"))
    return value


def _require_finite(model: nn.Module, epoch: int) -> None:
    """A step may spoil weights after a loss that was still finite; such an epoch is never kept."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise TrainingError(
                f"{name} is no longer finite after epoch {epoch + 1}; lower train.lr, the last good checkpoint is kept"
            )


@torch.no_grad()
def validate(
    model: nn.Module, images: Images, labels: Images, settings: Settings, *, num_classes: int, device: torch.device
) -> Counts:
    """Counts on prepared images (their padding is void), batch by batch."""
    model.eval()
    parts = []
    size = 4 * settings.batch_size  # no gradients are kept, so more fit
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        batch = to_input(images[rows], settings.shift, settings.scale).to(device, memory_format=torch.channels_last)
        predicted = upsample(model(batch).float(), labels.shape[-2:]).argmax(1)
        parts.append(count(predicted, np.asarray(labels[rows]), num_classes))
    return Counts.concat(parts)


def upsample(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear to (H, W)."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


class _Progress:
    """A bar on a terminal; elsewhere one line an epoch. Both tell score and time left."""

    def __init__(self, name: str, epochs: int, done: int, steps: int) -> None:
        self.name, self.epochs, self.done, self.start = name, epochs, done, time.monotonic()
        self.bar = tqdm(
            total=epochs * steps, initial=done * steps, desc=name, unit="step", disable=None, dynamic_ncols=True
        )

    def step(self, loss: float) -> None:
        self.bar.update()
        if not self.bar.disable:
            self.bar.set_postfix_str(f"loss {loss:.3f}{self._score}", refresh=False)

    _score = ""

    def epoch(self, row: Row, best: float) -> None:
        epoch = int(row["epoch"])
        self._score = f", val mIoU^D {row['val_miou_dataset']:.3f} (best {best:.3f})"
        if self.bar.disable:
            left = (time.monotonic() - self.start) / (epoch - self.done) * (self.epochs - epoch)
            done = f"{self.name}: epoch {epoch}/{self.epochs}, loss {row['train_loss']:.3f}{self._score}"
            print(f"{done}, {left:.0f} s left", file=sys.stderr)

    def close(self) -> None:
        self.bar.close()
