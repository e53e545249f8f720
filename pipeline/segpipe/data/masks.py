"""The kinds of masks: what a file of labels holds, as raw values (H, W) that a card turns into labels."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.files import read_bytes
from segpipe.core.registry import register
from segpipe.data.files import read_colors, read_grey, read_ids
from segpipe.data.reading import PLAIN, Reading

if TYPE_CHECKING:
    from segpipe.data.card import Card

Ids = NDArray[Any]


@register("ids", source="palette indices, or grey values of 1, 8 or 16 bits")
def ids(path: Path, card: Card) -> Ids:
    """The pixels are class ids, or raw values that the card maps to them; in a .mat, what is under the card's `key`."""
    return _mat(path, card.key) if path.suffix == ".mat" else read_ids(path, card.reading)


@register("binary", source="grey values of two classes, edges smoothed by a format that loses")
def binary(path: Path, card: Card) -> Ids:
    """Class 1 where grey is at least 128 of 255, or at the one value beside 0; in 1-bit masks 1 is white."""
    return foreground(read_grey(path, card.reading), path).astype(np.uint8)


def foreground(grey: NDArray[np.uint8], path: Path) -> NDArray[np.bool_]:
    """Where a mask of two values is on: from 128 of 255 on, or at its one value beside 0.

    Raises:
        DataError: several values, all below 128: what is on is not certain.
    """
    most = int(grey.max(initial=0))
    if not 0 < most < 128:
        return grey >= 128
    values = np.unique(grey)
    if values.tolist() not in ([0, most], [most]):
        raise DataError(
            f"{path} holds the values {', '.join(map(str, values[:6]))}{', ...' if len(values) > 6 else ''}, wanted 0 "
            "and one more, or grey up to 255; save it with 255 where the class is"
        )
    return np.asarray(grey == most)


@register("colors", source="one colour a class")
def colors(path: Path, card: Card) -> Ids:
    """The pixels are the classes' colours; another colour is refused, never rounded."""
    known = card.colors or [[color] for color in card.palette]
    packed, found = of_colors(path, known, card.void_colors, card.reading)
    unknown = found == _UNKNOWN
    if unknown.any():
        raise DataError(
            f"{path} holds {_unknown(packed[unknown], known, card)}; add it to the card or correct the mask"
        )
    found[found == _VOID] = card.void[0] if card.void else 0  # a raw value that the card calls void
    return found


def of_colors(
    path: Path, known: Sequence[Sequence[Sequence[int]]], void: Sequence[Sequence[int]] = (), reading: Reading = PLAIN
) -> tuple[NDArray[np.int32], Ids]:  # fmt: skip
    """The colours of a mask, packed, and the class of each pixel: -1 where its colour is unknown, -2 where it is void.

    known: the colours of each class.
    """
    pixels = read_colors(path, reading).astype(np.int32)
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    table = _table(tuple(tuple(map(tuple, group)) for group in known), tuple(map(tuple, void)))
    return packed, table[packed].astype(np.int64)


def _mat(path: Path, key: str) -> Ids:
    """The array in a MATLAB file under `key`, whose parts are joined by dots."""
    from scipy import io

    try:
        content = read_bytes(path)
        if _unpacked(content) > _MOST_OF_MAT:
            raise ValueError(f"it unpacks to more than {_MOST_OF_MAT} bytes")
        found = io.loadmat(BytesIO(content), squeeze_me=True, struct_as_record=False)
        for part in key.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        values: Ids = np.asarray(found).astype(np.int64)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; check the list or folder that names it") from None
    except Exception as error:  # the reader raises many types on corrupt input
        raise DataError(
            f"{path} holds no array '{key}' ({(str(error) or type(error).__name__).splitlines()[0]}); replace it"
        ) from None
    if values.ndim != 2:
        raise DataError(f"{path} holds {values.shape} under '{key}', wanted (H, W)")
    return values


def _unpacked(content: bytes) -> int:
    """Bytes of all elements of a MATLAB 5 file, counted without keeping them; ValueError for another kind of file."""
    if not content.startswith(b"MATLAB 5.0 MAT-file") or len(content) < _HEADER:
        raise ValueError("it is no MATLAB file of version 5")
    order: Literal["little", "big"] = "little" if content[_HEADER - 2 : _HEADER] == b"IM" else "big"
    at, total = _HEADER, 0
    while at + 8 <= len(content) and total <= _MOST_OF_MAT:
        kind, size = (int.from_bytes(content[i : i + 4], order) for i in (at, at + 4))
        machine, left = zlib.decompressobj(), content[at + 8 : at + 8 + size] if kind == _COMPRESSED else b""
        total += size
        while left and not machine.eof and total <= _MOST_OF_MAT:
            total += len(machine.decompress(left, 2**20))
            left = machine.unconsumed_tail
        at += 8 + size
    return total


_HEADER, _COMPRESSED, _MOST_OF_MAT = 128, 15, 2**27
_VOID, _UNKNOWN = -2, -1


@cache
def _table(known: tuple[tuple[tuple[int, ...], ...], ...], void: tuple[tuple[int, ...], ...]) -> NDArray[np.int16]:
    """The id of each of the 2^24 colours: a gather beats any search."""
    table = np.full(2**24, _UNKNOWN, np.int16)
    for value, group in [*enumerate(known), (_VOID, void)]:
        for red, green, blue in group:
            table[red << 16 | green << 8 | blue] = value
    return table


def _unknown(packed: NDArray[np.int32], known: list[list[list[int]]], card: Card) -> str:
    """The most frequent unknown colour, how often it is there, and the known one next to it."""
    values, counts = np.unique(packed, return_counts=True)
    most = int(counts.argmax())
    color = [int(values[most]) >> shift & 255 for shift in (16, 8, 0)]
    names = [*zip(card.classes, known, strict=True), ("void", card.void_colors)]
    distances = [
        (sum((a - b) ** 2 for a, b in zip(color, other, strict=True)), name, other)
        for name, group in names
        for other in group
    ]
    _, name, other = min(distances)
    return (
        f"{len(values)} colours that no class has, the most frequent {tuple(color)} in {counts[most]} pixels, "
        f"nearest to {tuple(other)} of '{name}'"
    )
