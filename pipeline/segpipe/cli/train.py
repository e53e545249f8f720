"""Command train; run directly, it also makes missing inputs and draws a first picture."""

from __future__ import annotations

from contextlib import nullcontext
from time import perf_counter

from segpipe.cli import options
from segpipe.core.errors import ConfigError


def train(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    fold: options.Fold = None,
    settings: options.Set = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Train a run of params.yaml, or any loss: segpipe train --loss focal."""
    from segpipe.cli import adhoc
    from segpipe.cli.printing import announce, finish
    from segpipe.config import minutes
    from segpipe.config.context import first_process, inside_dvc, refuse_import, start

    if run is None and loss is None:
        raise ConfigError("give --run NAME (a run of params.yaml) or --loss NAME, for example --loss focal")
    context = start(run=run, loss=loss, seed=seed, fold=fold, overrides=settings, device=device, quiet=as_json)
    refuse_import(context)
    out, teacher = context.path("train"), context.teacher
    if dry_run:
        inputs = [context.path(stage) for stage in ("prepare", "stats")]
        announce(context, out, *inputs, *([] if teacher is None else [teacher.path("train")]))
        return
    if inside_dvc():
        context.require("prepare")
        context.require("stats")
    else:
        adhoc.make_upstream(context)
    if teacher is not None:
        teacher.require("train")
    from segpipe.stages import train as stage

    started = perf_counter()
    with context.writing(out) if first_process() else nullcontext():
        result = stage.run(context)
    if not first_process():
        return
    if not context.is_adhoc("train"):
        minutes.note(context.trained_key, context.digest("train"), (perf_counter() - started) / 60)
    result["overlay"] = None if inside_dvc() else adhoc.overlay(context)
    lines = [
        f"{out}: val mIoU^D {result['val_miou_dataset']:.4f} in epoch {result['best_epoch']} of {result['epochs']}"
    ]
    lines += [f"{result['snapshots']} snapshots: segpipe predict ... --snapshot 1"] if result["snapshots"] else []
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    if result["overlay"]:
        lines.append(f"overlay: {result['overlay']}")
    finish(context, result, lines, context.command("predict"))
