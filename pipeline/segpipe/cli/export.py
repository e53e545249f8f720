"""Command export: a trained run as one ONNX file, from bytes to probabilities, checked in onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli import options
from segpipe.cli.infer import RuleOption, run_folder, size_of
from segpipe.core.errors import ConfigError, SegpipeError

BOUND = 1e-4  # of the difference of probabilities


def export(
    model: Annotated[str, typer.Option(help="A trained run: its folder, or its name (with --seed).")],
    seed: options.Seed = 0,
    snapshot: options.Snapshot = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("runs/model.onnx"),
    size: Annotated[
        str | None,
        typer.Option(
            help="HxW of the images; default: the grid that the run was trained on, or the middle size.",
            show_default=False,
        ),
    ] = None,
    rule: RuleOption = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Write a run as ONNX: uint8 images (1, H, W, 3) in, probabilities (1, C, H, W) out."""
    if out.suffix != ".onnx":
        raise ConfigError(f"--out {out}: wanted a name that ends in .onnx")
    folder = run_folder(model, seed)
    if dry_run:
        plan = {"reads": [str(folder)], "writes": str(out)}
        print(json.dumps(plan) if as_json else f"would read {folder} and write {out}")
        return
    height, width, difference = _write(folder, snapshot, size_of("--size", size), out, rule)
    result = {"path": str(out), "size": [height, width], "difference": difference}
    line = f"{out}: uint8 (1, {height}, {width}, 3) to probabilities; onnxruntime differs by {difference:.1e} at most"
    print(json.dumps(result) if as_json else line)


def _write(
    folder: Path, snapshot: int | None, size: tuple[int, int] | None, out: Path, rule: str | None
) -> tuple[int, int, float]:
    """Export, compare on two random images, then write; nothing is written that does not agree."""
    import numpy as np
    import torch

    from segpipe.cli.predictors import chain_of
    from segpipe.core import files
    from segpipe.data.normalize import curve
    from segpipe.training import exchange, trained

    network, config = trained.load(folder, snapshot)
    height, width = size or config["size"]
    factors = None
    if rule is not None:
        factors = chain_of(rule, folder.name, trained.weights_of(folder, snapshot), config["classes"]).pointwise()
        if factors is None:
            raise ConfigError(f"--rule {rule}: its rule looks at whole images, and ONNX takes pixels alone")
    given = network, curve(config["normalization"])
    content = exchange.onnx_bytes(*given, (height, width), config["classes"], factors)
    wrapped = exchange.FromBytes(*given, factors)
    random, differences = np.random.default_rng(0), []
    for _ in range(2):
        image = random.integers(0, 256, (1, height, width, 3)).astype(np.uint8)
        with torch.no_grad():
            wanted = wrapped(torch.from_numpy(image)).numpy()
        differences.append(float(np.abs(exchange.run(content, image) - wanted).max()))
    difference = float(np.max(differences))  # NaN stays NaN, which Python's max would drop
    if not difference <= BOUND:
        raise SegpipeError(f"onnxruntime differs by {difference:.2g}, more than {BOUND:g}; nothing was written")
    files.write_bytes(out, content)
    return height, width, difference
