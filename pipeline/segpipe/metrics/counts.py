"""The table everything follows from: tp, fp and fn per image and class, as integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segpipe.core.opencv import cv2

Ints = NDArray[np.int64]

_TILE = 2**23  # pixels of one histogram: OpenCV counts in float32, exact up to 2^24


@dataclass(frozen=True)
class Counts:
    """tp, fp, fn (N, C) and valid, rejected (N,), all int64; one row per image."""

    tp: Ints
    fp: Ints
    fn: Ints
    valid: Ints
    rejected: Ints

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.tp.shape[1])

    def __len__(self) -> int:
        return len(self.tp)

    def __getitem__(self, rows: int | slice | Sequence[int] | NDArray[Any]) -> Counts:
        """The counts of some images (a slice, a list of indices or a mask)."""
        return Counts(*(part[rows] for part in (self.tp, self.fp, self.fn, self.valid, self.rejected)))

    @property
    def coverage(self) -> float | None:
        """Share of the valid pixels that were not rejected; None without a valid pixel."""
        valid = int(self.valid.sum())
        return 1 - int(self.rejected.sum()) / valid if valid else None

    @staticmethod
    def concat(parts: Sequence[Counts]) -> Counts:
        """The images of all parts, one after the other; they must have the same classes."""
        widths = sorted({part.num_classes for part in parts})
        if len(widths) != 1:
            raise ValueError(f"counts have {widths} classes, wanted one class list; count with the same num_classes")
        fields = zip(*((p.tp, p.fp, p.fn, p.valid, p.rejected) for p in parts), strict=True)
        return Counts(*(np.concatenate(field) for field in fields))


def count(
    labels: ArrayLike, target: ArrayLike, num_classes: int, *, ignore_index: int | None = 255, reject: int | None = 255
) -> Counts:
    """Count predicted `labels` against `target`, both integer (N, H, W), numpy or torch.

    Pixels whose target is `ignore_index` do not count, whatever was predicted. A prediction of
    `reject` on a valid pixel is a miss of the true class and a false positive of none; to score the
    accepted pixels alone, make the rejected ones void in the target first.

    Raises:
        ValueError: shapes differ, or a value is outside 0..num_classes-1 where it counts.
    """
    table = confusion(labels, target, num_classes, ignore_index=ignore_index, reject=reject)
    tp = np.diagonal(table, axis1=1, axis2=2).copy()
    of_class = table.sum(2)
    return Counts(
        tp=tp,
        fp=table[:, :, :num_classes].sum(1) - tp,
        fn=of_class - tp,
        valid=of_class.sum(1),
        rejected=table[:, :, num_classes].sum(1),
    )


def confusion(
    labels: ArrayLike, target: ArrayLike, num_classes: int, *, ignore_index: int | None = 255, reject: int | None = 255
) -> Ints:
    """Pixels by true and predicted class of each image, (N, C, C + 1); the last column is rejected.

    Arguments and errors as `count`.
    """
    predicted, true = _as_numpy(labels), _as_numpy(target)
    if predicted.shape != true.shape or true.ndim != 3:
        raise ValueError(
            f"labels are {predicted.shape} and target is {true.shape}, wanted equal (N, H, W); "
            "add a first axis for one image"
        )
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, wanted at least 1")
    if num_classes > 255 and 255 in (ignore_index, reject):
        raise ValueError(
            f"with {num_classes} classes 255 is one of them; give another ignore_index and reject, or None"
        )
    tables = np.zeros((len(true), num_classes, num_classes + 1), np.int64)
    for table, image_predicted, image_true in zip(tables, predicted, true, strict=True):
        _image(table, image_predicted, image_true, ignore_index, reject)
    return tables


def _as_numpy(values: ArrayLike) -> NDArray[Any]:
    array = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"class ids are {array.dtype}, wanted integers; take argmax of scores first")
    return array


def _image(
    table: Ints, predicted: NDArray[Any], true: NDArray[Any], ignore_index: int | None, reject: int | None
) -> None:
    """Fill the (C, C + 1) of one image."""
    num_classes = len(table)
    specials = (true, ignore_index), (predicted, reject)
    if num_classes <= 256 and all(_fits_bytes(ids, special) for ids, special in specials):
        strangers = _of_bytes(table, predicted, true, ignore_index, reject)
    else:
        rows, columns = (_folded(ids, num_classes, special) for ids, special in specials)
        flat = np.bincount(rows * (num_classes + 2) + columns, minlength=(num_classes + 2) ** 2)
        full = flat.reshape(num_classes + 2, num_classes + 2)
        table += full[:-2, :-1]
        strangers = bool(full[-1].any()), bool(full[:-2, -1].any())
    for name, (ids, special), wrong in zip(("target", "labels"), specials, strangers, strict=True):
        if wrong:
            found = np.unique(ids if name == "target" or ignore_index is None else ids[true != ignore_index])
            found = found[_folded(found, num_classes, special) > num_classes]
            raise ValueError(
                f"{name} hold {', '.join(map(str, found[:5].tolist()))}, wanted 0..{num_classes - 1}, "
                f"ignore_index={ignore_index} or reject={reject}"
            )


def _fits_bytes(ids: NDArray[Any], special: int | None) -> bool:
    if special is not None and not 0 <= special < 256:
        return False
    return ids.dtype == np.uint8 or not ids.size or bool(ids.min() >= 0 and ids.max() < 256)


def _of_bytes(
    table: Ints, predicted: NDArray[Any], true: NDArray[Any], ignore_index: int | None, reject: int | None
) -> tuple[bool, bool]:
    """Fill (C, C + 1) from maps of bytes; whether target and labels hold a value that they must not."""
    c, strange_target, strange_labels = len(table), 0.0, 0.0
    flat = [np.ascontiguousarray(ids, np.uint8).reshape(1, -1) for ids in (true, predicted)]
    for first in range(0, true.size, _TILE):
        tiles = [part[:, first : first + _TILE] for part in flat]
        raw = cv2.calcHist(tiles, [0, 1], None, [256, 256], [0, 256, 0, 256])  # by the bytes as they are
        if ignore_index is not None:
            raw[ignore_index] = 0
        if reject is not None:
            table[:, c] += raw[:c, reject].astype(np.int64)
            raw[:, reject] = 0
        strange_target += float(raw[c:].sum())
        strange_labels += float(raw[:c, c:].sum())
        table[:, :c] += raw[:c, :c].astype(np.int64)
    return strange_target > 0, strange_labels > 0


def _folded(ids: NDArray[Any], num_classes: int, special: int | None) -> Ints:
    """Of every id: a class stays, the special value becomes C, all others C + 1."""
    known = (ids >= 0) & (ids < num_classes)
    folded: Ints = np.where(known, ids, num_classes + 1).astype(np.int64).ravel()
    if special is not None:
        folded[ids.ravel() == special] = num_classes
    return folded
