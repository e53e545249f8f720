"""Command infer: label maps, overlays and probabilities of new images of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segpipe.cli.predictors import Prediction
    from segpipe.refine.chain import Chain
    from segpipe.training.inference import Options

KINDS = ("overlay", "entropy", "mutual_information")  # written beside a label map
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")


ModelOption = Annotated[
    str | None, typer.Option(help="A trained run: its folder, or its name (with --seed).", show_default=False)
]
EnsembleOption = Annotated[
    str | None,
    typer.Option(help="An ensemble instead: its ensemble.json, its folder, or its name.", show_default=False),
]
WindowOption = Annotated[
    str | None,
    typer.Option(
        help="HxW: look through overlapping windows at the original size. Without it an image is fitted into "
        "the grid that the run was trained on, or seen whole where it was trained without a grid.",
        show_default=False,
    ),
]
RuleOption = Annotated[
    str | None, typer.Option(help="Read labels by the rule for this score, see `segpipe decide`.", show_default=False)
]
PassesOption = Annotated[
    int, typer.Option(help="Monte Carlo passes of a network with dropout; also writes its uncertainty.", min=0)
]


def infer(
    images: Annotated[
        list[Path], typer.Argument(help="Image files, or folders, which are searched with all folders in them.")
    ],
    model: ModelOption = None,
    ensemble: EnsembleOption = None,
    seed: options.Seed = 0,
    snapshot: options.Snapshot = None,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("runs/infer"),
    rule: RuleOption = None,
    probs: Annotated[bool, typer.Option("--probs", help="Also write probabilities as .npy, float16.")] = False,
    flips: Annotated[bool, typer.Option("--flips", help="Average over mirror images.")] = False,
    scales: Annotated[str, typer.Option(help="Average over sizes, e.g. 0.75,1,1.25.")] = "1",
    window: WindowOption = None,
    overlap: Annotated[float, typer.Option(help="Share that windows have in common.", min=0, max=0.9)] = 0.5,
    passes: PassesOption = 0,
    threads: Annotated[int | None, typer.Option(help="Threads of torch.", min=1, show_default=False)] = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Segment new images with a trained run, or with an ensemble as it was made."""
    from segpipe.cli.printing import say
    from segpipe.training.inference import Options

    if (model is None) == (ensemble is None):
        raise ConfigError("give --model RUN or --ensemble NAME: who shall look at the images?")
    looks = Options(flips, _scales(scales), size_of("--window", window), overlap, passes)
    if ensemble is not None and (looks != Options(scales=[1.0]) or seed or snapshot):
        raise ConfigError(
            "an ensemble's members look as they did when it was made: no --seed, --snapshot, --flips, --scales, "
            "--window, --overlap or --passes"
        )
    if overlap != Options.overlap and window is None:
        raise ConfigError("--overlap is that of windows; give --window HxW too")
    given = _files(images, out)
    asked = _Asked(model, ensemble, seed, snapshot, looks, device, threads, rule)
    if dry_run:
        asked.folder()
        say(
            f"would read {len(given)} images and write {out}", {"images": len(given), "writes": str(out)},
            as_json=as_json,
        )  # fmt: skip
        return
    line, result = _segment(given, out, asked, probs=probs)
    say(line, result, as_json=as_json)


@dataclass(frozen=True)
class _Asked:
    """Who shall look at the images, and how."""

    model: str | None
    ensemble: str | None
    seed: int
    snapshot: int | None
    looks: Options
    device: str
    threads: int | None
    rule: str | None

    def folder(self) -> Path:
        """Where it lies."""
        from segpipe.cli.predictors import definition_of

        return run_folder(self.model, self.seed) if self.model is not None else definition_of(str(self.ensemble))

    def chain(self, rule: str, classes: list[str]) -> Chain:
        """The rule that reads labels."""
        from segpipe.cli.predictors import chain_of
        from segpipe.training.trained import weights_of

        folder = self.folder()
        if self.model is None:
            return chain_of(rule, folder.parent.name, folder, classes)
        return chain_of(rule, folder.name, weights_of(folder, self.snapshot), classes)


def _segment(given: Mapping[str, Path], out: Path, asked: _Asked, *, probs: bool) -> tuple[str, dict[str, Any]]:
    """Write every image's files; what is told of them."""
    import torch
    from tqdm import tqdm

    from segpipe.cli.predictors import EnsemblePredictor, RunPredictor
    from segpipe.core import seeding
    from segpipe.data.files import read_image
    from segpipe.data.reading import Reading
    from segpipe.training.device import choose

    folder = asked.folder()
    seeding.make_deterministic(asked.threads or torch.get_num_threads())
    place = torch.device(choose(asked.device))
    predictor: EnsemblePredictor | RunPredictor
    if asked.model is None:
        predictor = EnsemblePredictor(folder, place)
    else:
        predictor = RunPredictor(folder, asked.snapshot, asked.looks, asked.seed, place)
    if probs and predictor.votes:
        raise ConfigError("--probs: this ensemble votes, and has labels alone")
    if asked.rule is not None and predictor.votes:
        raise ConfigError("--rule: this ensemble votes, and has no probabilities to read")
    chain = None if asked.rule is None else asked.chain(asked.rule, predictor.config["classes"])
    reading = Reading(**predictor.config["reading"])
    written, shares = [], []
    for number, (name, path) in enumerate(tqdm(given.items(), "infer", unit="image", disable=None)):
        image = read_image(path, reading)
        written.append(str(out / f"{name}.png"))
        found = predictor.predict(image, number)
        if chain is not None and found.probs is not None:
            found = replace(found, labels=chain.labels(image, found.probs))
        shares.append(_write(out, name, image, found, predictor.config, probs=probs))
    *mean, rejected = [sum(values) / len(values) for values in zip(*shares, strict=True)]
    named = sorted(zip(predictor.config["classes"], mean, strict=True), key=lambda pair: -pair[1])
    line = ", ".join(f"{name} {share:.1%}" for name, share in named[:4])
    line += f"; rejected {rejected:.1%}" if predictor.votes else ""
    result = {"path": str(out), "labels": written, "rejected": rejected}
    return f"{out}: {len(written)} images; most of them: {line}", result


def run_folder(model: str, seed: int) -> Path:
    """The folder of a trained run, given itself or by name.

    Raises:
        DataError: neither is there.
    """
    known = [Path(model), Path("data/train") / f"{model}-{seed}", Path("runs/adhoc") / f"{model}-{seed}"]
    for folder in known:
        if (folder / "config.json").is_file():
            return folder
    trained = sorted(path.parent.as_posix() for path in Path().glob("data/train/*/config.json"))
    there = f"trained here: {', '.join(trained[:6])}" if trained else "train one with `segpipe train`"
    raise DataError(f"--model {model}: no trained run at {', '.join(path.as_posix() for path in known)}; {there}")


def size_of(option: str, text: str | None) -> tuple[int, int] | None:
    """(height, width) of a text such as 128x160; ConfigError for anything else."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) >= 16 for part in parts):
        raise ConfigError(f"{option} {text}: wanted HEIGHTxWIDTH of at least 16, for example 128x160")
    return int(parts[0]), int(parts[1])


def _scales(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [0.0]
    if not all(0.25 <= scale <= 4 for scale in found):
        raise ConfigError(f"--scales {text}: wanted numbers from 0.25 to 4, for example 0.75,1,1.25")
    return found


def _files(given: Sequence[Path], out: Path) -> dict[str, Path]:
    """The images by what they are called in `out`: of a folder, their path below it.

    Each needs a name of its own, and none may be overwritten; what lies in `out` already is no input.
    """
    from segpipe.data.folders import files_below

    found: dict[str, Path] = {}
    taken: dict[str, Path] = {}
    written = out.resolve()

    def is_written(path: Path) -> bool:
        return written in path.resolve().parents

    for start in given:
        inside = [start]
        if start.is_dir():
            inside = [path for path in files_below(start, IMAGES) if start == out or not is_written(path)]
        if not inside:
            raise DataError(f"{start} holds no image ({', '.join(IMAGES)})")
        for path in inside:
            if not path.is_file():
                raise DataError(f"{path} is missing")
            if path.resolve().parent == written:
                raise ConfigError(f"--out {out} holds {path.name} itself; write elsewhere")
            own = (path.relative_to(start) if start.is_dir() else Path(path.name)).with_suffix("").as_posix()
            for name in (own, *(f"{own}_{kind}" for kind in KINDS)):
                if name in taken:
                    raise ConfigError(f"{taken[name]} and {path} would both become {out / name}.png; rename one")
                taken[name] = path
            found[own] = path
    return found


def _write(
    out: Path, stem: str, image: NDArray[np.uint8], found: Prediction, config: dict[str, Any], *, probs: bool
) -> list[float]:
    """The files of one image; the share of each class, then of rejected pixels, which are 255."""
    import numpy as np

    from segpipe.core import files
    from segpipe.data.files import png_bytes
    from segpipe.report.pictures import blend, heat

    palette, classes = [tuple(color) for color in config["palette"]], len(config["classes"])
    labels = found.labels
    files.write_bytes(out / f"{stem}.png", png_bytes(labels, palette + [(0, 0, 0)] * (256 - len(palette))))
    files.write_bytes(out / f"{stem}_overlay.png", png_bytes(blend(image, labels, palette)))
    if probs and found.probs is not None:
        files.write_bytes(out / f"{stem}_probs.npy", files.array_bytes(found.probs.astype(np.float16)))
    if found.uncertainty is not None:
        most = float(np.log(classes))  # of an entropy
        for name, values in zip(KINDS[1:], found.uncertainty, strict=True):
            files.write_bytes(out / f"{stem}_{name}.png", png_bytes(heat(values / most)))
    counted = np.bincount(labels.ravel(), minlength=256) / labels.size
    return [float(share) for share in (*counted[:classes], counted[255])]
