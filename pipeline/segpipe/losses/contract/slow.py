"""Promises whose check takes seconds: several processes, a compiler."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segpipe.losses.contract.base import Check, NotApplicable, Subject, subject_of
from segpipe.losses.contract.promises import case

WORLD = 2


def compiled(subject: Subject) -> str | None:
    """torch.compile traces it as one graph with the same value and gradient."""
    if not subject.traced:
        raise NotApplicable("computes distances with scipy")
    logits, target = case(subject.classes)
    torch.compiler.reset()
    function = torch.compile(subject.function, backend="aot_eager", fullgraph=True)
    value, gradient = subject.gradient(logits, target)
    leaf = logits.clone().requires_grad_()
    found = function(leaf, target)
    (slope,) = torch.autograd.grad(found, leaf)
    if not torch.allclose(found, value, rtol=1e-10) or not torch.allclose(slope, gradient, rtol=1e-9, atol=1e-13):
        return f"compiled {float(found):.6g}, wanted {float(value):.6g}"
    return None


def two_processes(subject: Subject) -> str | None:
    """Two processes with unequal shares give the value and gradient of one (1e-12)."""
    if not subject.shared:
        raise NotApplicable("each process takes its own pixels")
    together, _ = compare_processes([subject.name])[subject.name]
    return None if together < 1e-12 else f"differs by {together:.2g}"


SLOW: dict[str, Check] = {
    (check.__doc__ or "").splitlines()[0].rstrip("."): check for check in (compiled, two_processes)
}


def compare_processes(specs: Sequence[str]) -> dict[str, tuple[float, float]]:
    """By loss: how far two gloo processes are from one, with communication and without.

    The larger of the differences of value and of the averaged gradient. Images are shared out
    unevenly, 4 and 2, with very different numbers of void pixels.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.get_context("spawn")
        workers = [context.Process(target=_worker, args=(rank, folder, list(specs))) for rank in range(WORLD)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise RuntimeError("a process of torch.distributed failed; its traceback is above")
        parts = [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    found = {}
    for spec in specs:
        subject = subject_of(spec)
        logits, target = _shared_case(subject)
        value, gradient = subject.gradient(logits, target)
        found[spec] = tuple(
            max(
                max(abs(float(part[spec][kind][0]) - float(value)) for part in parts),
                # as DistributedDataParallel does: the mean of what each process contributes
                float((torch.cat([part[spec][kind][1] for part in parts]) / WORLD - gradient).abs().max()),
            )
            for kind in ("together", "alone")
        )
    return found  # type: ignore[return-value]


def _shared_case(subject: Subject) -> tuple[Tensor, Tensor]:
    logits, target = case(subject.classes, images=6, void=0.1)
    target[4:, 1:] = 255  # the second process has few valid pixels
    target[5] = 255
    return logits, target


def _worker(rank: int, folder: str, specs: list[str]) -> None:
    """One process: value and gradient of its images, with communication and without."""
    torch.set_num_threads(1)
    from torch import distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    share = slice(0, 4) if rank == 0 else slice(4, 6)
    found: dict[str, Any] = {}
    for spec in specs:
        subject = subject_of(spec)
        logits, target = _shared_case(subject)
        together = subject.gradient(logits[share], target[share])
        subject.function.eval()  # type: ignore[attr-defined]
        found[spec] = {"together": together, "alone": subject.gradient(logits[share], target[share])}
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
