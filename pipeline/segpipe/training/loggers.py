"""Where the rows of a training also go while it runs, beside its history.csv: TensorBoard, MLflow.

What they write carries times, so it lies outside the folders that DVC tracks.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.core import registry
from segpipe.core.errors import ConfigError
from segpipe.core.registry import register

MODULE = "segpipe.training.loggers"
_EXPERIMENT = "segpipe"
Row = Mapping[str, float]


class Logger(ABC):
    """One training in a log. folder: of all logs; name: of the training; facts: its parameters.

    Raises:
        ConfigError: the library is not installed; the message says how to install it.
    """

    @abstractmethod
    def __init__(self, folder: Path, name: str, facts: Mapping[str, str]) -> None: ...

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

    def __init__(self, folder: Path, name: str, facts: Mapping[str, str]) -> None:
        try:
            from torch.utils import tensorboard
        except ImportError:
            raise ConfigError(_missing("tensorboard")) from None
        self.module, self.folder, self.facts = tensorboard, folder / "tensorboard" / name, facts
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

    def __init__(self, folder: Path, name: str, facts: Mapping[str, str]) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise ConfigError(_missing("mlflow")) from None
        folder.mkdir(parents=True, exist_ok=True)
        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.absolute() / 'mlflow.db'}"
        self.client, self.name, self.facts, self.run = MlflowClient(where), name, facts, ""

    def begin(self, done: Sequence[Row]) -> None:
        """The run that was interrupted goes on; a training from its first epoch is a new one."""
        found = self.client.get_experiment_by_name(_EXPERIMENT)
        experiment = found.experiment_id if found else self.client.create_experiment(_EXPERIMENT)
        wanted = f"tags.`segpipe.training` = '{self.name}' and attributes.status = 'RUNNING'"
        open_runs = self.client.search_runs([experiment], wanted)
        if done and open_runs:
            self.run = open_runs[0].info.run_id
            return
        for stale in open_runs:
            self.client.set_terminated(stale.info.run_id, "KILLED")
        self.run = self.client.create_run(
            experiment, run_name=self.name, tags={"segpipe.training": self.name}
        ).info.run_id  # fmt: skip
        for key, value in self.facts.items():
            self.client.log_param(self.run, key, value)
        for row in done:
            self.epoch(row)

    def epoch(self, row: Row) -> None:
        """A value of each metric."""
        for key, value in row.items():
            if key != "epoch":
                self.client.log_metric(self.run, key, value, step=int(row["epoch"]))

    def close(self) -> None:
        """The run is finished."""
        self.client.set_terminated(self.run)


def create(names: Sequence[str], folder: Path, name: str, facts: Mapping[str, str]) -> list[Logger]:
    """The named loggers of a training."""
    found = []
    for one in names:
        kind: type[Logger] = registry.find(MODULE, "log", one).load()  # type: ignore[assignment]
        found.append(kind(folder, name, facts))
    return found


def _missing(name: str) -> str:
    return f"train.log: {name} is not installed; pip install 'segpipe[{name}]', or take it out of train.log"
