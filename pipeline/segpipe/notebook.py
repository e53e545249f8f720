"""segpipe in Python: read, compare and recommend results, train and segment, with pictures that Jupyter shows.

`import segpipe` offers these functions; nothing heavy is loaded before one of them is called.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.cli import adhoc
from segpipe.cli.compare_folders import Options, compare_folders
from segpipe.cli.infer import run_folder
from segpipe.cli.predictors import EnsemblePredictor, RunPredictor, definition_of
from segpipe.config.context import Context, refuse_import, start
from segpipe.core.errors import ConfigError, suggestion
from segpipe.data.files import png_bytes, read_image
from segpipe.data.reading import Reading
from segpipe.report import advice, analysis
from segpipe.report.collect import MissingResults, collect_results, costs, judge_entries, untried
from segpipe.report.figures import curves
from segpipe.report.html import Piece, render
from segpipe.report.judgement import Judgement, ranking_table, sentence
from segpipe.report.pictures import strip
from segpipe.report.results import COLUMNS, Entry, ranked, read_history
from segpipe.report.tables import Table
from segpipe.stages import train as training
from segpipe.training import inference
from segpipe.training.device import choose

Goal = Literal["D", "I", "C", "worst", "calibration", "likelihood", "speed"]
Image = str | Path | NDArray[np.uint8]
METRICS = ("miou_dataset", "miou_image", "miou_class")


@dataclass(frozen=True)
class Results:
    """The evaluated results of a workspace. entries: one for each run, CRF, ensemble and rule; missing: what is not
    there, in words.
    """

    folder: Path
    context: Context
    entries: Sequence[Entry]
    missing: Sequence[str]

    @property
    def names(self) -> list[str]:
        """What they are called, best first by the report's metric."""
        return [entry.name for entry in ranked(self.entries, self.context.params.report.metric)]

    @property
    def scores(self) -> dict[str, dict[str, float | None]]:
        """By name, the mean over seeds of each score on test, as fractions; None where it is undefined."""
        return {entry.name: {name: entry.mean(name) for name in COLUMNS} for entry in self.entries}

    @property
    def table(self) -> Table:
        """The same as a table, best first."""
        rows = [
            [name, *("–" if value is None else f"{value:.4f}" for value in self.scores[name].values())]
            for name in self.names
        ]
        return Table(["what", *COLUMNS.values()], rows)

    def __repr__(self) -> str:
        return self.table.markdown()

    def _repr_html_(self) -> str:
        return render(self.table)


@dataclass(frozen=True)
class Comparison:
    """Results compared in pairs. judged: all intervals and verdicts."""

    judged: Judgement

    @property
    def verdicts(self) -> list[str]:
        """Each pair under each score, in words."""
        return [difference.verdict for difference in self.judged.differences]

    def __repr__(self) -> str:
        return "\n".join(self.verdicts)

    def _repr_html_(self) -> str:
        pieces: list[Piece] = []
        for metric in self.judged.sample.metrics:
            drawn = analysis.behind_the_best(self.judged, metric)
            pieces += [sentence(self.judged, metric), ranking_table(self.judged, metric), *([drawn] if drawn else [])]
        return "".join(render(piece) for piece in pieces if piece)


@dataclass(frozen=True)
class Recommendation:
    """Which result to take. take: its name, empty where nothing can be told; lines: why, how sure, and what next."""

    take: str
    lines: Sequence[tuple[str, str]]

    def __repr__(self) -> str:
        return "\n".join(f"{heading}: {text}" for heading, text in self.lines)

    def _repr_html_(self) -> str:
        return render(Table(["", ""], [[f"**{heading}**", text] for heading, text in self.lines]))


@dataclass(frozen=True)
class Trained:
    """A finished training. score: the best mIoU^D on val, reached in `epoch`; history: its columns by epoch."""

    name: str
    folder: Path
    score: float
    epoch: int
    history: Mapping[str, Sequence[float]]

    def __repr__(self) -> str:
        return f"{self.name}: mIoU^D {self.score:.4f} on val in epoch {self.epoch}"

    def _repr_html_(self) -> str:
        history = {name: list(values) for name, values in self.history.items()}
        return f"<p>{render(repr(self))}</p>{curves({self.name: [history]})}"


@dataclass(frozen=True)
class Segmented:
    """An image (H, W, 3) and its labels (H, W), 255 where rejected; probs (C, H, W), None of ensembles that vote."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    probs: NDArray[np.float32] | None
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]

    @property
    def shares(self) -> dict[str, float]:
        """The share of the image that each class covers."""
        return {name: float((self.labels == k).mean()) for k, name in enumerate(self.classes)}

    def __repr__(self) -> str:
        most = sorted(self.shares.items(), key=lambda pair: -pair[1])[:4]
        return f"{self.labels.shape[1]} x {self.labels.shape[0]}: " + ", ".join(f"{n} {s:.1%}" for n, s in most)

    def _repr_png_(self) -> bytes:
        return png_bytes(strip(self.image, [self.labels], self.palette))


def read_results(folder: str | Path = ".") -> Results:
    """The results of a workspace that are there.

    Args:
        folder: with params.yaml and results/.

    Raises:
        ConfigError: it is no workspace. DataError: no result is there.
    """
    with chdir(_workspace(folder)):
        missing = MissingResults(strict=False)
        context = start()
        return Results(Path.cwd(), context, collect_results(context, missing), list(missing))


def compare(results: Results, *names: str, metrics: Sequence[str] = METRICS, split: str = "test") -> Comparison:
    """Whether results differ: paired over groups of images and seeds, as `segpipe compare` says it.

    Args:
        results: of `read_results`.
        names: two or more of them; none: all.
        metrics: scores, the first of which leads.
        split: test or val.

    Raises:
        ConfigError: an unknown name or score, or fewer than two results.
    """
    known = {entry.name: entry for entry in results.entries}
    for name in names:
        if name not in known:
            raise ConfigError(f"'{name}' is no result{suggestion(name, known)}")
    chosen = [known[name] for name in dict.fromkeys(names)] or list(results.entries)
    chosen = [entry for entry in chosen if split in entry.metrics[0]]
    if not metrics or isinstance(metrics, str):
        raise ConfigError(f"metrics is {metrics!r}, wanted names in a list, for example ['miou_dataset']")
    if len(chosen) < 2:
        raise ConfigError(f"found {len(chosen)} result on {split}, wanted at least two to compare")
    for metric in metrics:
        if not any(entry.values(metric, split) for entry in chosen):
            raise ConfigError(f"no result has the score '{metric}' on {split}; see docs/metrics.md")
    with chdir(results.folder):
        return Comparison(judge_entries(chosen, results.context, list(metrics), split=split))


def compare_predictions(
    labels: str | Path, predictions: Mapping[str, str | Path], *, metrics: Sequence[str] = METRICS,
    classes: int | None = None, ignore_index: int = 255, group: str | None = None,
) -> Comparison:  # fmt: skip
    """Compare folders of predictions against a folder of label maps, as `segpipe compare --labels` does.

    Args:
        labels: the folder of label maps.
        predictions: by name, a folder of label maps or arrays, or of a folder for each seed.
        metrics: scores.
        classes: their number; None: inferred.
        ignore_index: the value of void pixels in label maps.
        group: a regular expression whose brackets capture the group of an image; None: inferred from names.

    Raises:
        ConfigError: fewer than two folders. DataError: files without a partner, or ids that are no class.
    """
    if classes is not None and not 1 <= classes <= 255:
        raise ConfigError(f"classes is {classes}, wanted 1 to 255")
    named = [f"{name}={folder}" for name, folder in predictions.items()]
    return Comparison(compare_folders(Path(labels), named, metrics, 1.0, Options(classes, ignore_index, group)))


def recommend(results: Results, goal: Goal = "D") -> Recommendation:
    """Which result to take for a goal, how sure that is, and what to run next.

    Args:
        results: of `read_results`.
        goal: mIoU per dataset (D), image (I) or class (C), the worst images, calibration, likelihood or speed.

    Raises:
        ConfigError: fewer than two results have the goal's score.
    """
    if goal not in advice.GOALS:
        raise ConfigError(f"unknown goal '{goal}'{suggestion(goal, advice.GOALS)}")
    entries = [entry for entry in results.entries if not entry.collapsed]
    metric = advice.GOALS[goal]
    if sum(entry.mean(metric) is not None for entry in entries) < 2:
        raise ConfigError(f"fewer than two results have {metric}; add runs to params.yaml")
    with chdir(results.folder):
        judged = judge_entries(entries, results.context, [metric])
        kinds = {entry.name: entry.kind for entry in entries}
        found = advice.advise(
            goal, judged, costs(results.context, entries), untried(results.context), kinds
        )  # fmt: skip
        return Recommendation(found.take, advice.words(found, judged))


def train(
    run: str | None = None, *, loss: str | None = None, seed: int = 0, folder: str | Path = ".",
    settings: Mapping[str, Any] | None = None, device: str = "auto",
) -> Trained:  # fmt: skip
    """Train a run of params.yaml, or any loss, as `segpipe train` does; what it needs is made first.

    Args:
        run: its name; or
        loss: such as "focal" or "0.25*ce + 0.75*jml".
        seed: the random seed.
        folder: the workspace.
        settings: parameters by dotted path, for example {"train.epochs": 3}.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        ConfigError: a wrong name or setting. DataError: data that cannot be made.
    """
    overrides = [f"{path}={json.dumps(value)}" for path, value in (settings or {}).items()]
    with chdir(_workspace(folder)):
        context = start(run=run, loss=loss, seed=seed, overrides=overrides, device=device)
        if not context.run:
            raise ConfigError("give a run of params.yaml, or loss=, for example loss='focal'")
        refuse_import(context)
        adhoc.make_upstream(context)
        with context.writing(context.path("train")):
            found = training.run(context)
        place = context.path("train").absolute()
        return Trained(
            context.key, place, found["val_miou_dataset"], found["best_epoch"], read_history(place)
        )  # fmt: skip


def infer(
    images: Image | Sequence[Image], model: str | None = None, *, ensemble: str | None = None, seed: int = 0,
    folder: str | Path = ".", device: str = "auto",
) -> list[Segmented]:  # fmt: skip
    """Segment images with a trained run or an ensemble.

    Args:
        images: one or several: paths, or arrays (H, W, 3) of uint8.
        model: a trained run, by name or by its folder; or
        ensemble: one, by name.
        seed: of the run.
        folder: the workspace.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        ConfigError: neither or both of model and ensemble. DataError: no such network, or an image that cannot be read.
    """
    if (model is None) == (ensemble is None):
        raise ConfigError("give model= or ensemble=: which network shall segment the images?")
    given: Sequence[Image] = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    paths = [image if isinstance(image, np.ndarray) else Path(image).absolute() for image in given]
    with chdir(_workspace(folder)):
        place = torch.device(choose(device))
        predictor: RunPredictor | EnsemblePredictor
        if model is not None:
            predictor = RunPredictor(run_folder(model, seed), None, inference.Options(), seed, place)
        else:
            predictor = EnsemblePredictor(definition_of(str(ensemble)), place)
        read = _reader(predictor.config)
        found = []
        for number, image in enumerate(map(read, paths)):
            one = predictor.predict(image, number)
            config = predictor.config
            found.append(Segmented(image, one.labels, one.probs, config["classes"], config["palette"]))
        return found


def _reader(config: Mapping[str, Any]) -> Callable[[Path | NDArray[np.uint8]], NDArray[np.uint8]]:
    reading = Reading(**config["reading"])

    def read(image: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
        if isinstance(image, Path):
            return read_image(image, reading)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ConfigError(f"an image is {image.dtype} {image.shape}, wanted uint8 (height, width, 3)")
        return image

    return read


def _workspace(folder: str | Path) -> Path:
    found = Path(folder).expanduser()
    if not (found / "params.yaml").is_file():
        raise ConfigError(f"{found} holds no params.yaml; give the folder of a workspace, made by `segpipe init`")
    return found
