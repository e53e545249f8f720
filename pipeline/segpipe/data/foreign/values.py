"""What predictions of other tools hold: label maps, probabilities or logits, at the size of the labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.opencv import cv2
from segpipe.core.void import VOID
from segpipe.data import fill
from segpipe.data.arrays import read_array
from segpipe.data.files import ColorMask, read_grey, read_ids
from segpipe.data.folders import MAPS
from segpipe.data.foreign.files import POLYGONS, Files
from segpipe.data.geometry import softmax
from segpipe.data.layouts.yolo import read_line
from segpipe.data.masks import of_colors

Holds = Literal["labels", "probs", "logits"]
_CLOSE = 0.02  # by which probabilities of a pixel may miss a sum of 1: 8 bits of each of several classes


@dataclass(frozen=True)
class Meaning:
    """What the values of predictions say.

    holds: label maps, probabilities or logits. ids: the class of each id, where these are other numbers. shift: added
    to every id. resize: predictions of another size are resized to the labels'.
    """

    holds: Holds
    ids: Mapping[int, int] = field(default_factory=dict)
    shift: int = 0
    resize: bool = False


@dataclass(frozen=True)
class Values:
    """The values in the files of an image: ids (H, W), or numbers of each class (C, H, W); of two classes (1, H, W)."""

    ids: NDArray[np.int64] | None = None
    scores: NDArray[np.float32] | None = None

    def holds(self, given: Holds | None = None) -> Holds:
        """What they are: label maps or, as given or by their range and sums, probabilities or logits.

        Raises:
            ValueError: numbers that are neither.
        """
        if self.scores is None:
            return "labels"
        if not np.isfinite(self.scores).all():
            raise ValueError("holds numbers that are not finite; find where they come from")
        if given == "logits":
            return "logits"
        if self.scores.min() < -_CLOSE or self.scores.max() > 1 + _CLOSE:
            return "logits"
        if len(self.scores) == 1 or np.abs(self.scores.sum(0) - 1).max() <= _CLOSE:
            return "probs"
        raise ValueError(
            "holds numbers from 0 to 1 that do not sum to 1 over classes, as sigmoids do; write probabilities of a "
            "softmax, logits, or label maps"
        )


@dataclass(frozen=True)
class Seen:
    """What the files of an image say of themselves: kind, ids, size (height, width)."""

    holds: Holds
    ids: frozenset[int]
    size: tuple[int, int]

    def check(self, where: str, size: tuple[int, int], classes: int, meaning: Meaning) -> None:
        """DataError when the meaning does not fit, before anything is computed."""
        if self.holds != meaning.holds:
            raise DataError(f"{where} holds {self.holds}, wanted {meaning.holds}; write one kind, or leave --holds out")
        if self.holds == "labels":
            ids = np.array([sorted(self.ids)])
            labels_of(Values(ids=ids), where, (1, len(self.ids)), classes, meaning)
        if self.size != size:
            _refuse_size(where, self.size, size, meaning)


def look(
    files: Files, size: tuple[int, int], classes: int, palette: Sequence[Sequence[int]], given: Holds | None = None
) -> Seen:
    """Read the files of an image once. given: what they hold, where that is known.

    Raises:
        DataError: as `read_values`, and for numbers that are neither probabilities nor logits.
    """
    values = read_values(files, size, classes, palette)
    try:
        holds = values.holds(given)
    except ValueError as error:
        raise DataError(f"{files[0]} {error}") from None
    if values.scores is not None:
        return Seen(holds, frozenset(), (values.scores.shape[1], values.scores.shape[2]))
    assert values.ids is not None
    return Seen(holds, frozenset(np.unique(values.ids).tolist()), (values.ids.shape[0], values.ids.shape[1]))


def read_values(files: Files, size: tuple[int, int], classes: int, palette: Sequence[Sequence[int]]) -> Values:
    """What the files of an image hold; polygons are painted at its size (height, width).

    Raises:
        DataError: a file is damaged or of a shape that fits no such image.
    """
    if not files:
        return Values(ids=np.zeros(size, np.int64))
    suffix = files[0].suffix.lower()
    if suffix in POLYGONS:
        return Values(ids=_painted(files[0], size))
    if len(files) > 1:
        return Values(scores=np.stack([_plane(path) for path in files]))
    if suffix in MAPS:
        return Values(ids=_map(files[0], palette))
    return _of_array(read_array(files[0]), files[0], classes)


def _of_array(array: NDArray[Any], path: Path, classes: int) -> Values:
    """Ids or scores in an array, whose axes of length 1 are dropped."""
    shape = array.shape
    while array.ndim > 2 and 1 in array.shape:
        array = array.squeeze(array.shape.index(1))
    if array.ndim == 2 and array.dtype.kind in "iub":
        return Values(ids=array.astype(np.int64))
    if array.ndim == 2 and array.dtype.kind == "f" and classes == 2:
        return Values(scores=array.astype(np.float32)[None])
    if array.ndim == 3 and array.dtype.kind in "fuib" and classes in (len(array), array.shape[2]):
        planes = array if len(array) == classes else array.transpose(2, 0, 1)
        factor = np.iinfo(array.dtype).max if array.dtype.kind == "u" and array.max(initial=0) > 1 else 1
        return Values(scores=planes.astype(np.float32) / np.float32(factor))
    raise DataError(
        f"{path} is {array.dtype} {shape}, wanted whole numbers (H, W), or probabilities or logits ({classes}, H, W)"
        f"{'; of two classes those of the second alone (H, W) do too' if classes == 2 else ''}"
    )


def _map(path: Path, palette: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The ids in a picture: of its pixels, or of the dataset's colours."""
    try:
        return read_ids(path).astype(np.int64)
    except ColorMask:
        packed, found = of_colors(path, [[color] for color in palette])
    unknown = packed[found < 0]
    if unknown.size:
        other = [int(unknown[0]) >> shift & 255 for shift in (16, 8, 0)]
        raise DataError(f"{path} holds the colour {other}, which is none of the dataset's; write ids")
    return np.asarray(found, np.int64)


def _plane(path: Path) -> NDArray[np.float32]:
    """The probabilities of a class in a grey picture of 8 or 16 bits."""
    ids = read_ids(path)
    if ids.max(initial=0) <= 1:
        return np.asarray(ids, np.float32)
    return np.asarray(read_grey(path) / 255 if ids.dtype == np.uint8 else ids / 65535, np.float32)


def _painted(path: Path, size: tuple[int, int]) -> NDArray[np.int64]:
    """Polygons of a text file, class k as id k + 1 over 0: the surest on top, else the smallest."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words = line.split()
        if words:
            sure = _confidence(words.pop(), f"{path}:{number}") if len(words) % 2 == 0 else None
            kind, points = read_line(" ".join(words), f"{path}:{number}")
            if kind >= VOID - 1:
                raise DataError(f"{path}:{number} is of class {kind}, wanted 0 to {VOID - 2}; correct it")
            x, y = points.T
            area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
            found.append((-area if sure is None else sure, kind, points))
    ids = np.zeros(size, np.int64)
    for _, kind, points in sorted(found, key=lambda one: one[0]):
        ids[fill.polygon([points * (size[1], size[0])], size)] = kind + 1
    return ids


def _confidence(word: str, where: str) -> float:
    try:
        found = float(word)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise DataError(f"{where} ends with '{word}', wanted a confidence such as 0.9; write the predictions again")
    return found


def labels_of(values: Values, where: str, size: tuple[int, int], classes: int, meaning: Meaning) -> NDArray[np.uint8]:
    """The label map (H, W) at a size (height, width), 255 where nothing is predicted.

    Raises:
        DataError: no label map, of another size, or ids that are no class.
    """
    if values.ids is None:
        raise DataError(f"{where} holds numbers of classes, the others label maps; write one kind")
    ids = values.ids
    if meaning.ids:  # an id that is not listed would be a class by chance
        listed = np.isin(ids, list(meaning.ids)) | (ids == VOID)
        if not listed.all():
            raise DataError(f"{where} holds {_listed(ids[~listed])}, which --ids does not list; give the class of each")
        for number, kind in meaning.ids.items():
            ids = np.where(values.ids == number, kind, ids)
    ids = np.where((ids == VOID) & (values.ids == VOID), VOID, ids + meaning.shift) if meaning.shift else ids
    wrong = (ids != VOID) & ((ids < 0) | (ids >= classes))
    if wrong.any():
        raise DataError(f"{where} holds {_listed(values.ids[wrong])}, {remedy(classes, meaning)}")
    found = ids.astype(np.uint8)
    if found.shape != size:
        _refuse_size(where, found.shape, size, meaning)
        found = np.asarray(cv2.resize(found, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    return found


def remedy(classes: int, meaning: Meaning) -> str:
    """What to do about ids that are no class."""
    first, last = -meaning.shift, classes - 1 - meaning.shift
    wanted = f"wanted {first} to {last}" + (f" before --shift {meaning.shift}" if meaning.shift else "")
    how = "--shift -1 if the first class is 1, or " if not meaning.shift else ""
    return f"{wanted}, or {VOID} where nothing is predicted; give {how}--ids 7=0,8=1 with the class of each id"


def _listed(values: NDArray[np.int64]) -> str:
    found = sorted(set(values.ravel().tolist()))
    return ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")


def probs_of(values: Values, where: str, size: tuple[int, int], classes: int, meaning: Meaning) -> NDArray[np.float32]:
    """The probabilities (C, H, W) at a size (height, width).

    Raises:
        DataError: no numbers of each class, others than they should be, or of another size.
    """
    scores = values.scores
    try:
        holds = values.holds(meaning.holds)
    except ValueError as error:
        raise DataError(f"{where} {error}") from None
    if scores is None or (holds == "logits" and meaning.holds == "probs"):
        raise DataError(f"{where} holds {holds}, the others {meaning.holds}; write one kind")
    if len(scores) == 1 and classes == 2:
        scores = np.concatenate([np.zeros_like(scores) if meaning.holds == "logits" else 1 - scores, scores])
    if len(scores) != classes:
        raise DataError(f"{where} holds {len(scores)} classes, wanted {classes}")
    if scores.shape[1:] != size:
        _refuse_size(where, scores.shape[1:], size, meaning)
        scores = np.stack([cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in scores])
    if meaning.holds == "logits":
        return softmax(np.array(scores, np.float32))
    found = np.clip(scores, 0, 1)
    return np.asarray(found / found.sum(0), np.float32)


def _refuse_size(where: str, found: tuple[int, ...], size: tuple[int, int], meaning: Meaning) -> None:
    if not meaning.resize:
        raise DataError(
            f"{where} is {found[1]} x {found[0]}, but the labels of that image are {size[1]} x {size[0]} (width x "
            "height); give --resize to resize predictions, or write them at the labels' size"
        )
