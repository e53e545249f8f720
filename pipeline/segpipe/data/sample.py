"""A sample: one image with its masks."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """One image with the mask of each annotator; paths are relative to the dataset's folder."""

    id: str
    split: str
    group: str
    image: str
    labels: tuple[str, ...]
