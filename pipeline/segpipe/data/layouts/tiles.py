"""Layout of GeoTIFF tiles with footprints in GeoJSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.files import write_bytes
from segpipe.core.registry import register
from segpipe.data import fill
from segpipe.data.card import Card
from segpipe.data.files import png_bytes
from segpipe.data.geotiff import pixels_of, read_bands
from segpipe.data.layouts.documents import WRONG, points_of, read_json, short
from segpipe.data.layouts.found import Found, finished
from segpipe.data.layouts.templates import root_of
from segpipe.data.layouts.trees import matched
from segpipe.data.sample import Sample


@register("geojson", source="GeoTIFF tiles with GeoJSON of footprints in the tiles' coordinates (SpaceNet 2)")
def geojson(card: Card, source: Path) -> Found:
    """GeoTIFF images with a GeoJSON each, whose polygons are the second class; 16 bits are brought to 8.

    Each band is stretched from its 2nd to its 98th percentile, pixels without data left out of both.
    """
    root = root_of(source, Path(card.image).parts[0], card)
    left_out: dict[str, str] = {}
    found = list(matched(card, root, left_out))
    if not found:
        raise DataError(f"{source} holds no {card.image}; {card.instructions or 'complete the dataset'}")
    of = {s.id: (root / s.image, root / s.labels[0]) for s in found}

    def write(sample: Sample, folder: Path) -> None:
        image, shapes = of[sample.id]
        bands = read_bands(image)
        document = read_json(shapes, card)
        mask = np.zeros(bands.shape[:2], np.uint8)
        try:
            polygons = [
                [points_of(pixels_of(ring, image)) for ring in rings]
                for feature in document["features"]
                if feature["geometry"]
                for rings in _rings(feature["geometry"])
            ]
            for rings in polygons:
                mask[fill.polygon(rings, bands.shape[:2])] = 1
        except DataError:
            raise
        except WRONG as error:
            raise DataError(f"{shapes} is no GeoJSON of polygons ({short(error)}); replace it") from None
        if polygons and not any(_touches(rings, bands.shape[:2]) for rings in polygons):
            raise DataError(
                f"{shapes} holds {len(polygons)} polygons, none of them on its image {image.name}; bring both to one "
                "coordinate system"
            )
        write_bytes(folder / sample.image, png_bytes(bands))
        write_bytes(folder / sample.labels[0], png_bytes(mask))

    samples = [replace(s, image=f"images/{s.id}.png", labels=(f"masks/{s.id}.png",)) for s in found]
    return Found(finished(samples, card, source), write, left_out)


def _rings(geometry: dict[str, Any]) -> list[Any]:
    """The polygons of a geometry, each as its rings; points and lines have no area."""
    if geometry["type"] == "Polygon":
        return [geometry["coordinates"]]
    if geometry["type"] == "MultiPolygon":
        return list(geometry["coordinates"])
    if geometry["type"] == "GeometryCollection":
        return [rings for part in geometry["geometries"] for rings in _rings(part)]
    return []


def _touches(rings: list[NDArray[np.float64]], shape: tuple[int, int]) -> bool:
    """Whether the box of a polygon meets the image."""
    low, high = rings[0].min(0), rings[0].max(0)
    return bool(low[0] < shape[1] and low[1] < shape[0] and high[0] > 0 and high[1] > 0)
