"""Tiny datasets whose masks are not files of their own: volumes and GeoTIFF tiles with footprints."""

import json
import struct

import nibabel
import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

SIZE = (12, 16)


def nifti(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def volumes(card, root, each):
    """Cases of four slices, the first and last without the last class; of images with channels one slice each."""
    channels = card.options.get("channels", False)
    axis, expected = card.options.get("axis", 2), {}
    for i in range(each):
        random = np.random.default_rng(i)
        fields = {"case": f"{i + 1:02d}" if channels else f"{i:05d}"}
        if channels:
            labels = (np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1])) > 8 + i).astype(np.uint8)
            shape = (*SIZE[::-1], 4) if "tumor" in card.name else SIZE[::-1]
            nifti(root / card.image.format(**fields), random.integers(0, 900, shape).astype(np.int16))
            for mask in card.masks:
                nifti(root / mask.format(**fields), labels.T[..., None])
            expected[card.id.format(**fields)] = (None, labels)
            continue
        stack = np.stack([np.full(SIZE, k, np.uint8) for k in (0, 1, 1, 1)])
        stack[1, 2:5, 3:9] = 2
        stack[2, i : i + 3, 1:4] = 2
        grey = random.integers(-300, 400, stack.shape).astype(np.int16)
        image, mask = (np.moveaxis(v, 0, 2).swapaxes(0, 1) if axis == 2 else v for v in (grey, stack))
        nifti(root / card.image.format(**fields), image)
        nifti(root / card.masks[0].format(**fields), mask)
        expected |= {f"{card.id.format(**fields)}_{k:04d}": (None, stack[k]) for k in (1, 2)}
    return expected


def geotiff(path, bands, corner, scale):
    """A TIFF of 16 bits, uncompressed, that says where its upper left corner is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = bands.astype("<u2")
    height, width = bands.shape[:2]
    directory = ImageFileDirectory_v2()
    directory[256], directory[257] = width, height
    directory[258], directory[259], directory[262] = (16, 16, 16), 1, 2
    directory[277], directory[278], directory[279] = 3, height, bands.nbytes
    directory[33550], directory.tagtype[33550] = (scale, scale, 0.0), 12
    directory[33922], directory.tagtype[33922] = (0.0, 0.0, 0.0, *corner, 0.0), 12
    directory[273] = 0  # Pillow adds where the directory ends
    content = directory.tobytes(8)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + content + bands.tobytes())


def geojson(card, root, each):
    """Tiles of four cities, two footprints each, one with a hole; one tile without any."""
    expected, scale = {}, 2.7e-6
    for i in range(each):
        fields = {"place": ("2_Vegas", "3_Paris", "4_Shanghai", "5_Khartoum")[i % 4], "number": f"{i}"}
        west, north = -115.3 + i, 36.2
        labels = np.zeros(SIZE, np.uint8)
        boxes = [(1, 1, 6, 5), (8, 3, 15, 11)] if i else []
        features = []
        for x, y, x_end, y_end in boxes:
            labels[y:y_end, x:x_end] = 1
            rings = [[(x, y), (x_end, y), (x_end, y_end), (x, y_end), (x, y)]]
            if x == 8:
                labels[5:8, 10:12] = 0
                rings.append([(10, 5), (12, 5), (12, 8), (10, 8), (10, 5)])
            placed = [[(west + a * scale, north - b * scale, 0.0) for a, b in ring] for ring in rings]
            features.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": placed}})
        bands = np.random.default_rng(i).integers(100, 2000, (*SIZE, 3))
        geotiff(root / card.image.format(**fields), bands, (west, north), scale)
        path = root / card.masks[0].format(**fields)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        expected[card.id.format(**fields)] = (None, labels)
    return expected
