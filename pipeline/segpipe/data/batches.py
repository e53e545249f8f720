"""Batches for training: memory-mapped arrays, augmentation by counter, the same for any worker count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from segpipe.core.seeding import generator
from segpipe.data.augment import Augmentation

_ORDER, _SAMPLE = 1, 2  # streams of the seed


def normalization(scheme: str, mean: Sequence[float], std: Sequence[float]) -> tuple[list[float], list[float]]:
    """(shift, scale) of `(image / 255 - shift) / scale` for a scheme: "zscore" or "minmax"."""
    if scheme == "zscore":
        return list(mean), [max(s, 1e-6) for s in std]
    return [0.0] * len(mean), [1.0] * len(mean)


def to_input(images: NDArray[np.uint8], shift: Sequence[float], scale: Sequence[float]) -> Tensor:
    """uint8 (N, H, W, 3) as normalised float32 (N, 3, H, W)."""
    batch = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div_(255)
    return batch.sub_(torch.tensor(shift)[:, None, None]).div_(torch.tensor(scale)[:, None, None])


class TrainSet(Dataset[tuple[NDArray[np.uint8], NDArray[np.uint8], int]]):
    """Augmented (image, labels, index); an item's key is (epoch, index). `rows`: which images (None: all)."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        augmentation: Augmentation,
        seed: int,
        rows: Sequence[int] | None = None,
    ) -> None:
        self.images, self.labels, self.augmentation, self.seed = images, labels, augmentation, seed
        self.rows = range(len(images)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
        epoch, index = key
        row = self.rows[index]
        image, labels = np.asarray(self.images[row]), np.asarray(self.labels[row])
        image, labels = self.augmentation(image, labels, (self.seed, _SAMPLE, epoch, row))
        return image, labels, index


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch: a permutation drawn from (seed, epoch)."""

    def __init__(self, size: int, batch_size: int, seed: int, epoch: int) -> None:
        order = generator(seed, _ORDER, epoch).permutation(size)
        self.batches = [
            [(epoch, int(i)) for i in order[start : start + batch_size]] for start in range(0, size, batch_size)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)


def epoch_loader(dataset: TrainSet, batch_size: int, epoch: int, workers: int) -> DataLoader[Any]:
    """The batches of one epoch as (images (N, H, W, 3), labels (N, H, W), indices) arrays."""
    return DataLoader(
        dataset,
        batch_sampler=EpochSampler(len(dataset), batch_size, dataset.seed, epoch),
        num_workers=workers,
        collate_fn=_stack,
        generator=torch.Generator(),  # its own: starting workers must not draw from the global one
    )


def _stack(items: list[tuple[NDArray[np.uint8], NDArray[np.uint8], int]]) -> tuple[Any, Any, list[int]]:
    images, labels, indices = zip(*items, strict=True)
    return np.stack(images), np.stack(labels), list(indices)
