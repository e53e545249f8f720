"""Where the rows of a training also go while it runs, beside its history.csv: TensorBoard, MLflow.

What they write carries times, so it lies outside the folders that DVC tracks.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segpipe.core import registry
from segpipe.core.errors import ConfigError
from segpipe.core.registry import register

MODULE = "segpipe.training.loggers"
_EXPERIMENT = "segpipe"
Row = Mapping[str, float]


@dataclass(frozen=True)
class Training:
    """What is logged. name: of the training; place: where its result will lie, its own alone; facts: parameters."""

    name: str
    place: str
    facts: Mapping[str, str]


class Logger(ABC):
    """One training in a log; `folder` is that of all logs.

    Raises:
        ConfigError: the library is not installed, or the log cannot be reached; the message says what to do.
    """

    @abstractmethod
    def __init__(self, folder: Path, training: Training) -> None: ...

    @abstractmethod
    def begin(self, done: Sequence[Row]) -> None:
        """The training begins, or goes on after the epochs that are done."""

    @abstractmethod
    def epoch(self, row: Row) -> None:
        """One epoch is validated; `row` is its line of history.csv."""

    @abstractmethod
    def close(self) -> None:
        """All epochs are done."""


@register("tensorboard", source="torch.utils.tensorboard; pip install 'segpipe[tensorboard]'")
class TensorBoard(Logger):
    """Event files in runs/logs/tensorboard: `tensorboard --logdir runs/logs/tensorboard`."""

    def __init__(self, folder: Path, training: Training) -> None:
        try:
            from torch.utils import tensorboard
        except ImportError:
            raise ConfigError(_missing("tensorboard")) from None
        self.module, self.folder, self.facts = tensorboard, folder / "tensorboard" / training.name, training.facts
        self.writer: Any = None

    def begin(self, done: Sequence[Row]) -> None:
        """Events of epochs that will run again are dropped."""
        self.writer = self.module.SummaryWriter(str(self.folder), purge_step=len(done) + 1)
        if not done:
            self.writer.add_text("parameters", "\n\n".join(f"{key}: {value}" for key, value in self.facts.items()))

    def epoch(self, row: Row) -> None:
        """A point on each curve."""
        for key, value in row.items():
            if key != "epoch":
                self.writer.add_scalar(key, value, int(row["epoch"]))
        self.writer.flush()

    def close(self) -> None:
        """No more events."""
        self.writer.close()


@register("mlflow", source="mlflow.MlflowClient; pip install 'segpipe[mlflow]'")
class MLflow(Logger):
    """A run of experiment `segpipe`, at MLFLOW_TRACKING_URI or in runs/logs/mlflow.db."""

    def __init__(self, folder: Path, training: Training) -> None:
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise ConfigError(_missing("mlflow")) from None
        folder.mkdir(parents=True, exist_ok=True)
        self.where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.absolute() / 'mlflow.db'}"
        self.wrong: tuple[type[Exception], ...] = (MlflowException, OSError)
        self.training, self.run, self.lost = training, "", False
        with self._reached():
            self.client = MlflowClient(self.where)

    def begin(self, done: Sequence[Row]) -> None:
        """The run that was interrupted goes on; a training from its first epoch is a new one."""
        with self._reached():
            experiment = self._experiment()
            wanted = f"tags.`segpipe.place` = '{self.training.place}' and attributes.status = 'RUNNING'"
            open_runs = self.client.search_runs([experiment], wanted)
            if done and open_runs:
                self.run = open_runs[0].info.run_id
                return
            for stale in open_runs:
                self.client.set_terminated(stale.info.run_id, "KILLED")
            tags = {"segpipe.place": self.training.place}
            self.run = self.client.create_run(experiment, run_name=self.training.name, tags=tags).info.run_id
            for key, value in self.training.facts.items():
                self.client.log_param(self.run, key, value)
        for row in done:
            self.epoch(row)

    def _experiment(self) -> str:
        """The experiment's id; another training may be making it right now."""
        for _ in range(2):
            found = self.client.get_experiment_by_name(_EXPERIMENT)
            if found is not None:
                return str(found.experiment_id)
            try:
                return str(self.client.create_experiment(_EXPERIMENT))
            except self.wrong:
                continue
        raise ConfigError(
            f"log: MLflow at {self.where} has no experiment '{_EXPERIMENT}' and makes none; make it there"
        )

    def epoch(self, row: Row) -> None:
        """A value of each metric; a log that is lost is reported once and ends no training."""
        try:
            for key, value in row.items():
                if key != "epoch" and not self.lost:
                    self.client.log_metric(self.run, key, value, step=int(row["epoch"]))
        except self.wrong as error:
            self.lost = True
            tqdm.write(f"warning: MLflow at {self.where} is lost ({_first(error)}); training goes on", file=sys.stderr)

    def close(self) -> None:
        """The run is finished."""
        try:
            self.client.set_terminated(self.run)
        except self.wrong as error:
            tqdm.write(f"warning: MLflow at {self.where} is lost ({_first(error)})", file=sys.stderr)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except self.wrong as error:
            raise ConfigError(
                f"log: MLflow at {self.where} cannot be reached ({_first(error)}); correct MLFLOW_TRACKING_URI, or "
                "take mlflow out of log"
            ) from None


def create(names: Sequence[str], folder: Path, training: Training) -> list[Logger]:
    """The named loggers of a training."""
    found = []
    for one in names:
        kind: type[Logger] = registry.find(MODULE, "log", one).load()  # type: ignore[assignment]
        found.append(kind(folder, training))
    return found


def _first(error: Exception) -> str:
    """The first line of an error."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _missing(name: str) -> str:
    return f"log: {name} is not installed; pip install 'segpipe[{name}]', or take it out of log"
