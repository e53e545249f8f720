"""Files appear whole or not at all: encode, write under a temporary name, fsync, rename."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.core.errors import BusyError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARKER = "complete.json"
PARTIAL = ".{}.partial"


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: a reader sees the old file or the new one, never half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / PARTIAL.format(path.name)
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8 with plain line ends."""
    write_bytes(path, text.encode("utf-8"))


def json_text(value: Any) -> str:
    """`value` as indented JSON; NaN and infinity are refused because JSON has none."""
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError says which file is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run the stage that writes it") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); delete it and run again") from None


def csv_text(header: Sequence[str] | None, rows: Iterable[Sequence[Any]] = ()) -> str:
    """Rows as CSV with plain line ends; None is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def array_bytes(array: NDArray[Any]) -> bytes:
    """`array` in NumPy's .npy format."""
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name in NumPy's .npz format."""
    import numpy as np

    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file by name; nothing pickled is ever executed."""
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def read_array(path: Path) -> NDArray[Any]:
    """A .npy file, memory-mapped for reading; nothing pickled is ever executed."""
    import numpy as np

    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run the stage that writes it") from None
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a readable array ({error}); delete its folder and run again") from None
    return array


def digest(content: bytes) -> str:
    """sha256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """sha256 of a value's canonical JSON: equal values, equal digest, whatever the key order."""
    return digest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


@contextmanager
def folder(path: Path, description: dict[str, Any] | None = None) -> Iterator[Path]:
    """A folder that appears whole: fill the yielded one; its marker is written last.

    `description` goes into the marker, `complete.json`. A folder left by a killed process is
    removed by the next writer; the caller holds the lock of the output (see `lock`).
    """
    path = Path(path)
    partial = path.parent / PARTIAL.format(path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for file in sorted(partial.rglob("*")):
            if file.is_file():
                with open(file, "rb") as stream:
                    os.fsync(stream.fileno())
        write_json(partial / MARKER, description or {})
        _swap(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync_directory(path.parent)


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


def description(path: Path) -> dict[str, Any] | None:
    """The marker of a whole folder, or None when the folder is absent or unfinished."""
    marker = Path(path) / MARKER
    if not marker.is_file():
        return None
    found: dict[str, Any] = read_json(marker)
    return found


@contextmanager
def lock(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Keep other writers away while the block runs.

    Raises:
        BusyError: another process has it (unless `wait`); the message names the process.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    owner = path.with_suffix(".pid")
    held = FileLock(path, timeout=-1 if wait else 0)
    try:
        held.acquire()
    except Timeout:
        pid = owner.read_text().strip() if owner.exists() else "unknown"
        raise BusyError(f"{what} is being written by process {pid}; wait for it or stop it, then run again") from None
    try:
        owner.write_text(f"{os.getpid()}\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        held.release()


def _sync_directory(path: Path) -> None:
    """Make a rename durable; systems that cannot open a folder skip it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
