"""Maps of unequal size in one file, compressed one by one: label maps exactly, scores of classes in a byte each.

What counts of scores is how far each class lies below the best one of its pixel: softmax knows no more, before and
after bilinear resizing. This distance is kept as a number of 8 bits with 4 binary digits behind the leading one: 0,
then 2^-6 to 1008 nats in steps of 1/32 to 1/16 of itself. Probabilities are kept as such scores where a class is
within e^10 of the best one; of those farther away their mean over 4 x 4 pixels. docs/scale.md has what this saves and
what it moves. Neighbours are alike, so differences between them are what is compressed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.files import read_json, write_json
from segpipe.core.opencv import cv2
from segpipe.core.outputs import checked

Kind = Literal["labels", "scores", "probs"]
_DIGITS = 4  # binary, behind the leading one
_SHIFT = 23 - _DIGITS  # bits of a float32's mantissa that are dropped
_SMALLEST = (127 - 6) << _DIGITS  # the code of 2^-6 before it is moved to 0
_LAST = 255  # of the codes; of probabilities: the class is far
_FAR = np.float32(10)  # nats
_CELL = 4  # pixels a side, over which far classes are averaged
_FLOOR = 1e-12  # of a probability whose logarithm is taken


def _distances() -> NDArray[np.float32]:
    """The distance that each code stands for."""
    found = ((np.arange(256, dtype=np.uint32) + _SMALLEST) << _SHIFT).astype(np.uint32).view(np.float32)
    found[0] = 0
    return found


_SCORES = -_distances()


@dataclass(frozen=True)
class Packed:
    """A compressed map: (H, W) of labels, or (C, H, W) of scores or probabilities."""

    kind: Kind
    content: bytes
    shape: tuple[int, ...]

    @staticmethod
    def labels(labels: NDArray[np.uint8]) -> Packed:
        """A label map (H, W), kept exactly."""
        return Packed("labels", _deflate(labels), labels.shape)

    @staticmethod
    def scores(scores: NDArray[np.floating]) -> Packed:
        """Finite logits (C, H, W), up to a constant in each pixel."""
        return Packed("scores", _deflate(_codes(scores)), scores.shape)

    @staticmethod
    def probs(probs: NDArray[np.floating]) -> Packed:
        """Probabilities (C, H, W)."""
        best = np.log(np.maximum(probs.max(0), np.float32(_FLOOR)))
        codes = np.empty(probs.shape, np.uint8)
        far = np.empty((len(probs), *_cells(probs.shape)), np.float32)
        for plane, near, coarse in zip(probs, codes, far, strict=True):
            distance = best - np.log(np.maximum(plane, np.float32(_FLOOR)))
            cv2.resize(distance, coarse.shape[::-1], dst=coarse, interpolation=cv2.INTER_AREA)
            _encode(distance, near)
            near[distance >= _FAR] = _LAST
        held = (codes != _LAST).any((1, 2))
        away = Packed.scores(-far).content
        parts = (np.packbits(held).tobytes(), len(away).to_bytes(4, "little"), away, _deflate(codes[held]))
        return Packed("probs", b"".join(parts), probs.shape)

    def unpack(self) -> NDArray[Any]:
        """The labels (H, W) uint8, or scores (C, H, W) float32: 0 for the best class of a pixel, others below.

        Raises:
            DataError: the content is not what its shape says.
        """
        if self.kind == "labels":
            return _inflate(self.content, self.shape)
        if self.kind == "scores":
            return _decode(_inflate(self.content, self.shape))
        classes, height, width = self.shape
        flags = -(-classes // 8)
        held = np.unpackbits(np.frombuffer(self.content[:flags], np.uint8))[:classes].astype(bool)
        end = flags + 4 + int.from_bytes(self.content[flags : flags + 4], "little")
        away = Packed("scores", self.content[flags + 4 : end], (classes, *_cells(self.shape))).unpack()
        codes = iter(_inflate(self.content[end:], (int(held.sum()), height, width)))
        found = np.empty(self.shape, np.float32)
        for out, coarse, near in zip(found, away, held, strict=True):
            cv2.resize(coarse, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
            np.minimum(out, -_FAR, out=out)
            if near:
                plane = next(codes)
                np.copyto(out, cv2.LUT(plane, _SCORES), where=plane != _LAST)
        return found


def rounded(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """Logits (C, H, W) as they come back when they were packed."""
    return _decode(_codes(scores))


def _codes(scores: NDArray[np.floating]) -> NDArray[np.uint8]:
    best, codes = scores.max(0), np.empty(scores.shape, np.uint8)
    for plane, out in zip(scores, codes, strict=True):
        _encode(np.subtract(best, plane, dtype=np.float32), out)
    return codes


def _cells(shape: tuple[int, ...]) -> tuple[int, int]:
    return -(-shape[-2] // _CELL), -(-shape[-1] // _CELL)


def _encode(distance: NDArray[np.float32], codes: NDArray[np.uint8]) -> None:
    """The nearest code of every distance; 0 is kept for the best class, which stays the best."""
    bits = distance.view(np.uint32) + np.uint32(1 << (_SHIFT - 1))
    bits >>= np.uint32(_SHIFT)
    codes[:] = np.clip(bits, _SMALLEST, _SMALLEST + _LAST) - np.uint32(_SMALLEST)
    np.maximum(codes, distance > 0, out=codes)


def _decode(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores of codes (C, H, W)."""
    found = np.empty(codes.shape, np.float32)
    for plane, out in zip(codes, found, strict=True):
        cv2.LUT(plane, _SCORES, dst=out)
    return found


def _deflate(planes: NDArray[np.uint8]) -> bytes:
    """Differences of maps (..., H, W) to the neighbours above and to the left, compressed."""
    packer = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    parts = []
    for plane in planes.reshape(-1, *planes.shape[-2:]):
        down = plane.copy()
        down[1:] -= plane[:-1]
        across = down.copy()
        across[:, 1:] -= down[:, :-1]
        parts.append(packer.compress(across))
    return b"".join((*parts, packer.flush()))


def _inflate(content: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """What `_deflate` was given."""
    size = int(np.prod(shape))
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(content, size + 1)
    except zlib.error as error:
        raise DataError(f"a compressed map is damaged ({error}); run the stage that writes it again") from None
    if len(raw) != size:
        raise DataError("a compressed map has another size than its header says; run the stage that writes it again")
    planes = np.frombuffer(raw, np.uint8).reshape(shape).copy()
    for plane in planes.reshape(-1, *shape[-2:]):
        np.add.accumulate(plane, 0, out=plane)
        np.add.accumulate(plane, 1, out=plane)
    return planes


class MapWriter:
    """Writes maps one after the other to `path`.bin; to `path`.json, when it is closed, their shapes and ends."""

    def __init__(self, path: Path) -> None:
        self.path, self.kind = path, "labels"
        self.shapes: list[list[int]] = []
        self.ends: list[int] = []
        self.stream = path.with_suffix(".bin").open("wb")

    def __enter__(self) -> MapWriter:
        return self

    def add(self, item: Packed) -> None:
        """The next map, of the same kind as the others."""
        self.kind = item.kind
        self.stream.write(item.content)
        self.shapes.append(list(item.shape))
        self.ends.append(self.stream.tell())

    def __exit__(self, kind: object, *_: object) -> None:
        self.stream.close()
        if kind is None:
            header = {"kind": self.kind, "shapes": self.shapes, "ends": self.ends}
            write_json(self.path.with_suffix(".json"), header)


def write_maps(path: Path, maps: Iterable[Packed]) -> None:
    """All maps through a `MapWriter`; memory stays flat."""
    with MapWriter(path) as writer:
        for item in maps:
            writer.add(item)


class Maps(Sequence[NDArray[Any]]):
    """The maps of a file; item i is read and unpacked when it is asked for."""

    def __init__(self, path: Path) -> None:
        header, binary = read_json(path.with_suffix(".json")), path.with_suffix(".bin")
        try:
            self.kind: Kind = header["kind"]
            self.shapes = [tuple(shape) for shape in header["shapes"]]
            self.ends = [0, *header["ends"]]
        except (KeyError, TypeError):
            raise DataError(f"{path}.json is no header of maps; run the stage that writes it") from None
        if checked(binary).stat().st_size != self.ends[-1] or len(self.ends) != len(self.shapes) + 1:
            raise DataError(f"{binary} is cut short; delete its folder and run the stage again")
        self.flat = np.memmap(binary, np.uint8, mode="r") if self.ends[-1] else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Any) -> Any:
        content = self.flat[self.ends[index] : self.ends[index + 1]]
        return Packed(self.kind, content.tobytes(), self.shapes[index]).unpack()


def open_maps(path: Path) -> Maps:
    """The maps of a file, whose header is read once as long as the file stays what it is."""
    header = path.with_suffix(".json")
    return _opened(path.absolute(), header.stat().st_mtime_ns if header.is_file() else 0)


@lru_cache(maxsize=32)
def _opened(path: Path, changed: int) -> Maps:
    del changed
    return Maps(path)
