"""The device a name stands for."""

from __future__ import annotations

from segpipe.core.errors import ConfigError


def choose(name: str) -> str:
    """`auto` is cuda where there is one, else cpu; ConfigError when a named device is not there.

    `mps` must be asked for: class sums run in float64, which it lacks, so only pixel losses train on it.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if available["cuda"] else "cpu"
    kind, _, number = name.partition(":")
    if kind not in available or (number and not number.isdigit()):
        raise ConfigError(f"unknown device '{name}'; known: auto, cpu, cuda, cuda:N, mps")
    if not available[kind] or (kind == "cuda" and number and int(number) >= torch.cuda.device_count()):
        raise ConfigError(f"device '{name}' is not available here; use --device cpu")
    return name
