"""Batches for training: memory-mapped arrays, augmentation by counter, the same for any worker count."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from segpipe.core.seeding import generator
from segpipe.data.augment import VOID, Augmentation
from segpipe.data.prepared import Stack

_ORDER, _SAMPLE, _SCALE = 1, 2, 5  # streams of the seed
Bytes = NDArray[np.uint8]
Key = tuple[int, int, float, int]  # epoch, position, factor of the size, how often it came before in the epoch


@dataclass(frozen=True)
class Batch:
    """images: (N, H, W, 3); weak: the same, with its geometry changed alone where extents are given.

    labels: (N, A, H, W). indices: positions in the training set.
    """

    images: Bytes
    weak: Bytes
    labels: Bytes
    indices: list[int]


class TrainSet(Dataset[tuple[Bytes, Bytes, Bytes, int]]):
    """Augmented images and label maps; an item's key is (epoch, position, factor, repetition).

    Args:
        images: (N, H, W, 3), or N of any size.
        labels: (N, H, W), or (N, A, H, W) with one map an annotator.
        rows: which images (None: all).
        extents: (N, 2) heights and widths without padding; given, one more map is 0 there and void beyond.
    """

    def __init__(
        self,
        images: Stack,
        labels: Stack,
        augmentation: Augmentation,
        seed: int,
        rows: Sequence[int] | None = None,
        *,
        extents: NDArray[np.int64] | None = None,
    ) -> None:
        shapes = {images.shape[1:]} if isinstance(images, np.ndarray) else set(images.shapes)
        augmentation.check([(shape[0], shape[1]) for shape in shapes])
        self.images, self.labels, self.augmentation, self.seed = images, labels, augmentation, seed
        self.rows = range(len(images)) if rows is None else rows
        self.extents = extents

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> tuple[Bytes, Bytes, Bytes, int]:
        epoch, position, factor, repetition = key
        row = self.rows[position]
        image, labels = np.asarray(self.images[row]), self.maps(position)
        if self.extents is not None:
            inside = np.full((1, *labels.shape[1:]), VOID, np.uint8)
            inside[0, : self.extents[row][0], : self.extents[row][1]] = 0
            labels = np.concatenate([labels, inside])
        drawn = (self.seed, _SAMPLE, epoch, row, *([repetition] if repetition else []))
        strong, weak, ids = self.augmentation(image, labels, drawn, factor=factor)
        return strong, strong if self.extents is None else weak, ids, position

    def maps(self, position: int) -> Bytes:
        """The label maps (A, H, W) of an image as they are."""
        labels = np.asarray(self.labels[self.rows[position]])
        return labels[None] if labels.ndim == 2 else labels

    def present(self, num_classes: int) -> NDArray[np.bool_]:
        """(N, C): whether an image's first label map holds a class."""
        counted = [np.bincount(self.maps(i)[0].ravel(), minlength=256)[:num_classes] for i in range(len(self))]
        return np.stack(counted) > 0


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """What the order of an epoch's images is drawn from."""
    return generator(seed, _ORDER, epoch)


def epoch_loader(
    dataset: TrainSet,
    order: Sequence[int] | NDArray[np.int64],
    batch_size: int,
    epoch: int,
    workers: int,
    *,
    factors: Sequence[float] = (1.0,),
    first: int = 0,
    share: tuple[int, int] = (0, 1),
) -> DataLoader[Any]:
    """The batches of one epoch from number `first` on.

    Args:
        order: positions of the epoch's images.
        factors: sizes that a batch draws from.
        share: (i, n): the i-th of n processes takes every n-th image of each batch.
    """
    batches: list[list[Key]] = []
    seen: Counter[int] = Counter()
    for number, start in enumerate(range(0, len(order), batch_size)):
        drawn = int(generator(dataset.seed, _SCALE, epoch, number).integers(len(factors))) if len(factors) > 1 else 0
        keys: list[Key] = []
        for i in map(int, order[start : start + batch_size]):
            keys.append((epoch, i, float(factors[drawn]), seen[i]))
            seen[i] += 1
        batches.append(keys[share[0] :: share[1]])
    return DataLoader(
        dataset,
        batch_sampler=batches[first:],
        num_workers=workers,
        collate_fn=_stack,
        worker_init_fn=_ignore_interrupts,
        generator=torch.Generator(),  # its own: starting workers must not draw from the global one
    )


def _stack(items: list[tuple[Bytes, Bytes, Bytes, int]]) -> Batch:
    images, weak, labels, indices = zip(*items, strict=True)
    stacked = np.stack(images)
    same = all(a is b for a, b in zip(images, weak, strict=True))
    return Batch(stacked, stacked if same else np.stack(weak), np.stack(labels), list(indices))


def _ignore_interrupts(worker: Any) -> None:
    """Signals reach every process of a terminal or a group; the main one decides what they mean."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
