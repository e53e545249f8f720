"""Folders of label maps and of what other tools predicted for them: label maps, probabilities or logits, by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import DataError
from segpipe.core.void import VOID
from segpipe.data.arrays import ARRAYS, read_array
from segpipe.data.files import read_ids
from segpipe.data.guess.affixes import affixes, fits

MAPS = (".png", ".tif", ".tiff", ".bmp", ".gif")


def files_below(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files of some types in a folder and in those within, in order; what is hidden, as checkpoints of notebooks
    are, is left out.
    """
    known = tuple(suffixes)
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in known and path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder and of those in it, by their path below it without the suffix.

    Raises:
        DataError: it is no folder, or two files have one name.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    found: dict[str, Path] = {}
    for path in files_below(folder, suffixes):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{folder} holds {found[name].name} and {path.name}: two files of one name; remove one")
        found[name] = path
    return found


def pairs(labels: Path, predictions: Path) -> dict[str, tuple[Path, Path]]:
    """Label map and prediction of every image, by the name of the label map.

    Names may have a text before or after what they share: `a_gt.png` with `a_pred.npy`.

    Raises:
        DataError: no label map, or files without a partner.
    """
    true, predicted = by_name(labels, MAPS), by_name(predictions, (*MAPS, *ARRAYS))
    if not true:
        raise DataError(f"{labels} holds no label map ({', '.join(MAPS)})")
    if true.keys() != predicted.keys() and predicted:
        around, number = affixes([Path(n).name for n in true], [Path(n).name for n in predicted], apart=False)
        if around is not None and number == len(true):
            predicted = _renamed(predicted, around[1])
            true = _renamed(true, around[0])
    for missing, where in ((true.keys() - predicted.keys(), predictions), (predicted.keys() - true.keys(), labels)):
        if missing:
            raise DataError(
                f"{where} lacks {len(missing)} of the other folder's files: {', '.join(sorted(missing)[:3])}; "
                "give label map and prediction the same name"
            )
    return {name: (path, predicted[name]) for name, path in true.items()}


def _renamed(files: dict[str, Path], around: tuple[str, str]) -> dict[str, Path]:
    """Files by their name without what stands around it; those that do not fit keep theirs."""
    before, after = around
    found = {}
    for name, path in files.items():
        *folders, stem = name.split("/")
        short = stem[len(before) : len(stem) - len(after)] if fits(stem, before, after) else stem
        found["/".join([*folders, short])] = path
    return found


def read_pair(
    true: Path, predicted: Path, classes: int, ignored: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:  # fmt: skip
    """Label map and prediction (H, W), 255 void in the one and rejected in the other.

    Args:
        true: a label map.
        predicted: another, or an array (C, H, W) of probabilities or logits, of which the largest is taken.
        classes: C.
        ignored: the value of void in the label map.

    Raises:
        DataError: sizes differ, or a value is no class.
    """
    target, found = read_ids(true), read_prediction(predicted, classes)
    if target.shape != found.shape:
        raise DataError(f"{predicted} is {found.shape[::-1]}, but {true} is {target.shape[::-1]} (width, height)")
    void = target == ignored
    for path, ids, allowed in ((true, target, void), (predicted, found, void | (found == VOID))):
        wrong = ids[((ids < 0) | (ids >= classes)) & ~allowed]
        if wrong.size:
            raise DataError(
                f"{path} holds {sorted(set(wrong.ravel().tolist()))[:5]}, wanted 0..{classes - 1}, "
                f"{ignored} for void in labels or {VOID} for rejected in predictions; give the right --classes"
            )
    target[void] = VOID
    found[void] = VOID
    return target.astype(np.uint8), found.astype(np.uint8)


def read_prediction(path: Path, classes: int) -> NDArray[Any]:
    """The label map (H, W) in a picture or an array.

    Raises:
        DataError: it cannot be read, or has another shape or number of classes.
    """
    if path.suffix.lower() in MAPS:
        return read_ids(path)
    array = read_array(path)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2 and array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.ndim == 3 and array.dtype.kind == "f" and len(array) == classes:
        try:
            return label_and_confidence(array)[0]
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
    raise DataError(
        f"{path} is {array.dtype} {array.shape}, wanted whole numbers (H, W), or probabilities or logits "
        f"({classes}, H, W) of as many classes"
    )
