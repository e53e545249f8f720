"""Work on many images that goes on where a killed process stopped."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.core import files
from segpipe.core.arrays import new_array
from segpipe.core.errors import DataError, SegpipeError


class Journal:
    """A folder of arrays that grow image by image, with a journal of what was found in each.

    An image counts as done when its record is in the journal, which is written after its pixels; both are the
    system's by then, so that they outlive the process. A record is a line: the checksum of a JSON text, and the text.
    From the first line that is cut short or damaged on, all are forgotten.
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
        """What the journal holds; what is cut short or damaged is cut off."""
        path, found, end = self.folder / f"{name}.journal", [], 0
        if path.is_file():
            for line in path.read_bytes().splitlines(keepends=True):
                checksum, _, text = line.partition(b" ")
                if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
                    break
                found.append(json.loads(text))
                end += len(line)
            os.truncate(path, end)
        return found

    @contextmanager
    def appending(self, name: str) -> Iterator[Callable[[Any], None]]:
        """A function that appends a record, a value that JSON holds."""
        with open(self.folder / f"{name}.journal", "ab", buffering=0) as stream:

            def append(record: Any) -> None:
                text = json.dumps(record, separators=(",", ":")).encode() + b"\n"
                stream.write(b"%08x %b" % (zlib.crc32(text), text))

            yield append

    def forget(self, name: str) -> None:
        """Drop the records of `name`, which turned out not to be of our making."""
        (self.folder / f"{name}.journal").unlink(missing_ok=True)

    def take(self, name: str, target: Path) -> None:
        """Move a finished array to where it belongs."""
        shutil.move(self.folder / f"{name}.npy", target / f"{name}.npy")


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
