"""How fast a network trains here: a few steps, timed."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from segpipe.core.upsample import upsample

_STEPS = 2  # timed, behind one that warms up


@dataclass(frozen=True)
class Pace:
    """Seconds of a training step and of an image seen without gradients; GB of memory that a step takes."""

    step: float
    image: float
    memory: float


def measure(
    model: nn.Module, criterion: nn.Module, num_classes: int, size: Sequence[int], batch: int, device: torch.device
) -> Pace:
    """Time training steps on random images of a size (height, width), and one of them predicted."""
    layout, before = torch.channels_last, _memory(device)
    model.to(device=device, memory_format=layout).train()  # type: ignore[call-overload]
    images = torch.randn(batch, 3, *size, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, num_classes, (batch, *size), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    half = torch.float16 if device.type == "cuda" else None

    def step() -> None:
        with torch.autocast(device.type, half, enabled=half is not None):
            found = model(images)
            logits = upsample((found[0] if isinstance(found, tuple) else found).contiguous(), size)
        criterion(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    step()
    began = time.perf_counter()
    for _ in range(_STEPS):
        step()
    trained = (time.perf_counter() - began) / _STEPS
    model.eval()
    with torch.no_grad():
        began = time.perf_counter()
        upsample(model(images[:1]).float(), size).argmax(1)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return Pace(trained, time.perf_counter() - began, max(0.0, _memory(device) - before))


def _memory(device: torch.device) -> float:
    """The most memory that this process took so far, in GB, on a GPU there; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)
