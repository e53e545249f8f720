"""Shapes in a JSON for each image: labelme, Cityscapes, Supervisely."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpipe.core.errors import DataError
from segpipe.core.registry import register
from segpipe.data import fill
from segpipe.data.card import Card
from segpipe.data.layouts.documents import WRONG, Document, points_of, read_json, short
from segpipe.data.layouts.drawn import Area, Described, drawn_masks, shape_files
from segpipe.data.layouts.found import Found

_LARGEST = 2**26  # bytes of a packed bitmap, and of the picture in it
Size = tuple[int, int] | None
_Draw = Callable[[tuple[int, int]], NDArray[np.bool_]]


@register("labelme", source="JSON of labelme, one beside each image (Russell et al. 2008)")
def labelme(card: Card, source: Path) -> Found:
    """Images with a JSON of labelme each, drawn in the order of its shapes; `masks` is the path of the JSON."""
    return _one_each(card, source, labelme_image)


@register("cityscapes", source="gtFine's polygons in JSON (Cordts et al. 2016); the names of groups lose 'group'")
def cityscapes(card: Card, source: Path) -> Found:
    """Images with a JSON of Cityscapes each, drawn in the order of its objects; those that are deleted are left out."""
    return _one_each(card, source, cityscapes_image)


@register("supervisely", source="JSON of Supervisely: polygons with holes, rectangles and bitmaps")
def supervisely(card: Card, source: Path) -> Found:
    """Images with a JSON of Supervisely each, drawn in the order of its objects."""
    return _one_each(card, source, supervisely_image)


def _one_each(card: Card, source: Path, read: Callable[[Path, Document], Described]) -> Found:
    """Images with a JSON each; `masks` is its path."""
    shapes = shape_files(card, source, "*.json")
    for path in shapes.of_image.values():
        if not path.is_file():
            raise DataError(f"{path} is missing, the shapes of an image; label it, or move the image away")

    def areas(at: str) -> tuple[list[Area], Size]:
        path = shapes.of_image[at]
        found = read(path, read_json(path, card))
        return found.areas, found.size

    return drawn_masks(shapes.samples, card, source, shapes.root, areas, shapes.left_out)


def labelme_image(path: Path, document: Document) -> Described:
    """The shapes of a JSON of labelme, in their order."""
    try:
        areas = [Area(str(shape["label"]), partial(_of_labelme, shape, path)) for shape in document["shapes"]]
        height, width = document.get("imageHeight"), document.get("imageWidth")
        return Described(path.stem, (int(height), int(width)) if height and width else None, areas)
    except DataError:
        raise
    except WRONG as error:
        raise DataError(f"{path} is no JSON of labelme ({short(error)}); save it again with labelme") from None


def _of_labelme(shape: Mapping[str, Any], path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A shape that is drawn when it is asked for, so that one that cannot be is told with its image."""
    try:
        kind = shape.get("shape_type") or "polygon"
        points = points_of(shape["points"])
    except WRONG as error:
        raise DataError(f"{path} is no JSON of labelme ({short(error)}); save it again with labelme") from None
    if kind == "polygon" and len(points) >= 3:
        return fill.polygon([points], size)
    if kind == "rectangle" and len(points) == 2:
        return _rectangle(points, size)
    if kind == "circle" and len(points) == 2:
        return fill.circle(points[0], points[1], size)
    raise DataError(
        f"{path} holds a shape '{kind}' of {len(points)} points called '{shape['label']}', which has no area; "
        "draw it as a polygon"
    )


def cityscapes_image(path: Path, document: Document) -> Described:
    """The objects of a JSON of Cityscapes, in their order."""
    try:
        areas = [
            Area(str(one["label"]).removesuffix("group") or "group", partial(_polygon, [points_of(one["polygon"])]))
            for one in document["objects"]
            if not one.get("deleted")
        ]
        return Described(path.stem, (int(document["imgHeight"]), int(document["imgWidth"])), areas)
    except WRONG as error:
        raise DataError(f"{path} is no JSON of Cityscapes ({short(error)}); get it again") from None


def supervisely_image(path: Path, document: Document) -> Described:
    """The objects of a JSON of Supervisely, in their order."""
    try:
        size = int(document["size"]["height"]), int(document["size"]["width"])
        areas = [Area(str(one["classTitle"]), _of_supervisely(one)) for one in document["objects"]]
        return Described(path.stem, size, areas)
    except (*WRONG, zlib.error, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no JSON of Supervisely ({short(error)}); export it again") from None


def _of_supervisely(one: Mapping[str, Any]) -> _Draw:
    kind = one.get("geometryType") or ("bitmap" if one.get("bitmap") else "polygon")
    if kind == "bitmap":
        left, top = one["bitmap"]["origin"]
        return partial(_bitmap, _unpacked(one["bitmap"]["data"]), int(top), int(left))
    rings = [points_of(one["points"]["exterior"]), *map(points_of, one["points"].get("interior", []))]
    if kind == "polygon" and len(rings[0]) >= 3:
        return partial(_polygon, rings)
    if kind == "rectangle" and len(rings[0]) == 2:
        return partial(_rectangle, rings[0])
    raise ValueError(f"an object is a {kind} of {len(rings[0])} points, which has no area")


def _unpacked(data: str) -> NDArray[np.bool_]:
    """The mask in a packed PNG: its last channel, where that is not 0."""
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(base64.b64decode(data, validate=True), _LARGEST)
    if unpacker.unconsumed_tail:
        raise ValueError(f"a bitmap unpacks to more than {_LARGEST} bytes")
    image = Image.open(io.BytesIO(content), formats=["PNG"])
    if image.width * image.height > _LARGEST:
        raise ValueError(f"a bitmap is {image.width} x {image.height}")
    pixels = np.asarray(image)
    return np.asarray((pixels if pixels.ndim == 2 else pixels[..., -1]) != 0)


def _bitmap(mask: NDArray[np.bool_], top: int, left: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The part of a mask that lies in the image."""
    found = np.zeros(size, bool)
    inner = mask[max(0, -top) :, max(0, -left) :]
    part = found[max(0, top) : max(0, top) + len(inner), max(0, left) : max(0, left) + inner.shape[1]]
    part[:] = inner[: part.shape[0], : part.shape[1]]
    return found


def _polygon(rings: list[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    return fill.polygon(rings, size)


def _rectangle(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    (x, y), (x_end, y_end) = points
    return fill.polygon([[(x, y), (x_end, y), (x_end, y_end), (x, y_end)]], size)
