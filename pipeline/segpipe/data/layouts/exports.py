"""Documents of annotation tools that name many images: VGG's VIA, CVAT for images, Label Studio."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.registry import register
from segpipe.data import fill
from segpipe.data.card import Card
from segpipe.data.layouts.documents import WRONG, Document, points_of, read_json, short
from segpipe.data.layouts.drawn import Area, Described, named_images
from segpipe.data.layouts.found import Found
from segpipe.data.layouts.templates import text_of

_NO_AREA = ("keypointlabels", "choices", "textarea", "taxonomy", "rating", "number", "relation")
_HASH = re.compile(r"\A[0-9a-f]{8}-")  # that Label Studio puts before the name of a file that was uploaded


@register("via", source="JSON of the VGG Image Annotator, its project or its export (Dutta and Zisserman 2019)")
def via(card: Card, source: Path, *, annotations: str = "annotations.json") -> Found:
    """Images that a JSON of VIA names, with its polygons, boxes, circles and ellipses, in their order."""
    return named_images(card, source, annotations, lambda path: via_images(path, read_json(path, card)))


@register("cvat", source="XML of CVAT for images 1.1: polygons, boxes, ellipses and masks")
def cvat(card: Card, source: Path, *, annotations: str = "annotations.xml") -> Found:
    """Images that an XML of CVAT names, with its shapes by their z order."""
    return named_images(card, source, annotations, lambda path: cvat_images(path, read_xml(path, text_of(path, card))))


@register("label_studio", source="JSON of Label Studio: polygons, rectangles and ellipses, in per cent of the image")
def label_studio(card: Card, source: Path, *, annotations: str = "annotations.json") -> Found:
    """Images of the tasks in a JSON of Label Studio, with the shapes of each one's first annotation, in their order."""
    return named_images(card, source, annotations, lambda path: label_studio_images(path, read_json(path, card)))


def via_images(path: Path, document: Document) -> Iterator[Described]:
    """The images in a document of VIA."""
    try:
        for entry in document.get("_via_img_metadata", document).values():
            regions = entry["regions"]
            regions = list(regions.values()) if isinstance(regions, dict) else regions
            yield Described(str(entry["filename"]), None, [_via_area(region) for region in regions])
    except WRONG as error:
        raise DataError(f"{path} is no JSON of VIA ({short(error)}); export the annotations again") from None


def _via_area(region: Mapping[str, Any]) -> Area:
    """A region by the value of its attribute, or by the one that is ticked."""
    values = list(region["region_attributes"].values())
    if len(values) != 1:
        raise ValueError(f"a region has {len(values)} attributes, wanted one, its class")
    if isinstance(values[0], dict):
        values = [name for name, ticked in values[0].items() if ticked]
    if len(values) != 1 or not str(values[0]).strip():
        raise ValueError(f"a region is of the classes {values}, wanted one name")
    shape = region["shape_attributes"]
    kind = shape["name"]
    if kind == "polygon":
        points = np.stack([shape["all_points_x"], shape["all_points_y"]], 1)
    elif kind == "rect":
        points = _box(shape["x"], shape["y"], shape["x"] + shape["width"], shape["y"] + shape["height"])
    elif kind in ("circle", "ellipse"):
        radii = (shape["r"], shape["r"]) if kind == "circle" else (shape["rx"], shape["ry"])
        points = _ellipse((shape["cx"], shape["cy"]), radii, float(shape.get("theta", 0)))
    else:
        raise ValueError(f"a region is a {kind}, which has no area")
    return Area(str(values[0]).strip(), _polygon(points))


def read_xml(path: Path, text: str) -> ElementTree.Element:
    """The root of a document; one that declares entities, which could be of any size, is refused."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path} declares a type or entities, which annotations do not need; export it again")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} is not valid XML ({error}); replace it") from None


def cvat_images(path: Path, root: ElementTree.Element) -> Iterator[Described]:
    """The images in a document of CVAT."""
    if root.tag != "annotations" or root.find("track") is not None:
        raise DataError(f"{path} is no XML of CVAT for images; export it as 'CVAT for images 1.1'")
    try:
        for image in root.iter("image"):
            shapes = sorted(image, key=lambda shape: int(shape.get("z_order", 0)))
            areas = [_cvat_area(shape) for shape in shapes if shape.tag not in ("tag", "points")]
            size = int(image.attrib["height"]), int(image.attrib["width"])
            yield Described(image.attrib["name"], size, areas)
    except WRONG as error:
        raise DataError(f"{path} is no XML of CVAT for images ({short(error)}); export it again") from None


def _cvat_area(shape: ElementTree.Element) -> Area:
    def numbers(*keys: str) -> list[float]:
        return [float(shape.attrib[key]) for key in keys]

    turned = np.deg2rad(float(shape.get("rotation", 0)))  # clockwise, as y points down
    if shape.tag == "polygon":
        points = points_of([[float(n) for n in pair.split(",")] for pair in shape.attrib["points"].split(";")])
    elif shape.tag == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        points = _turned(_box(left, top, right, bottom), ((left + right) / 2, (top + bottom) / 2), turned)
    elif shape.tag == "ellipse":
        x, y, across, down = numbers("cx", "cy", "rx", "ry")
        points = _ellipse((x, y), (across, down), turned)
    elif shape.tag == "mask":
        counts = [int(n) for n in shape.attrib["rle"].split(",")]
        top, left, height, width = map(int, numbers("top", "left", "height", "width"))
        corner, size = (top, left), (height, width)
        return Area(shape.attrib["label"], partial(_of_runs, counts, corner, size))
    else:
        raise ValueError(f"a shape is a {shape.tag}")
    return Area(shape.attrib["label"], _polygon(points))


def _of_runs(
    counts: list[int], corner: tuple[int, int], size: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Runs row by row inside a box, outside first."""
    found = np.zeros(shape, bool)
    top, left = corner
    if top < 0 or left < 0 or top + size[0] > shape[0] or left + size[1] > shape[1]:
        raise DataError(
            f"a mask of {size[0]} x {size[1]} at {corner} lies outside its image of {shape[0]} x {shape[1]}"
        )
    try:
        found[top : top + size[0], left : left + size[1]] = fill.runs(counts, size[::-1]).T
    except ValueError as error:
        raise DataError(f"a mask cannot be drawn: {error}; export it again") from None
    return found


def label_studio_images(path: Path, document: Document) -> Iterator[Described]:
    """The images in a document of Label Studio; those without an annotation are left out."""
    try:
        for task in document:
            name = _file_of(task["data"])
            done = [one for one in task["annotations"] if not one.get("was_cancelled")]
            shaped = [one for one in done[0]["result"] if one["type"] not in _NO_AREA] if done else []
            size = next(((one["original_height"], one["original_width"]) for one in shaped), None)
            areas = [_studio_area(one) for one in shaped]
            why = "" if done else "it has no annotation"
            yield Described(_HASH.sub("", name.rpartition("/")[2]), size, areas, why)
    except WRONG as error:
        raise DataError(f"{path} is no JSON of Label Studio ({short(error)}); export it again as JSON") from None


def _file_of(data: Mapping[str, Any]) -> str:
    """The file that a task shows: an upload, a path of the server, or an address."""
    for value in map(str, data.values()):
        path = unquote(value.rpartition("?d=")[2]).partition("?")[0]
        if re.search(r"\.[A-Za-z]{3,4}\Z", path):
            return path
    raise ValueError(f"a task names no file: {sorted(data)}")


def _studio_area(result: Mapping[str, Any]) -> Area:
    value, kind = result["value"], result["type"]
    scale = np.array([result["original_width"], result["original_height"]]) / 100
    if kind == "polygonlabels":
        points = points_of(value["points"])
    elif kind == "rectanglelabels" and not value.get("rotation"):
        points = _box(value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"])
    elif kind == "ellipselabels" and not value.get("rotation"):
        points = _ellipse((value["x"], value["y"]), (value["radiusX"], value["radiusY"]), 0.0)
    else:
        raise ValueError(f"a shape of type {kind}{' is turned' if value.get('rotation') else ''}; export masks as PNG")
    (name,) = value[kind]  # more than one is refused
    return Area(str(name), _polygon(points * scale))


def _box(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return points_of([(left, top), (right, top), (right, bottom), (left, bottom)])


def _ellipse(centre: tuple[float, float], radii: tuple[float, float], turned: float) -> NDArray[np.float64]:
    """Points of an ellipse, turned clockwise by radians."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    points = np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], 1)
    return _turned(points_of(points), centre, turned)


def _turned(points: NDArray[np.float64], centre: tuple[float, float], angle: float) -> NDArray[np.float64]:
    """Points turned clockwise about a centre; angle in radians."""
    x, y = (points - centre).T
    cos, sin = np.cos(angle), np.sin(angle)
    return points_of(np.stack([centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos], 1))


def _polygon(points: NDArray[Any]) -> Callable[[tuple[int, int]], NDArray[np.bool_]]:
    ring = points_of(points)
    if len(ring) < 3:
        raise ValueError(f"a polygon has {len(ring)} points, wanted three or more")
    return lambda size: fill.polygon([ring], size)
