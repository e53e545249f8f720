"""What `segpipe crf` does beside the pipeline: one image and its probabilities."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segpipe import refine
from segpipe.cli.printing import say
from segpipe.core import files
from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import ConfigError, DataError, suggestion
from segpipe.core.files import read_json
from segpipe.crf import dense_crf
from segpipe.data.arrays import read_array
from segpipe.data.files import png_bytes, read_image


def refine_image(
    image: Path | None,
    probs: Path | None,
    out: Path | None,
    tuned: Path | None,
    parameters: Sequence[str],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Refine one image's probabilities; write a label map or probabilities, say what changed.

    Raises:
        ConfigError: an option is missing or no parameter of dense_crf.
        DataError: a file is no image, no probabilities, or they do not fit.
    """
    if image is None or probs is None or out is None:
        raise ConfigError("refining one image takes all of --image FILE, --probs FILE.npy and --out FILE")
    if out.suffix not in (".png", ".npy"):
        raise ConfigError(f"--out {out}: wanted .png for a label map or .npy for probabilities")
    for given_path in (image, probs):
        if out.resolve() == given_path.resolve():
            raise ConfigError(f"--out {out} is an input; write elsewhere")
    options = _options(tuned, parameters)
    pixels, given = read_image(image), _read(probs)
    if out.suffix == ".png" and len(given) > 256:
        raise ConfigError(f"--out {out}: a PNG holds 256 classes, found {len(given)}; write an .npy")
    try:
        refined = dense_crf(pixels, given, **{**options, "iterations": 0} if dry_run else options)
    except ValueError as error:
        raise DataError(f"{probs} with {image}: {error}") from None
    if dry_run:
        line = f"would read {image}, {probs} and write {out}"
        say(line, {"reads": [str(image), str(probs)], "writes": str(out)}, as_json=as_json)
        return
    labels, before = label_and_confidence(refined)[0], label_and_confidence(given.astype(np.float32))[0]
    changed = float((labels != before).mean())
    source = "tuned" if tuned else "these parameters are not tuned for your data: see `segpipe crf --run`"
    shown = ", ".join(f"{name} {value}" for name, value in options.items()) or "defaults"
    if out.suffix == ".png":
        files.write_bytes(out, png_bytes(labels, colors(len(refined))))
    else:
        files.write_bytes(out, files.array_bytes(refined))
    result = {"path": str(out), "changed": changed, "parameters": options}
    say(f"{out}: {100 * changed:.2f} % of the pixels changed their class ({shown}; {source})", result, as_json=as_json)


def _read(path: Path) -> Any:
    """Probabilities (C, H, W)."""
    found = read_array(path)
    if found.ndim != 3:
        raise DataError(f"{path} holds {found.shape}, wanted one array (C, H, W) as numpy.save writes it")
    return found


def colors(number: int) -> list[tuple[int, ...]]:
    """Distinct colours of any number of classes, padded to the 256 of a palette: bits of the class
    number spread over the channels, as PASCAL VOC does.

    >>> colors(3)[:3]
    [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    """
    found = []
    for k in range(256):
        channels = [sum(((k >> (3 * bit + axis)) & 1) << (7 - bit) for bit in range(3)) for axis in range(3)]
        found.append(tuple(channels) if k < number else (0, 0, 0))
    return found


def _options(tuned: Path | None, parameters: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments of dense_crf from a tuned run's crf.json and from NAME=VALUE words."""
    numbers = {
        name: type(default.default)
        for name, default in inspect.signature(dense_crf).parameters.items()
        if isinstance(default.default, int | float | str)
    }
    options: dict[str, Any] = _tuned(tuned) if tuned else {}
    for word in parameters:
        name, _, text = word.partition("=")
        if name not in numbers:
            raise ConfigError(f"--parameter {word}: dense_crf has no '{name}'{suggestion(name, numbers)}")
        try:
            options[name] = text if numbers[name] is str else int(text) if name == "iterations" else float(text)
        except ValueError:
            raise ConfigError(f"--parameter {word}: '{text}' is no number") from None
    return options


def _tuned(path: Path) -> dict[str, Any]:
    """The parameters that stage crf wrote."""
    found, tuned = read_json(path), refine.find("crf").attributes["tuned"]
    if not isinstance(found, dict) or not {"parameters", "iterations"} <= found.keys():
        raise DataError(f"{path} is no crf.json of stage crf; wanted 'parameters' and 'iterations' in it")
    parameters, iterations = found["parameters"], found["iterations"]
    if parameters is None:
        raise DataError(f"{path} found no CRF to be best; choose parameters with --parameter NAME=VALUE")
    numbers = [*parameters.values(), iterations] if isinstance(parameters, dict) else [None]
    if not all(type(value) in (int, float) for value in numbers) or not set(parameters) <= set(tuned):
        raise DataError(f"{path}: 'parameters' must be numbers by name ({', '.join(tuned)}), 'iterations' a number")
    return {**parameters, "iterations": iterations}
