"""The layout of COCO: one JSON for many images, of polygons and run lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.registry import register
from segpipe.data import fill
from segpipe.data.card import Card
from segpipe.data.layouts.documents import WRONG, Document, points_of, read_json, short
from segpipe.data.layouts.drawn import Area, Described, named_images
from segpipe.data.layouts.found import Found


@register("coco", source="JSON of COCO's kind: images, annotations, categories (Lin et al. 2014)")
def coco(card: Card, source: Path, *, annotations: str = "annotations.json") -> Found:
    """The images that a JSON of COCO's kind names, with masks drawn from its polygons and run lengths.

    `annotations` may hold the field {split}; `image` says where the file {name} of an image is, `lists` is unused.
    Where areas overlap, smaller ones lie above. Images without an annotation are all of the first class.
    """
    return named_images(card, source, annotations, lambda path: _coco_images(path, read_json(path, card), card))


def _coco_images(path: Path, document: Document, card: Card) -> Iterator[Described]:
    """The name of each image, its height and width, and its areas, the largest first."""
    try:
        names = {category["id"]: str(category["name"]) for category in document["categories"]}
        by_image: dict[Any, list[dict[str, Any]]] = {}
        for annotation in document["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        for image in document["images"]:
            found = []
            for annotation in by_image.pop(image["id"], []):
                category = annotation["category_id"]
                if category not in names:
                    raise ValueError(f"an annotation of image {image['id']} has the unknown category {category!r}")
                if not annotation["segmentation"]:
                    raise ValueError(
                        f"an annotation of image {image['id']} has no shape; export segmentation, not boxes"
                    )
                draw = _of_segmentation(annotation["segmentation"], path)
                found.append((-_area(annotation), Area(names[category], draw)))
            name, size = image["file_name"], (int(image["height"]), int(image["width"]))
            if not isinstance(name, str) or not Path(name).name:
                raise ValueError(f"file_name is {name!r}")
            yield Described(name, size, [area for _, area in sorted(found, key=lambda pair: pair[0])])
    except WRONG as error:
        raise DataError(
            f"{path} is no JSON of COCO's kind ({short(error)}); wanted images, annotations and categories that "
            f"fit together: correct it or the card of '{card.name}'"
        ) from None
    if by_image:
        raise DataError(f"{path} annotates image {next(iter(by_image))}, which it does not list; correct it")


def _area(annotation: dict[str, Any]) -> float:
    """As the file says it, else of the box."""
    if annotation.get("area") is not None:
        return float(annotation["area"])
    box = annotation.get("bbox") or [0, 0, 0, 0]
    return float(box[2] * box[3])


def _of_segmentation(segmentation: Any, path: Path) -> Callable[[tuple[int, int]], NDArray[np.bool_]]:
    """How polygons, or run lengths as a list or packed, are drawn."""

    def draw(shape: tuple[int, int]) -> NDArray[np.bool_]:
        try:
            if isinstance(segmentation, dict):
                counts = segmentation["counts"]
                if tuple(segmentation.get("size", shape)) != tuple(shape):
                    raise ValueError(f"run lengths of {segmentation['size']} for an image of {list(shape)}")
                return fill.runs(fill.packed_runs(counts) if isinstance(counts, str) else counts, shape)
            found = np.zeros(shape, bool)
            for ring in segmentation:
                found |= fill.polygon([points_of(ring)], shape)
            return found
        except WRONG as error:
            raise DataError(f"{path} holds a segmentation that cannot be drawn ({short(error)}); correct it") from None

    return draw
