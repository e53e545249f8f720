"""What `segpipe compare` does with folders alone: label maps, and the predictions of any framework for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from segpipe.core.errors import ConfigError, DataError
from segpipe.core.files import write_text
from segpipe.core.parallel import Pool
from segpipe.core.spreadsheet import csv_text
from segpipe.data import folders
from segpipe.data.arrays import ARRAYS
from segpipe.data.files import read_ids
from segpipe.data.guess.groups import Grouping, by_names, checked
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.elsewhere import COUNTED, KEYS
from segpipe.metrics.jackknife import Tables
from segpipe.metrics.tables import Line, counts_rows
from segpipe.report import judgement
from segpipe.report.folders import Compared, Pairs, build, pictures_of


@dataclass(frozen=True)
class Options:
    """How folders are read.

    classes: their number; None: inferred from the label maps. ignored: the value of void pixels in label maps.
    group: an expression whose brackets capture the group of an image; None: inferred from names. out: where to write
    the counts, as `compare --csv` reads them. page: where to write a page, whose pictures are in `images`. jobs: images
    at once; None: one per core.
    """

    classes: int | None = None
    ignored: int = 255
    group: str | None = None
    out: Path | None = None
    page: Path | None = None
    images: Path | None = None
    jobs: int | None = None


def compare_folders(
    labels: Path, named: Sequence[str], metrics: Sequence[str], equivalence: float, options: Options
) -> judgement.Judgement:  # fmt: skip
    """Compare predictions against the label maps of the same names.

    Args:
        labels: the folder of the label maps.
        named: NAME=FOLDER of each run; folders in it are its seeds.
        metrics: names of scores.
        equivalence: points within which a difference does not matter.
        options: how folders are read.

    Raises:
        ConfigError: fewer than two runs, or no NAME=FOLDER.
        DataError: files without a partner, sizes that differ, or ids that are no class.
    """
    runs = _paired({name: _seeds(labels, folder) for name, folder in _named(named).items()})
    pool = Pool(options.jobs or os.cpu_count() or 1)
    classes = options.classes or _classes(labels, options.ignored, pool)
    images = list(next(iter(next(iter(runs.values())).values())))
    pictures = [] if options.images is None else pictures_of(options.images, images)
    made: dict[str, dict[str, Tables]] = {}
    for name, seeds in runs.items():
        for seed, pairs in seeds.items():
            counts = _counted(f"{name} {seed}" if len(seeds) > 1 else name, pairs, classes, options.ignored, pool)
            made.setdefault(name, {})[seed] = Tables(counts)
    groups = _groups(images, options.group)
    if options.out is not None:
        write_text(options.out, csv_text((*KEYS, *COUNTED), _lines(made, images, groups, classes)))
        _say(f"{options.out}: counts of {len(images)} images, for `segpipe compare --csv`")
    most = max(map(len, made.values()))
    networks = {name: name if len(seeds) == most else "" for name, seeds in made.items()}  # fewer: these networks
    found = judgement.judge_tables(made, groups, metrics, networks=networks, equivalence=equivalence / 100)
    if options.page is not None:
        compared = Compared(labels, options.ignored, runs, made, classes, pictures)
        write_text(options.page, build(found, compared))
        _say(f"{options.page}: verdicts, scores per class, and where the predictions fail")
    return found


def _named(named: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in named:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            raise ConfigError(f"'{text}': with --labels, give predictions as NAME=FOLDER")
        if name in found:
            raise ConfigError(f"two runs are called '{name}'; give each a name of its own")
        if not Path(folder).is_dir():
            raise ConfigError(f"{folder} is not a folder")
        found[name] = Path(folder)
    if len(found) < 2:
        raise ConfigError(f"found {len(found)} method(s), wanted at least two as NAME=FOLDER")
    return found


def _seeds(labels: Path, folder: Path) -> dict[str, Pairs]:
    """The pairs of each training: folders in a folder are its seeds, unless the label maps lie in such folders too."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    flat = any(path.is_file() and path.suffix.lower() in (*folders.MAPS, *ARRAYS) for path in folder.iterdir())
    if inside and not flat and not any((labels / path.name).is_dir() for path in inside):
        return {path.name: folders.pairs(labels, path) for path in inside}
    return {"0": folders.pairs(labels, folder)}


def _paired(runs: dict[str, dict[str, Pairs]]) -> dict[str, dict[str, Pairs]]:
    """Seeds by name where all runs have the same names, else by their order: trainings that chance has paired."""
    if len({tuple(seeds) for seeds in runs.values()}) == 1:
        return runs
    return {name: {str(i): pairs for i, pairs in enumerate(seeds.values())} for name, seeds in runs.items()}


def _classes(labels: Path, ignored: int, pool: Pool) -> int:
    """One more than the largest id of the label maps."""
    files = [(path, ignored) for path in folders.by_name(labels, folders.MAPS).values()]
    found = max(tqdm(pool.map(_largest, files), "classes", len(files), unit="image", disable=None), default=-1)
    if found < 0:
        raise DataError(f"every pixel in {labels} is {ignored}, which is void; give the right --ignore-index")
    if found == 0:
        raise DataError(
            f"{labels} holds only 0 and {ignored}, which is void, so there is one class; write masks of 0 and 255 as 0 "
            "and 1, or give --classes"
        )
    if not found <= 254:
        raise DataError(f"{labels} holds ids up to {found}, wanted 0 to 254; give --classes or --ignore-index")
    _say(f"guessed: {found + 1} classes\n         because label maps hold ids up to {found}; otherwise: --classes")
    return found + 1


def _largest(path: Path, ignored: int) -> int:
    ids = read_ids(path)
    kept = ids[ids != ignored]
    return int(kept.max()) if kept.size else -1


def _counted(
    name: str, pairs: Pairs, classes: int, ignored: int, pool: Pool
) -> Counts:  # fmt: skip
    """The counts of every image."""
    work = ((true, predicted, classes, ignored) for true, predicted in pairs.values())
    return Counts.concat(list(tqdm(pool.map(_count, work), name, len(pairs), unit="image", disable=None)))


def _count(true: Path, predicted: Path, classes: int, ignored: int) -> Counts:
    target, ids = folders.read_pair(true, predicted, classes, ignored)
    return count(ids[None], target[None], classes)


def _groups(images: Sequence[str], group: str | None) -> list[str]:
    """The group of each image, by the expression or by what the names show."""
    names = [image.replace("/", "_") for image in images]
    if group is not None:
        return Grouping(checked(group, names), "groups", "--group says so").of(names)
    kind = by_names(names)
    if kind is None:
        why = "names show no patient or sequence"
        _say(f"guessed: every image is its own group\n         because {why}; otherwise: --group")
        return names
    found = kind.of(names)
    what = f"{len(set(found))} {kind.what} that belong together"
    _say(f"guessed: {what}\n         because {kind.why}; otherwise: --group")
    return found


def _lines(
    made: dict[str, dict[str, Tables]], images: Sequence[str], groups: Sequence[str], classes: int
) -> Iterator[Line]:  # fmt: skip
    """Lines of counts, as `compare --csv` reads them."""
    named, names = list(zip(images, groups, strict=True)), [str(k) for k in range(classes)]
    for run, seeds in made.items():
        for seed, tables in seeds.items():
            yield from counts_rows(tables.counts, run, seed, named, names)


def _say(text: str) -> None:
    """To the error stream: the other may hold JSON."""
    print(text, file=sys.stderr)
