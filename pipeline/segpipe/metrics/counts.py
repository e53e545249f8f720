"""The table everything follows from: tp, fp and fn per image and class, as integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


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

    def __getitem__(self, rows: Any) -> Counts:
        """The counts of some images (a slice, a list of indices or a mask)."""
        return Counts(*(part[rows] for part in (self.tp, self.fp, self.fn, self.valid, self.rejected)))

    @staticmethod
    def concat(parts: Sequence[Counts]) -> Counts:
        """The images of all parts, one after the other; they must have the same classes."""
        widths = sorted({part.num_classes for part in parts})
        if len(widths) != 1:
            raise ValueError(f"counts have {widths} classes, wanted one class list; count with the same num_classes")
        fields = zip(*((p.tp, p.fp, p.fn, p.valid, p.rejected) for p in parts), strict=True)
        return Counts(*(np.concatenate(field) for field in fields))


def count(
    labels: Any, target: Any, num_classes: int, *, ignore_index: int | None = 255, reject: int | None = 255
) -> Counts:
    """Count predicted `labels` against `target`, both integer (N, H, W), numpy or torch.

    Pixels whose target is `ignore_index` do not count, whatever was predicted. A prediction of
    `reject` on a valid pixel is a miss of the true class and a false positive of none.

    Raises:
        ValueError: shapes differ, or a value is outside 0..num_classes-1 where it counts.
    """
    predicted, true = _as_numpy(labels), _as_numpy(target)
    if predicted.shape != true.shape or true.ndim != 3:
        raise ValueError(
            f"labels are {predicted.shape} and target is {true.shape}, wanted equal (N, H, W); "
            "add a first axis for one image"
        )
    rows = [_confusion(p, t, num_classes, ignore_index, reject) for p, t in zip(predicted, true, strict=True)]
    table = np.stack(rows) if rows else np.zeros((0, num_classes, num_classes + 1), np.int64)  # (N, true, predicted)
    tp = np.diagonal(table, axis1=1, axis2=2).copy()
    of_class = table.sum(2)
    return Counts(
        tp=tp,
        fp=table[:, :, :num_classes].sum(1) - tp,
        fn=of_class - tp,
        valid=of_class.sum(1),
        rejected=table[:, :, num_classes].sum(1),
    )


def _as_numpy(values: Any) -> NDArray[Any]:
    array = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"class ids are {array.dtype}, wanted integers; take argmax of scores first")
    return array


def _confusion(
    predicted: NDArray[Any], true: NDArray[Any], num_classes: int, ignore_index: int | None, reject: int | None
) -> Ints:
    """(C, C + 1) pixels by true and predicted class of one image; the last column is rejected."""
    keep = np.ones(true.shape, bool) if ignore_index is None else true != ignore_index
    true_ids, predicted_ids = true[keep].astype(np.int64), predicted[keep].astype(np.int64)
    if reject is not None:
        predicted_ids[predicted_ids == reject] = num_classes
    for name, ids, top in (("target", true_ids, num_classes), ("labels", predicted_ids, num_classes + 1)):
        if ids.size and (ids.min() < 0 or ids.max() >= top):
            wrong = np.unique(ids[(ids < 0) | (ids >= top)])[:5].tolist()
            raise ValueError(
                f"{name} hold {', '.join(map(str, wrong))}, wanted 0..{num_classes - 1}, "
                f"ignore_index={ignore_index} or reject={reject}"
            )
    flat = np.bincount(true_ids * (num_classes + 1) + predicted_ids, minlength=num_classes * (num_classes + 1))
    return flat.reshape(num_classes, num_classes + 1).astype(np.int64)
