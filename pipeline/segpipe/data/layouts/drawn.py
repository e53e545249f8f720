"""Layouts whose masks are drawn: what all of them share, and one file for each class."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ConfigError, DataError
from segpipe.core.files import write_bytes
from segpipe.core.registry import register
from segpipe.data.card import Card
from segpipe.data.files import png_bytes, read_grey, read_image
from segpipe.data.layouts.found import IMAGES, Found, finished
from segpipe.data.layouts.names import IGNORED, NOTHING, id_of
from segpipe.data.layouts.templates import existing, fields, reroot, root_of, splits_of, walked
from segpipe.data.layouts.trees import matched
from segpipe.data.masks import foreground
from segpipe.data.sample import Sample


@dataclass(frozen=True)
class Area:
    """Pixels of one class: what it is called, and how they are drawn into an image of a shape."""

    name: str
    draw: Callable[[tuple[int, int]], NDArray[np.bool_]]


@dataclass(frozen=True)
class Described:
    """An image as a document describes it: the path of its file, its height and width, what is drawn, in order, and why
    the image is left out, if it is.
    """

    name: str
    size: tuple[int, int] | None
    areas: list[Area]
    left_out: str = ""


def named_images(
    card: Card, source: Path, annotations: str, read: Callable[[Path], Iterable[Described]]
) -> Found:  # fmt: skip
    """The images that a document, or one for each {split}, describes; `image` says where the file {name} lies."""
    root = root_of(source, Path(annotations).parts[0], card)
    by_split = splits_of(card) if "{split}" in annotations else {"train": ""}
    samples, known, without = [], dict[str, Described](), dict[str, str]()
    for split, called in by_split.items():
        path = root / annotations.format(split=called)
        for one in read(path):
            at = existing(root, card.image.format(split=called, name=one.name))
            at = at if os.path.isfile(root / at) else reroot(one.name, root)
            if one.left_out:
                without[at] = one.left_out
                continue
            ident = Path(one.name.replace("\\", "/").rpartition(":")[2].lstrip("/")).with_suffix("").as_posix()
            ident = ident.replace("/", "_")
            samples.append(Sample(ident, split, "", at, (f"masks/{split}/{ident}.png",)))
            known[at] = one
    if not samples:
        raise DataError(f"{root / annotations} names no image; give the document that lists them")
    left_out = {**_unnamed({Path(at).parent for at in known}, {*known, *without}, root), **without}
    return drawn_masks(samples, card, source, root, lambda at: (known[at].areas, known[at].size), left_out)


@dataclass(frozen=True)
class ShapeFiles:
    """Images with a file of shapes each: samples, that file by image, and what is left out; all below `root`."""

    root: Path
    samples: list[Sample]
    of_image: dict[str, Path]
    left_out: dict[str, str]


def shape_files(card: Card, source: Path, ending: str) -> ShapeFiles:
    """Images that fit the card's `image`, with the file of shapes that its `masks` names, which may be missing.

    Where the card says `unlabelled`, images without a file are left out. `ending` is that of such files, as a glob.
    """
    root = root_of(source, Path(card.image).parts[0], card)
    left_out: dict[str, str] = {}
    found = list(matched(card, root, left_out))
    if card.unlabelled:
        left_out |= {s.image: "it has no shapes" for s in found if not (root / s.labels[0]).is_file()}
        found = [sample for sample in found if sample.image not in left_out]
    if not found:
        raise DataError(f"{source} holds no {card.image}; {card.instructions or 'complete the dataset'}")
    of_image = {sample.image: root / sample.labels[0] for sample in found}
    used = set(of_image.values())
    for folder in sorted({path.parent for path in used if path.parent.is_dir()}):
        for path in sorted(folder.glob(ending)):
            if path not in used:
                left_out[path.relative_to(root).as_posix()] = "shapes without an image"
    samples = [replace(s, labels=(f"masks/{s.split}/{s.id}.png",)) for s in found]
    return ShapeFiles(root, samples, of_image, left_out)


@register("per_class", source="a binary mask for each class, in a folder or with an ending of its own")
def per_class(card: Card, source: Path) -> Found:
    """Images with one mask a class: `masks` has the field {class}, which is a class's name.

    A class without a file is not in the image; where masks overlap, the later class of the card wins, and void above
    all; what none covers is the first class.
    """
    root = root_of(source, Path(card.image).parts[0], card)
    if "{class}" not in "".join(card.masks):
        raise ConfigError(f"card {card.name}: masks need the field {{class}} in layout per_class")
    left_out: dict[str, str] = {}
    within = replace(card, masks=[mask.replace("{class}", "{{class}}") for mask in card.masks])
    found = list(matched(within, root, left_out))
    if not found:
        raise DataError(f"{source} holds no {card.image}; {card.instructions or 'complete the dataset'}")
    names = [*card.classes, *(name for name in IGNORED if name not in card.classes)]  # void above all
    files = {
        s.image: [(name, root / mask.replace("{class}", name)) for mask in s.labels for name in names] for s in found
    }
    if card.unlabelled:
        alone = {at for at, of_classes in files.items() if not any(path.is_file() for _, path in of_classes)}
        left_out |= dict.fromkeys(sorted(alone), "it has no mask")
        found = [sample for sample in found if sample.image not in alone]
        files = {at: of_classes for at, of_classes in files.items() if at not in alone}
    for image, of_classes in files.items():
        if not any(path.is_file() for _, path in of_classes):
            example = of_classes[card.num_classes - 1][1]
            raise DataError(f"{root / image} has no mask, such as {example}; add one or move the image away")

    left_out |= _of_no_class(card, root, {path for of_classes in files.values() for _, path in of_classes})

    def areas(at: str) -> tuple[list[Area], None]:
        return [Area(name, partial(_binary, path)) for name, path in files[at] if path.is_file()], None

    samples = [replace(s, labels=(f"masks/{s.split}/{s.id}.png",)) for s in found]
    return drawn_masks(samples, card, source, root, areas, left_out)


def drawn_masks(
    samples: list[Sample],
    card: Card,
    source: Path,
    root: Path,
    areas_of: Callable[[str], tuple[list[Area], tuple[int, int] | None]],
    left_out: dict[str, str] | None = None,
) -> Found:
    """Samples whose images are copied and whose masks are drawn, as class ids and 255 for void."""

    def write(sample: Sample, folder: Path) -> None:
        image = root / sample.image
        shape = read_image(image, card.reading).shape[:2]
        areas, said = areas_of(sample.image)
        if said is not None and said != shape:
            raise DataError(
                f"{image} is {shape[0]} x {shape[1]}, but its annotation is for {said[0]} x {said[1]}; "
                "get the images that were annotated"
            )
        mask = np.zeros(shape, np.uint8)
        for area in areas:
            value = id_of(area.name, card.classes)
            if value is None:
                raise DataError(
                    f"{image} is annotated with '{area.name}', which is no class of dataset '{card.name}' "
                    f"({', '.join(card.classes[:6])}, ...); add it to the card's classes"
                )
            mask[area.draw(shape)] = value
        target = folder / sample.image
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, target)
        write_bytes(folder / sample.labels[0], png_bytes(mask))

    missing = [sample for sample in samples if not os.path.isfile(root / sample.image)]
    if missing:
        raise DataError(f"{root / missing[0].image} is missing, an image that is annotated; complete the dataset")
    return Found(finished(samples, card, source), write, left_out or {})


def _binary(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a mask of one class is on: from 128 of 255 on, or at 1 where it holds 0 and 1 alone."""
    grey = read_grey(path)
    if grey.shape != shape:
        raise DataError(f"{path} is {grey.shape[0]} x {grey.shape[1]}, its image {shape[0]} x {shape[1]}; match them")
    return foreground(grey, path)


def _unnamed(folders: set[Path], used: set[str], root: Path) -> dict[str, str]:
    """Images beside those that are annotated."""
    beside = (
        (folder / path.name).as_posix() for folder in sorted(folders) for path in sorted((root / folder).iterdir())
    )
    return {
        name: "no annotation names it" for name in beside if name not in used and Path(name).suffix.lower() in IMAGES
    }


def _of_no_class(card: Card, root: Path, used: set[Path]) -> dict[str, str]:
    """Masks without an image.

    Raises:
        DataError: masks of a class that the card does not have.
    """
    found = {}
    for text in card.masks:
        for path in walked(root, Path(text).parts):
            at = path.relative_to(root).as_posix()
            known = None if path in used else fields(text, at)
            if known is None:
                continue
            of_class = any(fields(text.replace("{class}", name), at) for name in (*card.classes, *NOTHING, *IGNORED))
            if not of_class and "{class}/" in text:
                name = known["class"]
                raise DataError(f"{path} is a mask of '{name}', which is no class of the card; add it, or move it away")
            found[at] = "a mask without an image" if of_class else "its name holds no class of the card"
    return found
