"""Layouts whose masks are drawn: polygons of JSON files, and one file for each class."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ConfigError, DataError
from segpipe.core.files import write_bytes
from segpipe.core.registry import register
from segpipe.core.void import VOID
from segpipe.data import fill
from segpipe.data.card import Card
from segpipe.data.catalog import Sample
from segpipe.data.files import png_bytes, read_grey, read_image
from segpipe.data.layouts.found import Found, finished
from segpipe.data.layouts.templates import existing, reroot, root_of, splits_of, text_of
from segpipe.data.layouts.trees import matched

_IGNORED = ("__ignore__", "void", "ignore")  # what annotators call pixels that count nowhere
_NOTHING = ("_background_",)


@dataclass(frozen=True)
class Area:
    """Pixels of one class: what it is called, and how they are drawn into an image of a shape."""

    name: str
    draw: Callable[[tuple[int, int]], NDArray[np.bool_]]


@register("coco", source="JSON of COCO's kind: images, annotations, categories (Lin et al. 2014)")
def coco(card: Card, source: Path, *, annotations: str = "annotations.json") -> Found:
    """The images that a JSON of COCO's kind names, with masks drawn from its polygons and run lengths.

    `annotations` may hold the field {split}; `image` says where the file {name} of an image is, `lists` is unused.
    Where areas overlap, smaller ones lie above. Images without an annotation are all of the first class.
    """
    root = root_of(source, Path(annotations).parts[0], card)
    by_split = splits_of(card) if "{split}" in annotations else {"train": ""}
    samples, areas, sizes = [], dict[str, list[Area]](), dict[str, tuple[int, int]]()
    for split, called in by_split.items():
        path = root / annotations.format(split=called)
        for name, size, found in _coco_images(path, _json(path, card), card):
            at = existing(root, card.image.format(split=called, name=name))
            at = at if os.path.isfile(root / at) else reroot(name, root)
            ident = Path(name).with_suffix("").as_posix().replace("/", "_")
            samples.append(Sample(ident, split, "", at, (f"masks/{split}/{ident}.png",)))
            areas[at], sizes[at] = found, size
    if not samples:
        raise DataError(f"{root / annotations} names no image; give the JSON that lists them")
    return _drawn(samples, card, source, root, lambda at: (areas[at], sizes[at]))


@register("labelme", source="JSON of labelme, one beside each image (Russell et al. 2008)")
def labelme(card: Card, source: Path) -> Found:
    """Images with a JSON of labelme each, drawn in the order of its shapes; `masks` is the path of the JSON."""
    root = root_of(source, Path(card.image).parts[0], card)
    left_out: dict[str, str] = {}
    found = list(matched(card, root, left_out))
    of_image = {sample.image: root / sample.labels[0] for sample in found}
    samples = [replace(s, labels=(f"masks/{s.split}/{s.id}.png",)) for s in found]
    if not samples:
        raise DataError(f"{source} holds no {card.image}; {card.instructions or 'complete the dataset'}")
    for path in of_image.values():
        if not path.is_file():
            raise DataError(f"{path} is missing, the shapes of an image; label it, or move the image away")
    return _drawn(samples, card, source, root, lambda at: _labelme_areas(of_image[at], card), left_out)


@register("geojson", source="GeoTIFF tiles with GeoJSON of footprints in the tiles' coordinates (SpaceNet 2)")
def geojson(card: Card, source: Path) -> Found:
    """GeoTIFF images with a GeoJSON each, whose polygons are the second class; 16 bits are brought to 8.

    Each band is stretched from its 2nd to its 98th percentile, pixels without data left out of both.
    """
    from segpipe.data.geotiff import pixels_of, read_bands, stretched

    root = root_of(source, Path(card.image).parts[0], card)
    left_out: dict[str, str] = {}
    found = list(matched(card, root, left_out))
    if not found:
        raise DataError(f"{source} holds no {card.image}; {card.instructions or 'complete the dataset'}")
    of = {s.id: (root / s.image, root / s.labels[0]) for s in found}

    def write(sample: Sample, folder: Path) -> None:
        image, shapes = of[sample.id]
        bands = read_bands(image)
        document = _json(shapes, card)
        mask = np.zeros(bands.shape[:2], np.uint8)
        try:
            polygons = [
                rings
                for feature in document["features"]
                if feature["geometry"]
                for rings in _rings(feature["geometry"])
            ]
            for rings in polygons:
                mask[fill.polygon([pixels_of(ring, image) for ring in rings], bands.shape[:2])] = 1
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{shapes} is no GeoJSON of polygons ({_short(error)}); replace it") from None
        write_bytes(folder / sample.image, png_bytes(stretched(bands)))
        write_bytes(folder / sample.labels[0], png_bytes(mask))

    samples = [replace(s, image=f"images/{s.id}.png", labels=(f"masks/{s.id}.png",)) for s in found]
    return Found(finished(samples, card, source), write, left_out)


@register("per_class", source="a binary mask for each class, in a folder or with an ending of its own")
def per_class(card: Card, source: Path) -> Found:
    """Images with one mask a class: `masks` has the field {class}, which is a class's name.

    A class without a file is not in the image; where masks overlap, the later class of the card wins; what none
    covers is the first class.
    """
    root = root_of(source, Path(card.image).parts[0], card)
    if "{class}" not in "".join(card.masks):
        raise ConfigError(f"card {card.name}: masks need the field {{class}} in layout per_class")
    left_out: dict[str, str] = {}
    within = replace(card, masks=[mask.replace("{class}", "{{class}}") for mask in card.masks])
    found = list(matched(within, root, left_out))
    if not found:
        raise DataError(f"{source} holds no {card.image}; {card.instructions or 'complete the dataset'}")
    files = {
        s.image: [(k, root / mask.replace("{class}", name)) for mask in s.labels for k, name in enumerate(card.classes)]
        for s in found
    }
    for image, of_classes in files.items():
        if not any(path.is_file() for _, path in of_classes):
            raise DataError(f"{root / image} has no mask, such as {of_classes[-1][1]}; add one or move the image away")

    def areas(at: str) -> tuple[list[Area], None]:
        known = [(card.classes[k], path) for k, path in files[at] if path.is_file()]
        return [Area(name, partial(_binary, path)) for name, path in known], None

    samples = [replace(s, labels=(f"masks/{s.split}/{s.id}.png",)) for s in found]
    return _drawn(samples, card, source, root, areas, left_out)


def _drawn(
    samples: list[Sample],
    card: Card,
    source: Path,
    root: Path,
    areas_of: Callable[[str], tuple[list[Area], tuple[int, int] | None]],
    left_out: dict[str, str] | None = None,
) -> Found:
    """Samples whose images are copied and whose masks are drawn, as class ids and 255 for void."""
    import shutil

    ids = {name: k for k, name in enumerate(card.classes)}
    ids |= dict.fromkeys(_NOTHING, 0) | {name: VOID for name in _IGNORED if name not in ids}

    def write(sample: Sample, folder: Path) -> None:
        image = root / sample.image
        shape = read_image(image).shape[:2]
        areas, said = areas_of(sample.image)
        if said is not None and said != shape:
            raise DataError(
                f"{image} is {shape[0]} x {shape[1]}, but its annotation is for {said[0]} x {said[1]}; "
                "get the images that were annotated"
            )
        mask = np.zeros(shape, np.uint8)
        for area in areas:
            if area.name not in ids:
                raise DataError(
                    f"{image} is annotated with '{area.name}', which is no class of dataset '{card.name}' "
                    f"({', '.join(card.classes[:6])}, ...); add it to the card's classes"
                )
            mask[area.draw(shape)] = ids[area.name]
        target = folder / sample.image
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, target)
        write_bytes(folder / sample.labels[0], png_bytes(mask))

    missing = [sample for sample in samples if not os.path.isfile(root / sample.image)]
    if missing:
        raise DataError(f"{root / missing[0].image} is missing, an image that is annotated; complete the dataset")
    return Found(finished(samples, card, source), write, left_out or {})


def _coco_images(path: Path, document: Any, card: Card) -> Iterator[tuple[str, tuple[int, int], list[Area]]]:
    """The name of each image, its height and width, and its areas, the largest first."""
    try:
        names = {category["id"]: str(category["name"]) for category in document["categories"]}
        by_image: dict[Any, list[dict[str, Any]]] = {}
        for annotation in document["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        for image in document["images"]:
            found = []
            for annotation in by_image.pop(image["id"], []):
                draw = _of_segmentation(annotation["segmentation"], path)
                found.append((-_area(annotation), Area(names[annotation["category_id"]], draw)))
            name, size = image["file_name"], (int(image["height"]), int(image["width"]))
            if not isinstance(name, str) or not Path(name).name:
                raise ValueError(f"file_name is {name!r}")
            yield name, size, [area for _, area in sorted(found, key=lambda pair: pair[0])]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is no JSON of COCO's kind ({_short(error)}); wanted images, annotations and categories that "
            f"fit together: correct it or the card of '{card.name}'"
        ) from None
    if by_image:
        raise DataError(f"{path} annotates image {next(iter(by_image))}, which it does not list; correct it")


def _area(annotation: dict[str, Any]) -> float:
    """As the file says it, else of the box."""
    box = annotation.get("bbox", [0, 0, 0, 0])
    return float(annotation.get("area", box[2] * box[3]))


def _of_segmentation(segmentation: Any, path: Path) -> Callable[[tuple[int, int]], NDArray[np.bool_]]:
    """How polygons, or run lengths as a list or packed, are drawn."""

    def draw(shape: tuple[int, int]) -> NDArray[np.bool_]:
        try:
            if isinstance(segmentation, dict):
                counts = segmentation["counts"]
                return fill.runs(fill.packed_runs(counts) if isinstance(counts, str) else counts, shape)
            found = np.zeros(shape, bool)
            for ring in segmentation:
                found |= fill.polygon([_points(np.asarray(ring, np.float64).reshape(-1, 2))], shape)
            return found
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} holds a segmentation that cannot be drawn ({_short(error)}); correct it") from None

    return draw


def _labelme_areas(path: Path, card: Card) -> tuple[list[Area], tuple[int, int] | None]:
    """The shapes of a JSON of labelme, in their order."""
    document = _json(path, card)
    try:
        areas = [Area(str(shape["label"]), _of_shape(shape, path)) for shape in document["shapes"]]
        height, width = document.get("imageHeight"), document.get("imageWidth")
        return areas, (int(height), int(width)) if height and width else None
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no JSON of labelme ({_short(error)}); save it again with labelme") from None


def _of_shape(shape: dict[str, Any], path: Path) -> Callable[[tuple[int, int]], NDArray[np.bool_]]:
    kind = shape.get("shape_type") or "polygon"
    points = _points(np.asarray(shape["points"], np.float64).reshape(-1, 2))
    if kind == "polygon" and len(points) >= 3:
        return lambda size: fill.polygon([points], size)
    if kind == "rectangle" and len(points) == 2:
        (x, y), (x_end, y_end) = points
        corners = [(x, y), (x_end, y), (x_end, y_end), (x, y_end)]
        return lambda size: fill.polygon([corners], size)
    if kind == "circle" and len(points) == 2:
        return lambda size: fill.circle(points[0], points[1], size)
    raise DataError(
        f"{path} holds a shape '{kind}' of {len(points)} points called '{shape['label']}', which has no area; "
        "draw it as a polygon"
    )


def _points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > 1e6:
        raise ValueError("points that are not finite")
    return points


def _rings(geometry: dict[str, Any]) -> list[Any]:
    """The polygons of a geometry, each as its rings; points and lines have no area."""
    if geometry["type"] == "Polygon":
        return [geometry["coordinates"]]
    if geometry["type"] == "MultiPolygon":
        return list(geometry["coordinates"])
    if geometry["type"] == "GeometryCollection":
        return [rings for part in geometry["geometries"] for rings in _rings(part)]
    return []


def _binary(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a mask of one class is on: from 128 of 255 on, or at 1 where it holds 0 and 1 alone."""
    grey = read_grey(path)
    if grey.shape != shape:
        raise DataError(f"{path} is {grey.shape[0]} x {grey.shape[1]}, its image {shape[0]} x {shape[1]}; match them")
    return np.asarray(grey > 0 if grey.max(initial=0) <= 1 else grey >= 128)


def _json(path: Path, card: Card) -> Any:
    try:
        return json.loads(text_of(path, card), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({_short(error)}); replace it") from None


def _refuse(constant: str) -> float:
    raise ValueError(f"the number {constant}") if math.isnan(float(constant)) else ValueError("an infinite number")


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}" if str(error) else type(error).__name__
