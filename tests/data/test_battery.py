"""Mutated files: no traceback, no hang, no explosion of memory, no wrong label."""

import io
import json
import resource
import struct
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from segpipe.core.errors import SegpipeError
from segpipe.data import catalog
from segpipe.data.card import Card
from segpipe.data.files import read_colors, read_grey, read_ids, read_image

SIZE = (24, 32)
LABELS = ((np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1])) // 8) % 5).astype(np.uint8)
PHOTO = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
FORMATS = {"PNG": {}, "JPEG": {"quality": 90}, "TIFF": {}, "GIF": {}, "BMP": {}, "WEBP": {"lossless": True}, "PPM": {}}
SECONDS, BYTES = 3.0, 150_000_000  # of one file


def encoded(kind, mode):
    stream = io.BytesIO()
    image = Image.fromarray(PHOTO if mode == "photo" else LABELS)
    if kind == "WEBP" and mode == "mask":
        image = image.convert("RGB")
    image.save(stream, kind, **FORMATS[kind])
    return stream.getvalue()


def mutants(content, seed):
    """(name, bytes): cut, flipped, zeroed, doubled, swapped, with sizes that are lies."""
    random = np.random.default_rng(seed)
    for share in (0, 0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 0.999):
        yield f"cut to {share}", content[: int(len(content) * share)]
    for k in range(12):
        flipped = bytearray(content)
        for at in random.integers(0, len(content), 1 + k):
            flipped[at] ^= 1 << int(random.integers(0, 8))
        yield f"{1 + k} bits flipped", bytes(flipped)
    for k in range(6):
        flipped = bytearray(content)
        at = int(random.integers(0, min(60, len(content))))
        flipped[at] ^= 0xFF
        yield f"header byte {at} inverted ({k})", bytes(flipped)
    for k in range(4):
        at = int(random.integers(0, len(content)))
        yield f"zeros from {at} ({k})", content[:at] + bytes(len(content) - at)
    for k in range(4):
        at = int(random.integers(0, len(content)))
        yield f"inserted at {at} ({k})", content[:at] + random.bytes(40) + content[at:]
    size = struct.pack
    for lie in (0, 1, 60_000, 2**31 - 1):
        for pack, true in ((">I", SIZE[1]), ("<I", SIZE[1]), ("<H", SIZE[1]), (">H", SIZE[0])):
            old = size(pack, true)
            if old in content[:200]:
                new = size(pack, lie & (0xFFFF if pack.endswith("H") else 0xFFFFFFFF))
                yield f"{pack} {true} becomes {lie}", content.replace(old, new, 1)
    yield "another type", b"%PDF-1.4 " + content[9:]
    yield "a page", b"<!DOCTYPE html><html>log in</html>"


CASES = [
    (kind, mode, name, content)
    for number, kind in enumerate(FORMATS)
    for mode in ("photo", "mask")
    for name, content in mutants(encoded(kind, mode), number)
]


def tried(read, path):
    """What a reader says: an array, or one line that names the file; in bounded time and memory."""
    tracemalloc.start()
    began = time.process_time()
    try:
        found = read(path)
    except SegpipeError as error:
        found = str(error)
        assert path.name in found
        assert "\n" not in found
    took, most = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < SECONDS
    assert most < BYTES
    return found


def test_the_battery_is_large_enough():
    assert len(CASES) >= 300
    assert {kind for kind, *_ in CASES} == set(FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_mutated_image_is_read_or_refused_in_one_line(tmp_path, kind):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for of, mode, _name, content in CASES:
        if (of, mode) == (kind, "photo"):
            path = tmp_path / f"photo.{kind.lower()}"
            path.write_bytes(content)
            found = tried(read_image, path)
            assert isinstance(found, str) or (found.dtype == np.uint8 and found.shape[2] == 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # kB: what decoders take


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "JPEG"])
@pytest.mark.parametrize("read", [read_ids, read_grey, read_colors])
def test_a_mutated_mask_is_read_or_refused_in_one_line(tmp_path, kind, read):
    for of, mode, _name, content in CASES:
        if (of, mode) == (kind, "mask"):
            path = tmp_path / f"mask.{kind.lower()}"
            path.write_bytes(content)
            found = tried(read, path)
            assert isinstance(found, str) or found.ndim in (2, 3)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_file_with_a_checksum_or_a_cut_never_gives_wrong_labels(tmp_path, kind):
    """PNG knows when a byte of its pixels changed; a GIF that was cut is refused."""
    read = 0
    for of, mode, name, content in CASES:
        if (of, mode) == (kind, "mask") and (kind == "PNG" or name.startswith("cut")):
            path = tmp_path / f"mask.{kind.lower()}"
            path.write_bytes(content)
            found = tried(read_ids, path)
            if not isinstance(found, str):
                read += 1
                np.testing.assert_array_equal(found, LABELS, name)
    assert read < 12  # what changed lies behind the pixels, in a field that says nothing of them


def is_one_line(error):
    assert "\n" not in str(error)
    return True


def card_of(layout, **keys):
    return Card("mine", "", "", "", layout, ["background", "cat"], [[0, 0, 0]] * 2, [255], cut_val=0.0, **keys)


DOCUMENT = {
    "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"image_id": 1, "category_id": 1, "area": 9, "segmentation": [[1, 1, 9, 1, 9, 9]]}],
}
LABELME = {"shapes": [{"label": "cat", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon"}]}


def swapped(value, random):
    """JSON with one value in another type."""
    strange = [None, -1, 10**30, "x", [], {}, True, [[[]]], 1e308, "\ud800"]
    if isinstance(value, dict) and value:
        key = sorted(value)[int(random.integers(len(value)))]
        if random.random() < 0.3:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: swapped(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.8:
        at = int(random.integers(len(value)))
        return [*value[:at], swapped(value[at], random), *value[at + 1 :]]
    return strange[int(random.integers(len(strange)))]


def texts(document, seed):
    random = np.random.default_rng(seed)
    text = json.dumps(document)
    for share in (0, 0.1, 0.5, 0.9, 0.99):
        yield text[: int(len(text) * share)].encode()
    for _ in range(60):
        yield json.dumps(swapped(document, random)).encode()
    for _ in range(15):
        changed = bytearray(text.encode())
        changed[int(random.integers(len(changed)))] = int(random.integers(256))
        yield bytes(changed)
    yield b"[" * 100_000
    yield b"\xff\xfe" + text.encode("utf-16-le")


@pytest.mark.parametrize(
    ("card", "document", "name"),
    [
        (card_of("coco", image="{name}"), DOCUMENT, "annotations.json"),
        (card_of("labelme", image="{name}.png", masks=["{name}.json"]), LABELME, "a.json"),
    ],
)
def test_a_mutated_json_is_read_or_refused_in_one_line(tmp_path, card, document, name):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")

    def read(path):
        found = catalog.found_in(card, path.parent)
        for sample in found.samples:
            found.write(sample, tmp_path / "out")
            return catalog.read_labels(tmp_path / "out", sample, card, "annotator 1")
        return None

    drawn = refused = 0
    for content in texts(document, 0):
        path = tmp_path / name
        path.write_bytes(content)
        try:
            found = read(path)
        except SegpipeError as error:
            refused += is_one_line(error)
            continue
        drawn += 1
        assert set(np.unique(found)) <= {0, 1, 255}
    assert drawn
    assert refused > 20


def test_a_mutated_list_is_read_or_refused_in_one_line(tmp_path):
    card = replace(catalog.card("camvid"), cut_val=0.0)
    for folder in ("train", "val", "test"):
        for k in range(3):
            for at in (tmp_path / folder / f"{folder}{k}.png", tmp_path / f"{folder}annot" / f"{folder}{k}.png"):
                at.parent.mkdir(exist_ok=True)
                Image.fromarray(LABELS).save(at)
        lines = [f"/SegNet/{folder}/{folder}{k}.png /SegNet/{folder}annot/{folder}{k}.png\n" for k in range(3)]
        (tmp_path / f"{folder}.txt").write_text("".join(lines))
    good = (tmp_path / "train.txt").read_bytes()
    random = np.random.default_rng(0)
    expected = catalog.samples_of(card, tmp_path)
    read = refused = 0
    for k in range(80):
        changed = bytearray(good)
        for at in random.integers(0, len(good), 1 + k % 4):
            changed[at] = int(random.choice([0, 10, 32, 46, 47, 255, 65, 92]))
        (tmp_path / "train.txt").write_bytes(bytes(changed) if k % 5 else bytes(changed)[: int(random.integers(200))])
        try:
            samples = catalog.samples_of(card, tmp_path)
        except SegpipeError as error:
            refused += is_one_line(error)
            continue
        read += 1
        assert all((tmp_path / path).is_file() for s in samples for path in (s.image, *s.labels))
        assert {s.image for s in samples} <= {s.image for s in expected}
    assert read + refused == 80
    assert refused > 30
