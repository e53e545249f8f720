"""Files appear whole or not at all, and are read with their digests checked, where their folder has these."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.core.errors import BusyError, DataError
from segpipe.core.outputs import PARTIAL, checked, read, sync_directory
from segpipe.core.spreadsheet import csv_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


_SEAL = b"segpipe sha256 "


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
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8 with plain line ends."""
    write_bytes(path, text.encode("utf-8"))


def json_text(value: Any) -> str:
    """`value` as indented JSON; NaN and infinity are refused because JSON has none."""
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON."""
    write_text(path, json_text(value))


def read_bytes(path: Path) -> bytes:
    """The content of a file, checked where its folder holds its digest.

    Raises:
        DataError: it is missing, unreadable or damaged.
    """
    try:
        return read(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check its mode and the disk") from None


def write_sealed(path: Path, content: bytes) -> None:
    """As `write_bytes`, with a digest behind the content: one rename replaces both."""
    write_bytes(path, content + _SEAL + hashlib.sha256(content).digest())


def read_sealed(path: Path) -> bytes:
    """What `write_sealed` was given.

    Raises:
        DataError: it is missing, or a bit was changed.
    """
    whole = read_bytes(path)
    end = len(whole) - len(_SEAL) - hashlib.sha256().digest_size
    if end < 0 or whole[end:] != _SEAL + hashlib.sha256(whole[:end]).digest():
        raise DataError(f"{path} does not match its sha256, so it is damaged; delete it and run again")
    return whole[:end]


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError says which file is missing or broken."""
    try:
        return json.loads(read_bytes(path).decode())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); delete it and run again") from None


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of ours by the names of its header; DataError says what is wrong with it."""
    try:
        return csv_rows(read_bytes(path).decode())
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file ({error}); run the stage that writes it") from None


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
    return arrays_of(read_bytes(path), path)


def arrays_of(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    """All arrays in the bytes of an .npz file. Error messages name `path`."""
    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return dict(stored)
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no readable arrays ({error}); delete it and run again") from None


def read_array(path: Path) -> NDArray[Any]:
    """A .npy file, memory-mapped for reading; nothing pickled is ever executed."""
    import numpy as np

    checked(path)
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a readable array ({error}); delete its folder and run again") from None
    return array


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
