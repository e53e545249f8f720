"""Folders of outputs that appear whole, with a digest of every file, which is checked when a file is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from segpipe.core.errors import DataError

MARKER = "complete.json"  # written last: what the folder was made of, and the digests
PARTIAL = ".{}.partial"
_OWN = {"config", "files", "sha256"}  # keys of a marker
_checked: dict[str, tuple[int, int, int]] = {}  # files that were found to be what they were, as long as they stay so


def digest(content: bytes) -> str:
    """sha256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_json(value: object) -> str:
    """sha256 of a value's canonical JSON: equal values, equal digest, whatever the key order."""
    return digest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


@contextmanager
def folder(path: Path, description: dict[str, Any] | None = None) -> Iterator[Path]:
    """A folder that appears whole: fill the yielded one; its marker is written last.

    `description` goes into the marker: "config" names what the folder depends on, "command" what makes it anew.
    A folder left by a killed process is removed by the next writer; the caller holds the lock of the output.
    """
    path = Path(path)
    partial = path.parent / PARTIAL.format(path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        written = sorted(file for file in partial.rglob("*") if file.is_file())
        sums = {file.relative_to(partial).as_posix(): _synced(file) for file in written}
        seal = sealed({"config": None, **(description or {}), "files": sums})
        with open(partial / MARKER, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps(seal, indent=1, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        for inner in {file.parent for file in written} | {partial}:
            sync_directory(inner)
        _swap(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_directory(path.parent)


def _synced(file: Path) -> str:
    """The digest of a file, which is on the disk now."""
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _swap(new: Path, path: Path) -> None:
    """Put a folder into the place of another by renames; when the second fails, the first is undone."""
    old = path.parent / PARTIAL.format(path.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        if old.exists():
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sync_directory(path: Path) -> None:
    """Make renames in a folder durable; systems that cannot open a folder skip it.

    Raises:
        OSError: the disk fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """The value with a digest of itself under "sha256"."""
    return {**value, "sha256": digest_json(value)}


def unsealed(value: object, path: Path) -> dict[str, Any]:
    """What `sealed` was given.

    Raises:
        DataError: it is something else now.
    """
    found = {key: held for key, held in value.items() if key != "sha256"} if isinstance(value, dict) else {}
    if not isinstance(value, dict) or digest_json(found) != value.get("sha256"):
        made = found.get("command")
        remedy = f"run `{made}`" if isinstance(made, str) else "delete it and run the stage that writes it"
        raise DataError(f"{path} is damaged: it has changed since it was written; {remedy}")
    return found


def description(path: Path) -> dict[str, Any] | None:
    """The marker of a whole folder, or None when the folder is absent or unfinished."""
    marker = Path(path) / MARKER
    try:
        found = os.stat(marker)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _marker(marker.absolute(), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=64)
def _marker(marker: Path, changed: int, size: int) -> dict[str, Any] | None:
    """None where the file is another program's."""
    del changed, size
    try:
        found = json.loads(marker.read_bytes())
    except (ValueError, RecursionError):
        raise DataError(f"{marker} is damaged; delete its folder and run the stage that writes it") from None
    if not isinstance(found, dict) or not _OWN & found.keys():
        return None
    return unsealed(found, marker)


def _place(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """The folder of outputs that a file lies in, and its marker."""
    for above in Path(os.path.abspath(path)).parents:
        found = description(above)
        if found is not None:
            return above, found
    return None


def checked(path: Path) -> Path:
    """The path of a file, whose bytes are those that its stage wrote; a file outside of such folders passes.

    A file is read once in blocks, and again when it has changed.

    Raises:
        DataError: it has other bytes, is missing, or is none of its folder's files; says what makes it anew.
    """
    state = _state(Path(path))
    if _checked.get(os.path.abspath(path)) != state:
        _compare(Path(path), digest_file)
        _checked[os.path.abspath(path)] = state
    return Path(path)


def read(path: Path) -> bytes:
    """The content of a file that `checked` would let pass."""
    state = _state(Path(path))
    content = Path(path).read_bytes()
    if _checked.get(os.path.abspath(path)) != state:
        _compare(Path(path), lambda _: digest(content))
        _checked[os.path.abspath(path)] = state
    return content


def _state(path: Path) -> tuple[int, int, int]:
    """What changes when a file does; DataError when it is missing."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        place = _place(path)
        remedy = _remedy(place[1] if place else {})
        raise DataError(f"{path} is missing; {remedy}") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _compare(path: Path, digest_of: Callable[[Path], str]) -> None:
    """DataError when the folder of outputs that a file lies in holds another digest of it."""
    place = _place(path)
    if place is None or not path.is_file():
        return
    above, marker = place
    name = Path(os.path.abspath(path)).relative_to(above).as_posix()
    if name != MARKER and marker["files"].get(name) != digest_of(path):
        raise DataError(f"{path} is damaged: it has changed since it was written; {_remedy(marker)}")


def _remedy(marker: dict[str, Any]) -> str:
    made = marker.get("command")
    return f"run `{made}`" if isinstance(made, str) else "run the stage that writes it"


def digests(path: Path, pattern: str = "*") -> dict[str, str]:
    """The digests of a folder's files by name, as its marker says them; of files that match a pattern."""
    marker = description(path)
    if marker is None:
        raise DataError(f"{path} is missing or unfinished; run the stage that writes it")
    return {name: held for name, held in marker["files"].items() if Path(name).match(pattern)}
