"""Stage crf: a dense CRF after the network, tuned on val and judged on test; it may decide that none is best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from segpipe.core.errors import ConfigError, DataError, SegpipeError
from segpipe.stages import SPLITS, options
from segpipe.stages.context import HIDDEN, Context, start
from segpipe.stages.probs import refuse_leak

ImageOption = Annotated[
    Path | None, typer.Option("--image", help="One image instead of a run, without any pipeline.", show_default=False)
]
ProbsOption = Annotated[
    Path | None, typer.Option("--probs", help="Its probabilities (C, H, W) as .npy.", show_default=False)
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Where the label map (.png) or the probabilities (.npy) go.", show_default=False),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", metavar="NAME=VALUE", help="Of dense_crf, e.g. bi_xy_std=30; repeatable.", show_default=False
    ),
]
TunedOption = Annotated[
    Path | None,
    typer.Option("--tuned", help="A crf.json of this stage: use the parameters found there.", show_default=False),
]


def crf(
    run: options.Run = None,
    loss: options.Loss = None,
    seed: options.Seed = 0,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    image: ImageOption = None,
    probs: ProbsOption = None,
    out: OutOption = None,
    tuned: TunedOption = None,
    parameter: ParameterOption = None,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Refine a run's predictions with a fully connected CRF; or one image with --image, --probs and --out."""
    from segpipe.core.parallel import Pool
    from segpipe.core.seeding import make_deterministic

    if image or probs or out or tuned or parameter:
        if run or loss or settings or jobs or scheduler:
            raise ConfigError("--image, --probs and --out stand alone: no --run, --loss, --jobs, --scheduler or --set")
        # By name: what a single image needs is no code of the pipeline's stage.
        import_module("segpipe.stages.single").refine(image, probs, out, tuned, parameter or (), dry_run, as_json)
        return
    if run is None and loss is None:
        raise ConfigError("give --run NAME or --loss NAME (whose predictions shall be refined?), or --image FILE")
    context = start("crf", run=run, loss=loss, seed=seed, overrides=settings, dry_run=dry_run, as_json=as_json)
    source, target = context.require("predict"), context.path("crf")
    if dry_run:
        context.announce(target, source)
        return
    with context.writing(target):
        result = write(context, Pool(jobs or context.params.threads, scheduler, partial(make_deterministic, 1)))
    chosen = result["parameters"]
    tuning = f"{result['metric']} of {len(result['tuned_on'])} val images {result['score_without']:.4f}"
    lines = [
        f"{target}: {tuning} -> {result['score']:.4f} with {parameters_text(chosen)}"
        if chosen
        else f"{target}: {tuning}, and no candidate is better: the predictions stay as they are",
        f"test: {result['effect']['test']['verdict']}. {result['effect']['test']['sentence']}",
    ]
    context.finish(result, lines, context.command("evaluate", "crf"))


def parameters_text(parameters: dict[str, float]) -> str:
    """`pos_w 3, bi_w 4, ...`"""
    return ", ".join(f"{name} {value:g}" for name, value in parameters.items())


def write(context: Context, pool: Any) -> dict[str, Any]:
    """Write probs and labels of every image at its original size, and `crf.json`."""
    import shutil

    import numpy as np

    from segpipe.core import files, seeding
    from segpipe.crf.effect import effect
    from segpipe.data.maps import write_maps

    settings, measured = context.params.crf.tune, context.params.evaluate
    seeding.make_deterministic(1)  # one thread an image: the bytes do not depend on the number of jobs
    index = files.read_json(context.path("prepare") / "index.json")
    work = Work(context, index, pool, _resume(context))
    ids, choice = _tune(work)
    summary: dict[str, Any] = {
        "parameters": choice.parameters,
        "iterations": settings.iterations,
        "metric": settings.metric,
        "tuned_on": ids,
        "score_without": choice.score_without,
        "score": choice.score,
        "effect": {},
    }
    with files.folder(context.path("crf"), {"config": context.digest("crf")}) as folder:
        for split in SPLITS:
            paths = work.each(split, "refining", lambda split, i: _refine(work, split, i, choice.parameters))
            for kind, dtype in (("probs", np.float16), ("labels", np.uint8)):
                write_maps(folder / f"{split}_{kind}", (_load(path)[kind] for path in paths), dtype)
            groups = [row["group"] for row in index["splits"][split]]
            summary["effect"][split] = effect(
                *_sides(paths), groups, metric=settings.metric, widths=measured.trimap, quantiles=measured.quantiles,
                resamples=measured.resamples,
            )  # fmt: skip
        files.write_json(folder / "crf.json", {**summary, "candidates": choice.candidates})
    shutil.rmtree(work.folder, ignore_errors=True)
    return {"path": str(context.path("crf")), **summary}


@dataclass
class Work:
    """The images of a run, and the folder that keeps what is done of each, so that a killed stage goes on."""

    context: Context
    index: dict[str, Any]
    pool: Any  # core.parallel.Pool
    folder: Path

    def each(
        self, split: str, what: str, function: Callable[[str, int], Path], chosen: Sequence[int] | None = None
    ) -> list[Path]:
        """`function(split, position)` for some images, several at once, in their order."""
        from tqdm import tqdm

        positions = range(len(self.index["splits"][split])) if chosen is None else chosen
        done = self.pool.map(function, ((split, i) for i in positions))
        return list(tqdm(done, f"{what} {self.context.key} {split}", len(positions), unit="image", disable=None))

    def path(self, split: str, i: int, what: str) -> Path:
        """Where the result of an image waits; another image or label under its name is another file."""
        from segpipe.core import files

        root, row = self.context.path("download"), self.index["splits"][split][i]
        inputs = files.digest_json([files.digest_file(root / name) for name in (row["image"], *row["labels"])])
        return self.folder / f"{split}-{i}-{inputs[:16]}{what}.npz"

    def sample(self, split: str, i: int) -> tuple[Any, Any, Any]:
        """Image, probabilities and label map at the original size."""
        from segpipe.data.files import read_image
        from segpipe.stages.probs import probs_at
        from segpipe.stages.samples import read_target

        root, row = self.context.path("download"), self.index["splits"][split][i]
        target = read_target(root, self.index["dataset"], self.index["labels"], row, split)
        return read_image(root / row["image"]), probs_at(self.context.path("predict"), split, row, i), target


def _resume(context: Context) -> Path:
    """Where finished images wait, named by output, parameters, data and code: others are never taken up."""
    import shutil

    from segpipe.code import digest_of_stage
    from segpipe.core import files

    source, prepared = context.path("predict"), context.path("prepare")
    inputs = [files.digest_file(source / f"{split}.npy") for split in SPLITS]
    inputs += [files.digest_file(prepared / "index.json"), digest_of_stage("crf"), context.digest("crf")]
    parent = HIDDEN / "crf" / context.path("crf").as_posix().replace("/", "__")
    folder = parent / files.digest_json(inputs)[:32]
    for stale in parent.glob("*"):
        if stale != folder:
            shutil.rmtree(stale, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _tune(work: Work) -> tuple[list[str], Any]:
    """The ids of evenly spaced val images, and the search on them by the named metric at original resolution."""
    import numpy as np

    from segpipe.core import files
    from segpipe.core.argmax import label_and_confidence
    from segpipe.crf.search import Point, refine_at, tune
    from segpipe.metrics.counts import Counts, count
    from segpipe.metrics.scores import options_of, summarize

    settings = work.context.params.crf.tune
    rows, classes = work.index["splits"]["val"], len(work.index["classes"])
    number = min(settings.images, len(rows))
    chosen = [i * len(rows) // number for i in range(number)]
    ids = [rows[i]["id"] for i in chosen]
    refuse_leak(work.context.path("predict"), ids, "tune the CRF")

    def counted(split: str, i: int, points: list[Point]) -> Path:
        """Counts of one image under every point; without a point, of the prediction as it is."""
        path = work.path(split, i, f"-tune-{files.digest_json(points)[:16]}")
        if not path.exists():
            image, probs, target = work.sample(split, i)
            labels = {0: label_and_confidence(probs)[0]}
            if points:
                with _named(ids[chosen.index(i)]):
                    labels = dict(refine_at(image, probs, points, iterations=settings.iterations))
            counts = Counts.concat([count(labels[j][None], target[None], classes) for j in range(len(labels))])
            _save(path, vars(counts))
        return path

    named: dict[str, Any] = options_of([settings.metric])

    def evaluate(points: list[Point]) -> list[float]:
        what = f"tuning ({len(points)} points)" if points else "before the CRF"
        paths = work.each("val", what, lambda split, i: counted(split, i, points), chosen)
        tables = [Counts(**_load(path)) for path in paths]
        scores = []
        for j in range(max(1, len(points))):
            counts = Counts.concat([table[[j]] for table in tables])
            reached = summarize(counts, **named).get(settings.metric)
            if not isinstance(reached, float) or not np.isfinite(reached):
                raise ConfigError(f"crf.tune.metric: '{settings.metric}' is no score of the tuning images")
            scores.append(reached)
        return scores

    return ids, tune(evaluate, settings.grid, evaluate([])[0], points=settings.points)


def _refine(work: Work, split: str, i: int, parameters: dict[str, Any] | None) -> Path:
    """One image, refined and measured on both sides, into a file of its own."""
    import numpy as np

    from segpipe.core.argmax import label_and_confidence
    from segpipe.crf.dense import dense_crf
    from segpipe.crf.effect import Measured

    path = work.path(split, i, "")
    if path.exists():
        return path
    settings = work.context.params.evaluate
    image, probs, target = work.sample(split, i)
    labels = label_and_confidence(probs)[0]
    before = after = Measured.of(labels, probs, target, settings.trimap, settings.bins)
    if parameters is not None:
        with _named(work.index["splits"][split][i]["id"]):
            probs = dense_crf(image, probs, iterations=work.context.params.crf.tune.iterations, **parameters)
        labels = label_and_confidence(probs)[0]
        after = Measured.of(labels, probs.astype(np.float16), target, settings.trimap, settings.bins)
    arrays = {f"{side}.{name}": value for side, m in (("before", before), ("after", after))
              for name, value in m.arrays().items()}  # fmt: skip
    _save(path, {"probs": probs.astype(np.float16), "labels": labels, **arrays})
    return path


@contextmanager
def _named(image: str) -> Iterator[None]:
    """What the library refuses, as an error of this image: widths too small for the lattice, too many pixels."""
    try:
        yield
    except SegpipeError:
        raise
    except ValueError as error:
        raise DataError(f"image {image}: {error}") from None


def _sides(paths: Sequence[Path]) -> tuple[list[Any], list[Any]]:
    """What was measured before and after."""
    from segpipe.crf.effect import Measured

    sides: dict[str, list[Any]] = {"before": [], "after": []}
    for path in paths:
        arrays = _load(path)
        for side, found in sides.items():
            own = {name.removeprefix(f"{side}."): arrays[name] for name in arrays if name.startswith(f"{side}.")}
            found.append(Measured.from_arrays(own))
    return sides["before"], sides["after"]


def _save(path: Path, arrays: dict[str, Any]) -> None:
    import io

    import numpy as np

    from segpipe.core.files import write_bytes

    stream = io.BytesIO()
    np.savez(stream, **arrays)
    write_bytes(path, stream.getvalue())


def _load(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
