"""Work on many images that goes on where a killed process stopped."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.core import files
from segpipe.core.errors import DataError, SegpipeError


class Journal:
    """A folder of arrays that grow image by image, with a journal of what was found in each.

    An image counts as done when its record is in the journal, which is written after its pixels; both are the
    system's by then, so that they outlive the process. A record that was cut short is forgotten.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resume(self, name: str, shapes: dict[str, tuple[int, ...]]) -> tuple[list[Any], list[Any]]:
        """Arrays of bytes by name and shape, and the records of `name`: none unless all arrays are there."""
        paths = [self.folder / f"{array}.npy" for array in shapes]
        try:
            found = [np.load(path, mmap_mode="r+", allow_pickle=False) for path in paths]
        except (OSError, ValueError, EOFError):
            found = []
        if [array.shape for array in found] != list(shapes.values()):
            (self.folder / f"{name}.journal").unlink(missing_ok=True)
            return [new_array(path, shape) for path, shape in zip(paths, shapes.values(), strict=True)], []
        return found, self._records(name)

    def _records(self, name: str) -> list[Any]:
        """What the journal holds; a record that was cut short is cut off."""
        path, found, end = self.folder / f"{name}.journal", [], 0
        if path.is_file():
            with open(path, "rb") as stream:
                try:
                    while True:
                        found.append(pickle.load(stream))  # of our own making
                        end = stream.tell()
                except (EOFError, pickle.UnpicklingError, ValueError, AttributeError, ImportError, IndexError):
                    pass
            os.truncate(path, end)
        return found

    @contextmanager
    def appending(self, name: str) -> Iterator[Any]:
        """A function that appends a record."""
        with open(self.folder / f"{name}.journal", "ab", buffering=0) as stream:
            yield lambda record: stream.write(pickle.dumps(record))

    def take(self, name: str, target: Path) -> None:
        """Move a finished array to where it belongs."""
        shutil.move(self.folder / f"{name}.npy", target / f"{name}.npy")


def new_array(path: Path, shape: tuple[int, ...]) -> Any:
    """A new array of bytes on disk, whose place is taken now.

    Raises:
        DataError: there is no space; later a full disk would end the process with a signal.
    """
    partial = path.with_suffix(".new")
    found = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
    try:
        with open(partial, "r+b") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, partial.stat().st_size)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror}; {partial.stat().st_size} bytes are needed: free space"
        ) from None
    os.replace(partial, path)
    return found


@contextmanager
def journal(folder: Path, key: str) -> Iterator[Journal]:
    """The work in `folder` as a killed process of the same key left it, else from nothing.

    It is forgotten when the block ends, also by an error of the data: those will be other data next time.
    """
    note = folder / "key.json"
    try:
        same = files.read_json(note) == key
    except DataError:  # missing, or damaged
        same = False
    if not same:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files.write_json(note, key)
    try:
        yield Journal(folder)
    except SegpipeError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
