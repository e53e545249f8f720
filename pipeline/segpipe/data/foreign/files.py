"""The predictions that other tools wrote, found by the names of images.

A prediction is one file (a label map, an array, a text file of polygons) or a stack: a picture of each class.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from segpipe.core.errors import DataError
from segpipe.data.arrays import ARRAYS
from segpipe.data.dataset import Row
from segpipe.data.folders import MAPS, by_name
from segpipe.data.guess.affixes import affixes, fits
from segpipe.data.guess.masks import SPLITS

Files = tuple[Path, ...]  # of one image; none where a tool that writes polygons found nothing
POLYGONS = (".txt",)
_CHANNEL = re.compile(r"_0000\Z")  # of nnU-Net's images, not of its predictions


def find(
    folder: Path, splits: Mapping[str, Sequence[Row]], classes: Sequence[str], others: Sequence[Row] = ()
) -> dict[str, Files]:  # fmt: skip
    """The files of each image, by its id: of the kind of files that has the most images of the splits.

    Of kinds that have as many, arrays go before stacks, stacks before label maps, and these before polygons: they say
    more. others: further images of the dataset, whose predictions belong to none of the splits.

    Raises:
        DataError: no folder, no prediction, or two of one image.
    """
    rows = [row for some in splits.values() for row in some]
    split_of = {row.id: split for split, some in splits.items() for row in some}
    best: dict[str, Files] = {}
    of_kind: dict[str, Files] = {}
    for files in _kinds(folder, classes):
        found = _matched(files, split_of, rows, others, folder)
        if len(found) > len(best):
            best, of_kind = found, files
    if not best:
        raise DataError(
            f"{folder} holds no prediction of an image such as {Path(rows[0].image).name}; name arrays "
            f"({', '.join(ARRAYS)}), label maps ({', '.join(MAPS)}) or polygons ({POLYGONS[0]}) after the images"
        )
    _refuse_several(best, of_kind, rows, folder)
    if next(iter(best.values()))[0].suffix.lower() in POLYGONS:  # no file is written where nothing is found
        there = [rows for rows in splits.values() if any(row.id in best for row in rows)]
        best = {row.id: best.get(row.id, ()) for rows in there for row in rows}
    return best


def _of_another_split(paths: Files, split: str, folder: Path) -> bool:
    """Whether a file lies in the folder of a split that is not the image's."""
    inside = {part.lower() for part in paths[0].relative_to(folder).parts[:-1]}
    called = {other for other, words in SPLITS.items() if inside & set(words)}
    return bool(called) and split not in called


def _refuse_several(found: Mapping[str, Files], files: Mapping[str, Files], rows: Sequence[Row], folder: Path) -> None:
    """DataError when images have further files of one kind, as `x_gt.png` beside `x_pred.png`: which one is meant?"""
    used = {path for paths in found.values() for path in paths}
    left = [name for name, paths in files.items() if used.isdisjoint(paths)]
    of_image: dict[str, list[str]] = {}
    stems = {Path(row.image).stem: row.id for row in rows if row.id in found}
    for name in left:
        for match in re.finditer(r"[^A-Za-z0-9]", bare := name.rpartition("/")[2]):
            for part in (bare[: match.start()], bare[match.end() :]):
                if part in stems:
                    of_image.setdefault(stems[part], []).append(name)
    if 2 * len(of_image) >= len(found) > 0:
        ident, others = next(iter(of_image.items()))
        raise DataError(
            f"{folder} holds {found[ident][0].name} and {Path(others[0]).name}, several files of one image; give a "
            "folder with one prediction per image, or with a picture of every class"
        )


def _kinds(folder: Path, classes: Sequence[str]) -> Iterator[dict[str, Files]]:
    """The files of each kind by their name below the folder."""
    yield {name: (path,) for name, path in by_name(folder, ARRAYS).items()}
    maps = by_name(folder, MAPS)
    yield from _stacks(maps, classes)
    yield {name: (path,) for name, path in maps.items()}
    yield {name: (path,) for name, path in by_name(folder, POLYGONS).items()}


def _stacks(maps: dict[str, Path], classes: Sequence[str]) -> Iterator[dict[str, Files]]:
    """Pictures of each class in a folder for each image, or named `image_class`; the class by name or number."""
    known = {name.lower(): number for number, name in enumerate(classes)}
    for divide in (_last_folder, _last_word):
        found: dict[str, dict[int, Path]] = {}
        for name, path in maps.items():
            image, last = divide(name)
            number = known.get(last.lower(), int(last) if last.isdecimal() else -1)
            if image:
                found.setdefault(image, {})[number] = path
        whole = {
            image: tuple(planes[number] for number in range(len(classes)))
            for image, planes in found.items()
            if len(classes) > 1 and planes.keys() == set(range(len(classes)))
        }
        if whole:
            yield whole


def _last_folder(name: str) -> tuple[str, str]:
    above, _, last = name.rpartition("/")
    return above, last


def _last_word(name: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.+?)[^A-Za-z0-9/]+([A-Za-z]+|[0-9]+)", name)
    return (match[1], match[2]) if match else ("", name)


def _matched(
    files: dict[str, Files], split_of: Mapping[str, str], rows: Sequence[Row], others: Sequence[Row], folder: Path
) -> dict[str, Files]:  # fmt: skip
    """The files of each row, by its id: both share a name, or all names share a text before or after it.

    split_of: the split of each row; others: rows that own their names too.
    """
    own = _one_each([*rows, *others])
    found: dict[str, Files] = {}

    def put(row: Row | None, paths: Files) -> None:
        if row is None or row.id not in split_of or _of_another_split(paths, split_of[row.id], folder):
            return
        if row.id in found:
            two = " and ".join(sorted(files[0].relative_to(folder).as_posix() for files in (found[row.id], paths)))
            raise DataError(f"{folder} holds {two}, two predictions of {Path(row.image).name}; remove one")
        found[row.id] = paths

    owner = {name: next((own[tail] for tail in _tails(name) if tail in own), None) for name in files}
    for name, paths in files.items():
        put(owner[name], paths)
    free = {name: paths for name, paths in files.items() if owner[name] is None}
    if found or not free:
        return found
    stems, names = [Path(row.image).stem for row in rows], [name.rpartition("/")[2] for name in free]
    around, number = affixes(stems, names, apart=False)
    if around is None or number < len(rows) / 2:
        return {}
    short = {_between(stem, *around[0]): row for stem, row in zip(stems, rows, strict=True)}
    for name, paths in free.items():
        put(short.get(_between(name.rpartition("/")[2], *around[1])), paths)
    return found


def _between(stem: str, before: str, after: str) -> str:
    """A name without what stands around it; one that does not fit as it is."""
    return stem[len(before) : len(stem) - len(after)] if fits(stem, before, after) else stem


def _one_each(rows: Sequence[Row]) -> dict[str, Row]:
    """The row that each name belongs to: the path of its image without the ending, and each end of it that no other
    row has; its id; and the names of its label maps.
    """
    names = [(tail, row) for row in rows for form in _forms(row) for tail in _tails(form)]
    owners = Counter(tail for tail, _ in {(tail, row.id) for tail, row in names})
    return {tail: row for tail, row in names if owners[tail] == 1}


def _forms(row: Row) -> set[str]:
    image = PurePosixPath(row.image).with_suffix("").as_posix()
    return {image, _CHANNEL.sub("", image), row.id, *(Path(label).with_suffix("").as_posix() for label in row.labels)}


def _tails(name: str) -> Iterator[str]:
    """A path and its ends: a/b, b."""
    parts = name.split("/")
    yield from ("/".join(parts[start:]) for start in range(len(parts)))
