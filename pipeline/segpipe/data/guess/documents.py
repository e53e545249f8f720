"""Guesses for documents of annotation tools: one for each image, or one that names many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from segpipe.core.errors import DataError
from segpipe.data.guess.annotations import classes_by_name, read_document, where
from segpipe.data.guess.card import Guess
from segpipe.data.layouts import exports, objects
from segpipe.data.layouts.documents import Document
from segpipe.data.layouts.drawn import Described

DOCUMENTS = (".json", ".xml")
_OF_IMAGE: dict[str, Callable[[Path, Document], Described]] = {
    "labelme": objects.labelme_image,
    "cityscapes": objects.cityscapes_image,
    "supervisely": objects.supervisely_image,
}
_OF_MANY: dict[str, Callable[[Path, Document], Iterable[Described]]] = {
    "via": exports.via_images,
    "label_studio": exports.label_studio_images,
    "cvat": exports.cvat_images,
}
_CALLED = {
    "labelme": "labelme", "cityscapes": "Cityscapes", "supervisely": "Supervisely", "via": "VIA",
    "label_studio": "Label Studio", "cvat": "CVAT",
}  # fmt: skip


def kind_of(path: Path) -> str:
    """What a document holds: coco, or a key of the tables above.

    Raises:
        DataError: none of these, or no JSON or XML.
    """
    document = _read(path)
    if path.suffix.lower() == ".xml":
        if document.tag == "annotations" and document.find("image") is not None:
            return "cvat"
        boxes = "; boxes are no masks: give the folder of masks" if document.find(".//bndbox") is not None else ""
        raise DataError(f"{path} is an XML of '{document.tag}', wanted 'annotations' as CVAT exports them{boxes}")
    keys = document.keys() if isinstance(document, dict) else set()
    if "shapes" in keys:
        return "labelme"
    if {"images", "annotations"} <= keys:
        return "coco"
    if {"imgHeight", "objects"} <= keys:
        return "cityscapes"
    if {"size", "objects"} <= keys:
        return "supervisely"
    if isinstance(document, dict) and (
        "_via_img_metadata" in keys or all("regions" in one for one in _entries(document))
    ):
        return "via"
    tasks = document[:5] if isinstance(document, list) else []
    if tasks and all(isinstance(one, dict) and {"data", "annotations"} <= one.keys() for one in tasks):
        return "label_studio"
    raise DataError(
        f"{path} holds no shapes that are known (COCO, labelme, Cityscapes, Supervisely, VIA, Label Studio, CVAT); "
        "give another file"
    )


def _entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Values that are objects; one without keys where there are none."""
    return [one for one in document.values() if isinstance(one, dict)] or [{}]


def _read(path: Path) -> Document:
    if path.suffix.lower() != ".xml":
        return read_document(path)
    try:
        return exports.read_xml(path, path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}; save it as UTF-8") from None


def is_of_one_image(kind: str) -> bool:
    """Whether a document describes a single image."""
    return kind in _OF_IMAGE


def is_alone(shapes: list[Path], images: list[Path], named: set[str]) -> bool:
    """Whether documents beside images are their labels: one for each, or one that names them."""
    if all(image.stem in named for image in images):
        return True
    try:
        return kind_of(shapes[0]) not in _OF_IMAGE
    except DataError:
        return False


def of_each_image(kind: str, paths: Sequence[Path], names: Sequence[str] | None, found: Guess) -> None:
    """Keys for a document for each image, once they are paired."""
    described = [_OF_IMAGE[kind](path, _read(path)) for path in paths]
    found.keys["layout"] = kind
    found.say(f"{len(paths)} files of {_CALLED[kind]}", "they hold shapes", "edit layout in the card")
    classes_by_name(_classes(described), names, "the labels of the shapes", found)


def of_many_images(kind: str, path: Path, images: Path, names: Sequence[str] | None, found: Guess) -> Path:
    """Keys for a document that names the images; returns the folder that holds all."""
    described = list(_OF_MANY[kind](path, _read(path)))
    if not described:
        raise DataError(f"{path} names no image; export the annotations again")
    root = Path(os.path.commonpath([images, path.parent]))
    found.keys |= {"layout": kind, "image": where(images, root, [described[0].name], [""])}
    found.tables["options"] = {"annotations": path.relative_to(root).as_posix()}
    found.say(f"{len(described)} images in {path.name}", f"it is a document of {_CALLED[kind]}", "the card")
    empty = sum(not one.areas and not one.left_out for one in described)
    if empty:
        found.say(f"{empty} images without a shape show nothing", "the document lists them so", "move such images away")
    classes_by_name(_classes(described), names, "the labels of the shapes", found)
    return root


def _classes(described: Iterable[Described]) -> list[str]:
    """The names of all areas."""
    return sorted({area.name for one in described for area in one.areas})
