"""A map of an image, compressed: labels exactly, scores of classes in a byte each.

What counts of scores is how far each class lies below the best one of its pixel: softmax knows no more, before and
after bilinear resizing. This distance is kept as a number of 8 bits with 4 binary digits behind the leading one: 0,
then 17/1024 to 992 nats in steps of 1/32 to 1/16 of itself. Probabilities are kept as such scores where a class is
within e^10 of the best one; of those farther away their mean distance over about 4 x 4 pixels. docs/scale.md says
what this saves and what it moves.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.opencv import cv2

Kind = Literal["labels", "scores", "probs"]
_DIGITS = 4  # binary, behind the leading one
_SHIFT = 23 - _DIGITS  # bits of a float32's mantissa that are dropped
_SMALLEST = (127 - 6) << _DIGITS  # the code of 2^-6 before it is moved to 0
_LAST = 255  # of the codes
_FAR = np.float32(10)  # nats
_CELL = 4  # pixels a side, over which far classes are averaged
_FLOOR = 1e-12  # of a probability whose logarithm is taken


def _distances() -> NDArray[np.float32]:
    """The distance that each code stands for."""
    found = ((np.arange(256, dtype=np.uint32) + _SMALLEST) << _SHIFT).astype(np.uint32).view(np.float32)
    found[0] = 0
    return found


_SCORES = -_distances()
_AWAY = int(np.argmax(-_SCORES > _FAR))  # of a class of probabilities that is far: the first code beyond


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
        """Logits (C, H, W), up to a constant in each pixel.

        Raises:
            ValueError: a value is not finite.
        """
        return Packed("scores", _deflate(_codes(scores)), scores.shape)

    @staticmethod
    def probs(probs: NDArray[np.floating]) -> Packed:
        """Probabilities (C, H, W).

        Raises:
            ValueError: a value is not finite.
        """
        best = np.log(np.maximum(probs.max(0), np.float32(_FLOOR)))
        codes = np.empty(probs.shape, np.uint8)
        far = np.empty((len(probs), *_cells(probs.shape)), np.float32)
        for plane, near, coarse in zip(probs, codes, far, strict=True):
            distance = np.subtract(best, np.log(np.maximum(plane, np.float32(_FLOOR))), dtype=np.float32)
            away = distance >= _FAR
            coarse[:] = _mean(distance, away)
            _encode(distance, near)
            near[away] = _AWAY
        held = (codes != _AWAY).any((1, 2))
        cells = _deflate(_codes(-far, np.float32(0)))
        parts = (np.packbits(held).tobytes(), len(cells).to_bytes(4, "little"), cells, _deflate(codes[held]))
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
        away = _decode(_inflate(self.content[flags + 4 : end], (classes, *_cells(self.shape))))
        codes = iter(_inflate(self.content[end:], (int(held.sum()), height, width)))
        found = np.empty(self.shape, np.float32)
        for out, coarse, near in zip(found, away, held, strict=True):
            cv2.resize(coarse, (width, height), dst=out, interpolation=cv2.INTER_NEAREST)
            if near:
                plane = next(codes)
                np.copyto(out, cv2.LUT(plane, _SCORES), where=plane != _AWAY)
        return found


def rounded(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """Logits (C, H, W) as they come back when they were packed."""
    return _decode(_codes(scores))


def _codes(scores: NDArray[np.floating], best: NDArray[np.floating] | np.float32 | None = None) -> NDArray[np.uint8]:
    """How far every class lies below the best one."""
    best, codes = scores.max(0) if best is None else best, np.empty(scores.shape, np.uint8)
    for plane, out in zip(scores, codes, strict=True):
        _encode(np.subtract(best, plane, dtype=np.float32), out)
    return codes


def _cells(shape: tuple[int, ...]) -> tuple[int, int]:
    return -(-shape[-2] // _CELL), -(-shape[-1] // _CELL)


def _mean(distance: NDArray[np.float32], away: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Of each cell, the mean distance of its pixels that are far; `_FAR` where none is."""
    size = _cells(distance.shape)[::-1]
    share = cv2.resize(away.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(distance * away, size, interpolation=cv2.INTER_AREA)
    return np.where(share > 0, total / np.maximum(share, np.float32(1e-6)), _FAR)


def _encode(distance: NDArray[np.float32], codes: NDArray[np.uint8]) -> None:
    """The nearest code of every distance; 0 is kept for the best class, which stays the best."""
    if not np.isfinite(distance).all():
        raise ValueError("scores of classes must be finite; find where they come from")
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
    """Maps (..., H, W), compressed: the values of each or, where that compresses better, differences to neighbours.

    In front stands a bit for each map, set for differences.
    """
    packer = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    differ, parts = [], []
    for plane in planes.reshape(-1, *planes.shape[-2:]):
        down = plane.copy()
        down[1:] -= plane[:-1]
        across = down.copy()
        across[:, 1:] -= down[:, :-1]
        differ.append(_repeats(across) > _repeats(plane))
        parts.append(packer.compress((across if differ[-1] else plane).tobytes()))
    return b"".join((np.packbits(differ).tobytes(), *parts, packer.flush()))


def _repeats(plane: NDArray[np.uint8]) -> int:
    """How many pairs of values are equal: more pairs compress better. An integer, so every processor agrees."""
    counts = cv2.calcHist([plane], [0], None, [256], [0, 256]).astype(np.int64)
    return int((counts**2).sum())


def _inflate(content: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """What `_deflate` was given."""
    size, maps = math.prod(shape), math.prod(shape[:-2])
    flags = -(-maps // 8)
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(content[flags:], size + 1)
    except zlib.error as error:
        raise DataError(f"a compressed map is damaged ({error}); run the stage that writes it again") from None
    if len(raw) != size or not unpacker.eof or unpacker.unused_data:
        raise DataError("a compressed map has another size than its header says; run the stage that writes it again")
    planes = np.frombuffer(raw, np.uint8).reshape(shape).copy()
    differ = np.unpackbits(np.frombuffer(content[:flags], np.uint8))
    for plane, relative in zip(planes.reshape(-1, *shape[-2:]), differ, strict=False):
        if relative:
            np.add.accumulate(plane, 0, out=plane)
            np.add.accumulate(plane, 1, out=plane)
    return planes
