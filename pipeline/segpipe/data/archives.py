"""Archives, opened by what they hold and not by their name; nothing leaves the folder, and nothing is unbounded."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from segpipe.core.errors import DataError

_BLOCK = 2**20
_LONGEST_HEADER = 2**21  # bytes; names and comments, and blocks of content
_MAGIC: dict[Any, bytes] = {gzip.open: b"\x1f\x8b", bz2.open: b"BZh", lzma.open: b"\xfd7zXZ"}
BROKEN = (
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


@dataclass(frozen=True)
class Caps:
    """What an archive may become: bytes, bytes for each byte of the archive, files.

    The ratio counts from `spared` bytes on: a small archive of even label maps shrinks a thousandfold.
    """

    bytes: int = 2**39
    ratio: float = 200.0
    files: int = 2_000_000
    spared: int = 2**28


class DamagedError(DataError):
    """What came is no archive, or a broken one: it has to be got again."""


def kind_of(path: Path) -> str | None:
    """zip, tar (of any compression), gzip (of one file), or None for what is no archive."""
    with open(path, "rb") as stream:
        start = stream.read(8)
    if start[:2] == b"PK" and zipfile.is_zipfile(path):
        return "zip"
    if tarfile.is_tarfile(path):
        return "tar"
    return "gzip" if start.startswith(_MAGIC[gzip.open]) else None


def unpack(path: Path, folder: Path, caps: Caps | None = None) -> int:
    """Write the files of an archive below `folder`; the number of them.

    Raises:
        DataError: no archive, a broken or encrypted one, a name that leads out of the folder, a link or a device,
            two files of one name, or more than `caps` allow. What was written stays: unpack into a folder
            that is thrown away.
    """
    budget, taken, number = _Budget(path, caps or Caps()), set[str](), 0
    try:
        kind = kind_of(path)
        if kind is None:
            raise DamagedError(f"{path} is neither zip nor tar nor gzip; delete it and download it again")
        for name, stream in _MEMBERS[kind](path, budget):
            target = folder / _inside(path, name)
            # Names that one file system tells apart and another does not would overwrite each other there.
            key = unicodedata.normalize("NFC", target.as_posix()).casefold()
            if key in taken:
                raise DataError(f"{path} holds {name} twice, or names that differ in case alone; unpack it by hand")
            taken.add(key)
            number += 1
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as out:
                while block := stream.read(_BLOCK):
                    budget.count(len(block))
                    out.write(block)
    except DataError:
        raise
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, gzip.BadGzipFile):
            raise DataError(
                f"{path} cannot be unpacked into {folder}: {error.strerror}; free space or its mode"
            ) from None
        raise DamagedError(f"{path} is a damaged archive ({error}); delete it and download it again") from None
    return number


def _of_zip(path: Path, budget: _Budget) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            budget.count_file()
            if info.is_dir():
                continue
            mode = info.external_attr >> 16
            if mode and (mode & 0o170000) not in (0, 0o100000):
                raise DataError(f"{path} holds {info.filename}, a link or device; it is refused")
            if info.flag_bits & 1:
                raise DataError(f"{path} is encrypted; unpack it by hand and give the folder with --source")
            with archive.open(info) as stream:
                yield info.filename, stream


def _of_tar(path: Path, budget: _Budget) -> Iterator[tuple[str, IO[bytes]]]:
    with open(path, "rb") as raw:
        start = raw.read(8)
    opener: Any = next((opener for opener, magic in _MAGIC.items() if start.startswith(magic)), open)
    with opener(path, "rb") as plain:
        watched: Any = _Watched(plain)
        with tarfile.open(fileobj=watched, mode="r:") as archive:
            for info in archive:
                budget.count_file()
                if info.isdir():
                    continue
                stream = archive.extractfile(info) if info.isreg() else None
                if stream is None:
                    raise DataError(f"{path} holds {info.name}, a link or device; it is refused")
                with stream:
                    yield info.name, stream
        if len(watched.last) != tarfile.BLOCKSIZE or any(watched.last):
            # tarfile takes a broken header, and the end of the file, for the end of the archive.
            raise tarfile.ReadError("it ends without the mark of its end")
        while block := plain.read(_BLOCK):  # the check sum of what is compressed stands behind the last file
            budget.count(len(block))


class _Watched:
    """A stream that remembers what was read last, and reads no header of unbounded length."""

    def __init__(self, plain: IO[bytes]) -> None:
        self.plain, self.last = plain, b""
        self.seek, self.tell = plain.seek, plain.tell

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        if size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self.plain.read(size)
        return self.last


def _of_gzip(path: Path, budget: _Budget) -> Iterator[tuple[str, IO[bytes]]]:
    budget.count_file()
    with gzip.open(path) as stream:
        yield path.name.removesuffix(".gz"), stream  # type: ignore[misc]


_MEMBERS: dict[str, Any] = {"zip": _of_zip, "tar": _of_tar, "gzip": _of_gzip}


def _inside(path: Path, name: str) -> PurePosixPath:
    """A member's name as a path below the folder."""
    plain = PurePosixPath(name.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts or not plain.parts or ":" in plain.parts[0] or "\0" in name:
        raise DataError(f"{path} holds {name!r}, which leads out of the folder; it is refused")
    return plain


class _Budget:
    """Counts what comes out of an archive, whatever its headers say."""

    def __init__(self, path: Path, caps: Caps) -> None:
        self.path, self.caps = path, caps
        self.bytes = self.files = 0
        by_ratio = max(caps.spared, caps.ratio * path.stat().st_size)
        self.most = min(caps.bytes, by_ratio)

    def count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.most:
            raise DataError(f"{self.path} unpacks to more than {self.most:.0f} bytes; it is refused as a bomb")

    def count_file(self) -> None:
        self.files += 1
        if self.files > self.caps.files:
            raise DataError(f"{self.path} holds more than {self.caps.files} files; it is refused")
