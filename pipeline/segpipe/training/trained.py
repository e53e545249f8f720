"""A trained network, read back from the folder of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from segpipe import models
from segpipe.core import files, outputs
from segpipe.core.errors import DataError
from segpipe.training import weights


def load(folder: Path, snapshot: int | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The network on the CPU in evaluation mode, and its resolved configuration.

    snapshot: one of the snapshots, from 1; None: the best epoch.

    Raises:
        DataError: the folder holds no such network, or a damaged one.
    """
    config = read(folder)
    return network(config, weights.load(weights_of(folder, snapshot))), config


def read(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a run."""
    if outputs.description(folder) is None:
        raise DataError(
            f"{folder} is not a complete run: {outputs.MARKER} is missing; copy the whole folder or train it again"
        )
    config = files.read_json(folder / "config.json")
    if not isinstance(config, dict) or not {"model", "classes", "normalization", "size", "reading"} <= config.keys():
        raise DataError(f"{folder / 'config.json'} is no configuration of stage train; train the run again")
    return config


def grid(config: dict[str, Any]) -> list[int] | None:
    """(height, width) that images are fitted into; None for a network that was trained on images at their own size."""
    return None if config.get("native") else list(config["size"])


def weights_of(folder: Path, snapshot: int | None = None) -> Path:
    """The file of a run's weights: of its best epoch, or of a snapshot."""
    return folder / ("model.pt" if snapshot is None else f"snapshot{snapshot}.pt")


def network(config: dict[str, Any], state: dict[str, Any]) -> nn.Module:
    """The network of a configuration with these weights."""
    options = {key: value for key, value in config["model"].items() if key not in ("name", "weights", "pretrained")}
    model = models.create(config["model"]["name"], len(config["classes"]), **options)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(f"the weights are of another network: {' '.join(str(error).split())[:200]}") from None
    return model.eval()
