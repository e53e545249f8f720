"""The training loop: seeded by (seed, epoch, step), best epoch kept, a checkpoint after every epoch and signal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segpipe.core import distributed
from segpipe.core.errors import ConfigError, DataError, TrainingError
from segpipe.core.seeding import seed_torch
from segpipe.core.upsample import upsample
from segpipe.data.batches import Batch, TrainSet, epoch_loader, order_generator
from segpipe.data.normalize import to_input
from segpipe.data.prepared import Stack, alike, gather
from segpipe.metrics.counts import count
from segpipe.metrics.scores import accuracy, miou_dataset
from segpipe.training import batchnorm, memory, parts, schedules, weights
from segpipe.training.groups import freeze_norms, parameter_groups
from segpipe.training.interrupt import Signals
from segpipe.training.loggers import Logger
from segpipe.training.optimizers import Lookahead
from segpipe.training.progress import Progress
from segpipe.training.settings import Fitted, Settings
from segpipe.training.targets import Given, Part, Setup
from segpipe.training.validation import TILE, collapse, not_finite, validate

PRECISIONS = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
WATCHED = range(1, 3)  # after the second and third epoch a collapse is looked for
_STEP = 3  # stream of the seed that dropout draws from


def fit(
    model: nn.Module,
    criterion: nn.Module,
    train_set: TrainSet,
    val: tuple[Stack, Stack],
    settings: Settings,
    *,
    num_classes: int,
    device: torch.device,
    checkpoint: Path,
    name: str,
    ids: Sequence[str],
    teacher: nn.Module | None = None,
    agreement: NDArray[np.float32] | None = None,
    logs: Sequence[Logger] = (),
) -> Fitted:
    """Train, resuming from `checkpoint` when it fits; the result does not depend on interruptions.

    Under torch.distributed every process calls it, and the result is that of one process with the same batches.

    Args:
        ids: names of the training images, for messages. teacher: a trained network, for distillation. agreement: (N, A)
            of each annotator with the majority. logs: told of every epoch.

    Raises:
        TrainingError: the loss is not finite; the message names epoch, images and checkpoint.
        ConfigError: settings that do not fit each other, the data or the memory.
    """
    setup = Setup(num_classes, model, ids, settings.seed, teacher and teacher.to(device).eval(), agreement)
    on_device = model.to(device), criterion.to(device)
    training = _Training(*on_device, train_set, settings, setup, device, checkpoint, name, logs)
    training.resume()
    return training.run(val)


class _Training:
    """All that changes while a run is trained; `state` and `modules` are what a checkpoint holds."""

    def __init__(
        self, model: nn.Module, criterion: nn.Module, train_set: TrainSet, settings: Settings, setup: Setup,
        device: torch.device, checkpoint: Path, name: str, logs: Sequence[Logger],
    ) -> None:  # fmt: skip
        self.criterion, self.train_set, self.settings, self.setup = criterion, train_set, settings, setup
        self.device, self.checkpoint, self.name, self.logs = device, checkpoint, name, logs
        self.layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        model.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.model = batchnorm.share(model) if distributed.active() else model
        self.forward: Any = batchnorm.wrap(self.model) if distributed.active() else self.model
        if settings.compile:
            self.forward = torch.compile(self.forward)
        kind = settings.precision if settings.precision != "auto" else "float16" if device.type == "cuda" else "float32"
        self.half = PRECISIONS[kind]
        chosen = parameter_groups(model, criterion, settings), settings.lr, settings.weight_decay
        self.optimizer: torch.optim.Optimizer = parts.create("optimizer", settings.optimizer, *chosen)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.half == torch.float16)
        self.average = parts.create("averaging", settings.averaging, self.model, settings.epochs)
        self.source = parts.create("targets", settings.targets, setup)
        drawn_from = len(train_set), partial(train_set.present, setup.num_classes)
        self.sampling = parts.create("sampling", settings.sampling, *drawn_from)
        steps, rate = settings.lookahead_steps, settings.lookahead_rate
        self.lookahead = Lookahead(model.parameters(), steps=steps, rate=rate) if steps else None
        self.batches = -(-self.sampling.number // settings.batch_size)
        self.steps = -(-self.batches // settings.accumulate)  # of the optimiser, an epoch
        cycles = parts.snapshots(settings.schedule)
        self.snapshot_epochs = schedules.cycle_ends(settings.epochs, cycles) if cycles else []
        self._check()
        self.modules: dict[str, Any] = {
            "model": self.model, "criterion": criterion, "optimizer": self.optimizer, "scaler": self.scaler,
            "average": self.average, "source": self.source, "sampling": self.sampling, "lookahead": self.lookahead,
        }  # fmt: skip
        self.state: dict[str, Any] = {
            "epoch": 0, "batch": 0, "total": 0.0, "seen": 0, "table": [[0] * setup.num_classes] * 3, "best_epoch": 0,
            "best_score": -1.0, "best": {}, "history": [], "snapshots": [], "warnings": [],
        }  # fmt: skip

    def _check(self) -> None:
        """Settings that do not fit each other."""
        settings, last = self.settings, self.sampling.number % self.settings.batch_size or self.settings.batch_size
        if last < distributed.world():
            raise ConfigError(
                f"{self.sampling.number} images in batches of {settings.batch_size} leave {last} for the last batch, "
                f"wanted one for each of {distributed.world()} processes; choose another train.batch_size"
            )

    def resume(self) -> None:
        """Take up an interrupted training; a damaged checkpoint is said and passed over."""
        if not self.checkpoint.exists():
            return
        try:
            state: dict[str, Any] = weights.load_checkpoint(self.checkpoint)
        except DataError as error:
            Progress.tell(f"starting anew: {error}")
            return
        if not {*self.modules, *self.state} <= state.keys():
            raise DataError(f"{self.checkpoint} holds another training; delete it and run again")
        for name, module in self.modules.items():
            if module is not None:
                module.load_state_dict(state[name])
        self.state = {name: held for name, held in state.items() if name not in self.modules}
        inside = f", batch {state['batch']}" if state["batch"] else ""
        Progress.tell(f"resuming after epoch {state['epoch']}{inside}")

    def run(self, val: tuple[Stack, Stack]) -> Fitted:
        """All epochs that are left."""
        settings, state = self.settings, self.state
        quiet = distributed.rank() > 0
        progress = Progress(self.name, settings.epochs, state["history"], self.batches, quiet=quiet, logs=self.logs)
        with Signals() as signals:
            while not self._finished():
                self._epoch(progress, signals)
                self._validate(val, progress)
                self._save()
                self._stop_if_asked(signals, save=False)
        progress.close()
        return Fitted(
            state["best"], state["best_epoch"], state["best_score"], state["history"], state["snapshots"],
            state["warnings"],
        )  # fmt: skip

    def _finished(self) -> bool:
        patience, state = self.settings.patience, self.state
        tired = patience is not None and state["epoch"] - state["best_epoch"] >= patience and state["epoch"] > 0
        return bool(state["epoch"] >= self.settings.epochs or tired)

    def _save(self) -> None:
        if distributed.rank() == 0:
            kept = {name: module.state_dict() if module is not None else {} for name, module in self.modules.items()}
            weights.save_checkpoint(self.checkpoint, {**self.state, **kept})

    def _stop_if_asked(self, signals: Signals, *, save: bool) -> None:
        received = signals.received
        if distributed.active():  # all stop after the same step
            received = int(distributed.all_max(torch.tensor(received, device=self.device)))
        if received:
            if save:
                self._save()
            signals.received = received
            signals.act()

    def _epoch(self, progress: Progress, signals: Signals) -> None:
        """What is left of an epoch."""
        settings, state = self.settings, self.state
        epoch = state["epoch"]
        self.forward.train()
        freeze_norms(self.model, settings)
        loader = epoch_loader(
            self.train_set, self.sampling.order(order_generator(settings.seed, epoch)), settings.batch_size, epoch,
            settings.workers, factors=settings.sizes, first=state["batch"],
            share=(distributed.rank(), distributed.world()),
        )  # fmt: skip
        for number, batch in enumerate(loader, state["batch"]):
            value, hungry = 0.0, False
            try:
                value = self._batch(batch, number)
            except torch.OutOfMemoryError:
                hungry = True  # explained outside: here the failed step still holds its memory
            if hungry:
                self._explain_memory(batch)
            # Of all processes together, as the loss is.
            size = min(settings.batch_size, self.sampling.number - number * settings.batch_size)
            state["total"], state["seen"] = state["total"] + value * size, state["seen"] + size
            state["batch"] = number + 1
            progress.step(value)
            if self._ends_step(number):
                self._stop_if_asked(signals, save=True)

    def _explain_memory(self, batch: Batch) -> None:
        """Raise the error that names a batch size, tried with forward pass, loss and backward pass."""
        self.optimizer.zero_grad(set_to_none=True)
        size = batch.labels.shape[-2:]

        def trial(images: int) -> None:
            self.model.zero_grad(set_to_none=True)
            labels = torch.zeros(images, *size, dtype=torch.uint8, device=self.device)
            with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                found = self._logits(torch.zeros(images, 3, *size, device=self.device))
            sum(self.criterion(upsample(each, size), labels) for each in found).backward()

        raise memory.explain(None if distributed.active() else trial, self.settings.batch_size, size, self.device)

    def _ends_step(self, number: int) -> bool:
        return (number + 1) % self.settings.accumulate == 0 or number + 1 == self.batches

    def _batch(self, batch: Batch, number: int) -> float:
        """Forward, backward and, where one is due, a step of the optimiser; the loss."""
        settings, epoch = self.settings, self.state["epoch"]
        seed_torch(settings.seed, _STEP, epoch, number, *([distributed.rank()] if distributed.rank() else []))
        step = epoch * self.steps + number // settings.accumulate
        place = schedules.Place(step, settings.epochs, self.steps, round(settings.warmup_epochs * self.steps))
        self.state["lr"] = settings.lr * schedules.factor(settings.schedule, place)
        for group in self.optimizer.param_groups:
            group["lr"] = self.state["lr"] * group.get("rate", 1.0)
        first, ends = number - number % settings.accumulate, self._ends_step(number)
        among = min(settings.accumulate, self.batches - first)
        # Processes add their gradients once a step; that is decided when the forward pass begins.
        waiting = self.forward.no_sync() if distributed.active() and not ends else nullcontext()
        with waiting:
            loss = self._loss(batch, step / (settings.epochs * self.steps))
            value = float(loss.detach())
            if not np.isfinite(value):
                self._refuse(value, batch.indices, number)
            self.scaler.scale(loss / among).backward()
        if ends:
            self._step()
        return value

    def _loss(self, batch: Batch, progress: float) -> Tensor:
        """The loss of a batch against the parts of its targets."""
        labels = torch.from_numpy(batch.labels).to(self.device)
        images = self._input(batch.images)
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            found = [upsample(each.contiguous(), labels.shape[-2:]) for each in self._logits(images)]
            weak = self._input(batch.weak) if self.source.extents else images
            targets = self.source.parts(Given(labels, images, weak, batch.indices, self.state["epoch"], progress))
        if self.sampling.learns:
            self._learn(found[0], labels)
        shares = (1.0, getattr(self.model, "auxiliary", 0.0))
        parts = (share * self._part(one, part) for share, one in zip(shares, found, strict=False) for part in targets)
        return sum(parts, torch.zeros((), device=self.device))

    def _logits(self, images: Tensor) -> Sequence[Tensor]:
        """The network's logits, and those of its auxiliary classifier where it has one."""
        try:
            found: Tensor | tuple[Tensor, ...] = self.forward(images)
        except ValueError:
            if len(images) > 1 or not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules()):
                raise
            raise ConfigError(
                f"batch norm met one value a channel: {len(images)} image of {tuple(images.shape[-2:])} is too small a "
                "batch for this network; raise train.batch_size or the size of the input"
            ) from None
        return found if isinstance(found, tuple) else (found,)

    def _part(self, logits: Tensor, part: Part) -> Tensor:
        """One part of the loss; nan where the network's logits are not finite, which the criterion refuses."""
        t = part.temperature
        try:
            value: Tensor = (part.criterion or self.criterion)(logits if t == 1 else logits / t, part.target, part.keep)
        except ValueError:
            if bool(logits.isfinite().all()):
                raise
            return logits.new_tensor(float("nan"), dtype=torch.float32)
        return value * part.weight * t * t

    def _step(self) -> None:
        settings = self.settings
        if settings.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip, foreach=True)
        for learned in self.criterion.parameters():  # beside the network, which DDP takes care of
            if distributed.active() and learned.grad is not None:
                learned.grad = distributed.all_sum(learned.grad) / distributed.world()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.lookahead is not None:
            self.lookahead.update()
        self.average.after_step(self.model)
        self.source.after_step(self.model)

    def _learn(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch to the table of what the epoch had right and wrong."""
        found = count(logits.detach().argmax(1), labels[:, 0], self.setup.num_classes)
        tables = distributed.gather([values.sum(0).tolist() for values in (found.tp, found.fp, found.fn)])
        self.state["table"] = np.sum([self.state["table"], *tables], axis=0).tolist()

    def _input(self, images: NDArray[np.uint8]) -> Tensor:
        return to_input(images, self.settings.curve, str(self.device)).to(self.device, memory_format=self.layout)

    def _refuse(self, value: float, indices: Sequence[int], number: int) -> None:
        names = ", ".join(self.setup.ids[i] for i in indices)
        raise TrainingError(
            f"the loss became {value} in epoch {self.state['epoch'] + 1}, step {number + 1}, on images {names}; "
            f"lower train.lr or look at these images{self._kept()}"
        )

    def _kept(self) -> str:
        return f"; the last good checkpoint is {self.checkpoint}" if self.checkpoint.exists() else ""

    def _validate(self, val: tuple[Stack, Stack], progress: Progress) -> None:
        """End an epoch: average, score, remember."""
        settings, state = self.settings, self.state
        epoch = state["epoch"]
        self.sampling.learn(*np.array(state["table"]))
        network = self.average.after_epoch(self.model, epoch, self._plain)
        spoiled = not_finite(network)
        if spoiled is not None:
            raise TrainingError(f"{spoiled} is no longer finite after epoch {epoch + 1}; lower train.lr{self._kept()}")
        size = 4 * settings.batch_size  # no gradients are kept, so more fit
        counts = validate(
            network, *val, settings.curve, size=size, num_classes=self.setup.num_classes, device=self.device
        )
        score = miou_dataset(counts) or 0.0
        row = {"epoch": epoch + 1, "lr": state["lr"], "train_loss": state["total"] / max(state["seen"], 1)}
        state["history"].append({**row, "val_miou_dataset": score, "val_acc": accuracy(counts) or 0.0})
        copied = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
        if score > state["best_score"]:
            state.update(best_epoch=epoch + 1, best_score=score, best=copied)
        if epoch + 1 in self.snapshot_epochs:
            state["snapshots"].append(copied)
        warning = collapse(counts) if epoch in WATCHED and not state["warnings"] else None
        if warning:
            state["warnings"].append(f"epoch {epoch + 1}: {warning}")
            progress.say(f"{self.name}: warning: {warning}")
        state.update(epoch=epoch + 1, batch=0, total=0.0, seen=0, table=[[0] * self.setup.num_classes] * 3)
        progress.epoch(state["history"][-1], state["best_score"])

    def _plain(self) -> Iterator[Tensor]:
        """The training images as they are, for batch norm's statistics."""
        for rows in alike(self.train_set.images, self.train_set.rows, self.settings.batch_size):
            yield self._input(gather(self.train_set.images, rows)[:, :TILE, :TILE])
