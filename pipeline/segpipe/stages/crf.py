"""Stage crf: a refiner after the network, tuned on val and judged on test; it may decide that none is best."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from segpipe.config.context import HIDDEN, Context
from segpipe.config.digests import digest_of
from segpipe.core import files, outputs, seeding
from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import ConfigError, DataError, SegpipeError
from segpipe.core.parallel import Pool
from segpipe.data.dataset import Index, read_target
from segpipe.data.files import read_image
from segpipe.data.geometry import softmax
from segpipe.data.maps import write_maps
from segpipe.data.packed import Kind, Packed
from segpipe.data.predictions import read_probs, refuse_leak
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.measures import named_in
from segpipe.metrics.scores import options_of, summarize
from segpipe.refine.base import Refiner
from segpipe.refine.effect import Measured, effect
from segpipe.refine.search import Choice, Point
from segpipe.stages import SPLITS


def run(context: Context) -> dict[str, Any]:
    """Write probabilities and labels of every image at its original size, and `crf.json`."""
    section, measured = context.params.crf, context.params.evaluate
    settings = section.tune
    seeding.make_deterministic(1)  # one thread an image: the bytes do not depend on the number of jobs
    index = Index.read(context.path("prepare"))
    refiner: type[Refiner] = section.entry.load()  # type: ignore[assignment]
    pool = context.pool(partial(seeding.make_deterministic, 1))
    work = _Work(context, index, pool, _resume(context), refiner)
    ids, choice = _tune(work)
    summary: dict[str, Any] = {
        "parameters": choice.parameters,
        **section.fixed,
        "metric": settings.metric,
        "tuned_on": ids,
        "score_without": choice.score_without,
        "score": choice.score,
        "effect": {},
    }
    with outputs.folder(context.path("crf"), context.describe("crf")) as folder:
        for split in SPLITS:
            paths = work.each(split, "refining", lambda split, i: _refine(work, split, i, choice.parameters))
            for kind in ("probs", "labels"):
                write_maps(folder / f"{split}_{kind}", (_packed(kind, _arrays(path)) for path in paths))
            summary["effect"][split] = effect(
                *_sides(paths), index.groups(split), metric=settings.metric, widths=measured.trimap,
                quantiles=measured.quantiles,
            )  # fmt: skip
        files.write_json(folder / "crf.json", {**summary, "candidates": choice.candidates})
    shutil.rmtree(work.folder, ignore_errors=True)
    return {"path": str(context.path("crf")), **summary}


@dataclass
class _Work:
    """The images of a run, and the folder that keeps what is done of each, so that a killed stage goes on."""

    context: Context
    index: Index
    pool: Pool
    folder: Path
    refiner: type[Refiner]

    def each(
        self, split: str, what: str, function: Callable[[str, int], Path], chosen: Sequence[int] | None = None
    ) -> list[Path]:
        """`function(split, position)` for some images, several at once, in their order."""
        positions = range(len(self.index.splits[split])) if chosen is None else chosen
        done = self.pool.map(function, ((split, i) for i in positions))
        return list(tqdm(done, f"{what} {self.context.key} {split}", len(positions), unit="image", disable=None))

    def path(self, split: str, i: int, what: str) -> Path:
        """Where the result of an image waits; another image or label under its name is another file."""
        root, row = self.context.path("download"), self.index.splits[split][i]
        inputs = outputs.digest_json([outputs.digest_file(root / name) for name in (row.image, *row.labels)])
        return self.folder / f"{split}-{i}-{inputs[:16]}{what}.npz"

    def sample(self, split: str, i: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
        """Image, probabilities and label map at the original size."""
        root, row = self.context.path("download"), self.index.splits[split][i]
        target = read_target(root, self.index, row, split)
        return (
            read_image(root / row.image, self.index.reading),
            read_probs(self.context.path("predict"), split, row, i),
            target,
        )


def _resume(context: Context) -> Path:
    """Where finished images wait, named by output, parameters, data and code: others are never taken up."""
    source, prepared = context.path("predict"), context.path("prepare")
    inputs: list[Any] = [outputs.digests(source, "*s.bin"), outputs.digests(prepared, "index.json")]
    inputs += [digest_of(context, "crf"), context.digest("crf")]
    parent = HIDDEN / "crf" / context.path("crf").as_posix().replace("/", "__")
    folder = parent / outputs.digest_json(inputs)[:32]
    for stale in parent.glob("*"):
        if stale != folder:
            shutil.rmtree(stale, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _tune(work: _Work) -> tuple[list[str], Choice]:
    """The ids of evenly spaced val images, and the search on them by the named metric at original resolution."""
    section = work.context.params.crf
    settings, rows, classes = section.tune, work.index.splits["val"], len(work.index.classes)
    number = min(settings.images, len(rows))
    chosen = [i * len(rows) // number for i in range(number)]
    ids = [rows[i].id for i in chosen]
    refuse_leak(work.context.path("predict"), ids, "tune the CRF")

    def counted(split: str, i: int, points: list[Point]) -> Path:
        """Counts of one image under every point; without a point, of the prediction as it is."""
        path = work.path(split, i, f"-tune-{outputs.digest_json(points)[:16]}")
        if not _is_whole(path):
            image, probs, target = work.sample(split, i)
            labels = {0: label_and_confidence(probs)[0]}
            if points:
                with _named(rows[i].id):
                    labels = dict(work.refiner.label_maps(image, probs, points, section.fixed))
            counts = Counts.concat([count(labels[j][None], target[None], classes) for j in range(len(labels))])
            files.write_sealed(path, files.npz_bytes(vars(counts)))
        return path

    named: dict[str, Any] = options_of([settings.metric])

    def score(points: list[Point]) -> list[float]:
        what = f"tuning ({len(points)} points)" if points else "before the CRF"
        paths = work.each("val", what, lambda split, i: counted(split, i, points), chosen)
        tables = [Counts(**_arrays(path)) for path in paths]
        scores = []
        for j in range(max(1, len(points))):
            counts = Counts.concat([table[[j]] for table in tables])
            reached = summarize(counts, **named, measures=named_in([settings.metric])).get(settings.metric)
            if not isinstance(reached, float) or not np.isfinite(reached):
                raise ConfigError(f"crf.tune.metric: '{settings.metric}' is no score of the tuning images")
            scores.append(reached)
        return scores

    return ids, work.refiner.fit(score, section.candidates, score([])[0], points=settings.points)


def _refine(work: _Work, split: str, i: int, parameters: Point | None) -> Path:
    """One image, refined and measured on both sides, into a file of its own."""
    path = work.path(split, i, "")
    if _is_whole(path):
        return path
    settings = work.context.params.evaluate
    image, probs, target = work.sample(split, i)
    labels = label_and_confidence(probs)[0]
    before = Measured.of(labels, probs, target, settings.trimap, settings.bins)
    if parameters is not None:
        with _named(work.index.splits[split][i].id):
            probs = work.refiner(**parameters, **work.context.params.crf.fixed).apply(image, probs)
        labels = label_and_confidence(probs)[0]
    packed = Packed.probs(probs)
    # As stage evaluate will see it.
    after = Measured.of(labels, softmax(packed.unpack()), target, settings.trimap, settings.bins)
    arrays = {f"{side}.{name}": value for side, m in (("before", before), ("after", after))
              for name, value in m.arrays().items()}  # fmt: skip
    kept = {"shape": np.array(probs.shape), "probs": np.frombuffer(packed.content, np.uint8)}
    kept["labels"] = np.frombuffer(Packed.labels(labels).content, np.uint8)
    files.write_sealed(path, files.npz_bytes({**kept, **arrays}))
    return path


def _packed(kind: Kind, arrays: Mapping[str, NDArray[Any]]) -> Packed:
    """A map of an image that `_refine` has kept."""
    shape = tuple(arrays["shape"].tolist())
    return Packed(kind, arrays[kind].tobytes(), shape[1:] if kind == "labels" else shape)


def _is_whole(path: Path) -> bool:
    """Whether an image was done before; what a fault has damaged is done again."""
    try:
        return bool(files.read_sealed(path))
    except DataError:
        return False


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    return files.arrays_of(files.read_sealed(path), path)


@contextmanager
def _named(image: str) -> Iterator[None]:
    """What the library refuses, as an error of this image: widths too small for the lattice, too many pixels."""
    try:
        yield
    except SegpipeError:
        raise
    except ValueError as error:
        raise DataError(f"image {image}: {error}") from None


def _sides(paths: Sequence[Path]) -> tuple[list[Measured], list[Measured]]:
    """What was measured before and after."""
    sides: dict[str, list[Measured]] = {"before": [], "after": []}
    for path in paths:
        arrays = _arrays(path)
        for side, found in sides.items():
            own = {name.removeprefix(f"{side}."): arrays[name] for name in arrays if name.startswith(f"{side}.")}
            found.append(Measured.from_arrays(own))
    return sides["before"], sides["after"]
