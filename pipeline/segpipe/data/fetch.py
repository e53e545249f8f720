"""Downloads that resume, are checked while they stream, and appear whole or not at all.

A file is tried at every place that has it, in order: mirrors of the user, then the publisher's. What came of it
stays as `.part`, so that the next try, or the next call, goes on where the last one stopped.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from segpipe.core import files
from segpipe.core.errors import DataError
from segpipe.data.card import DIGESTS, Remote

MIRROR = "SEGPIPE_MIRROR"  # a folder, or an address, that holds files by name: directly or in a folder of the dataset
_BLOCK = 2**20
_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # answers that may change
_LONGEST = 60.0  # seconds that a server may ask us to wait


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for: seconds of silence, tries that bring no byte, seconds before the second try."""

    silence: float = 30.0
    tries: int = 5
    pause: float = 1.0


@dataclass(frozen=True)
class Fetched:
    """Where a file is now, and what it is."""

    path: Path
    sha256: str
    bytes: int
    origin: str


class _Gone(Exception):
    """This place has no such file, or a wrong one: another may."""


class _Cut(Exception):
    """The stream ended early or did not begin: the same place may go on."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(
    remote: Remote,
    folder: Path,
    *,
    dataset: str = "",
    patience: Patience | None = None,
    most_bytes: int = 2**38,
    log: Callable[[str], None] = print,
) -> Fetched:
    """The file in `folder`, downloaded unless it is there and right.

    Args:
        remote: what to get.
        folder: where to; it also holds what is not yet whole, as `NAME.part`.
        dataset: the folder's name on a mirror.
        patience: with servers.
        most_bytes: a longer file is refused where its length is not known beforehand.
        log: takes a line for each place that failed.

    Raises:
        DataError: no place has it, all have another file, or the disk is full; what came so far is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, patience = folder / remote.name, patience or Patience()
    if path.is_file():
        return checked(remote, path)
    failed = []
    for url in places(remote, dataset):
        try:
            return _from(remote, url, path, patience, remote.bytes or most_bytes)
        except _Gone as error:
            failed.append(f"{url}: {error}")
            log(f"warning: {failed[-1]}")
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror or error}; free space or its mode") from None
    kept = path.with_name(path.name + ".part")
    rest = f"; {kept} holds {_size(kept)} bytes, the next call goes on there" if _size(kept) else ""
    where = "; ".join(failed) or "no address is known"
    raise DataError(
        f"{remote.name} could not be downloaded ({where}){rest}; put the file into {folder} or into a folder named by "
        f"{MIRROR} and run again"
    )


def checked(remote: Remote, path: Path) -> Fetched:
    """A file that lies there; DataError when it is not what it must be."""
    sums = _Sums(path)
    if wrong := sums.wrong(remote):
        raise DataError(f"{path} is another file: {wrong}; delete it and get it again")
    return Fetched(path, sums.hex("sha256"), sums.bytes, str(path))


def places(remote: Remote, dataset: str = "") -> list[str]:
    """Addresses of a file in the order in which they are tried; a mirror's come first."""
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    if not mirror:
        return list(remote.urls)
    if not urllib.parse.urlsplit(mirror).scheme:
        mirror = Path(mirror).expanduser().absolute().as_uri()
    name = urllib.parse.quote(remote.name)
    return [*([f"{mirror}/{dataset}/{name}"] if dataset else []), f"{mirror}/{name}", *remote.urls]


def _from(remote: Remote, url: str, path: Path, patience: Patience, most: int) -> Fetched:
    """The file from one place, with as many tries as patience allows."""
    part = path.with_name(path.name + ".part")
    sums = _Sums(part)
    reached, idle, restarted = sums.bytes, 0, False
    while True:
        before = sums.bytes
        try:
            _stream(remote, url, part, patience, most, sums)
        except _Cut as error:
            grown = sums.bytes > reached  # more than ever: going in circles is no progress
            reached, idle = max(reached, sums.bytes), 0 if grown else idle + 1
            if idle >= patience.tries:
                raise _Gone(str(error)) from None
            wait = patience.pause * 2 ** (idle - 1) if error.wait is None else error.wait
            time.sleep(0 if grown else min(_LONGEST, wait))
            continue
        wrong = sums.wrong(remote)
        if not wrong and _size(part) == sums.bytes:
            os.replace(part, path)
            _discard(part)
            return Fetched(path, sums.hex("sha256"), sums.bytes, url)
        _discard(part)
        sums.clear()
        if before == 0 or restarted:
            raise _Gone(f"another file: {wrong or 'written by two processes'}")
        restarted = True  # what came before may have been of another version: once more from the start


def _stream(remote: Remote, url: str, part: Path, patience: Patience, most: int, sums: _Sums) -> None:
    """Append what the place still has to `part`; `sums` are those of the whole."""

    note = _read_note(part)
    version = note.get("version") if note.get("url") == url else None
    if sums.bytes and not remote.digests and not version:
        _restart(part, sums)  # nothing would tell two versions apart
    headers = {"User-Agent": "segpipe", "Accept-Encoding": "identity"}
    if sums.bytes:
        headers["Range"] = f"bytes={sums.bytes}-"
        if version:
            headers["If-Range"] = version
    with _open(url, headers, patience.silence, part) as answer:
        if answer is None:
            return
        now = _version(answer)
        if answer.status == 206:
            start, total = _range(answer)
            if start != sums.bytes or (version and now not in ("", version)):
                _restart(part, sums)
                raise _Cut("an answer to another range, or of another version")
        else:  # from the start: ranges are not known there, or the file has changed
            sums.clear()
            total = _length(answer)
        if total is not None and (total > most or total != (remote.bytes or total)):
            raise _Gone(f"{total} bytes, wanted {remote.bytes or f'at most {most}'}")
        _need_space(part.parent, (total or 0) - sums.bytes)
        files.write_json(_note(part), {"url": url, "version": now})
        with (
            open(part, "ab" if sums.bytes else "wb") as stream,
            tqdm(None, remote.name, total, unit="B", unit_scale=True, initial=sums.bytes, disable=None) as bar,
        ):
            for block in _blocks(answer):
                if sums.bytes + len(block) > most:
                    raise _Gone(f"more than {most} bytes")
                stream.write(block)
                sums.update(block)
                bar.update(len(block))
        if total is not None and sums.bytes != total:
            raise _Cut(f"the stream ended after {sums.bytes} of {total} bytes")


def _restart(part: Path, sums: _Sums) -> None:
    _discard(part)
    sums.clear()


def _version(answer: HTTPResponse) -> str:
    """What tells two versions of a file apart, "" where nothing does: a weak ETag does not."""
    tag = answer.headers.get("ETag", "")
    found: str = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    return found


@contextmanager
def _open(url: str, headers: dict[str, str], silence: float, part: Path) -> Iterator[HTTPResponse | None]:
    """The answer of a place, None where `part` is whole already; what fails says whether another try is of use."""
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=silence)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            whole = error.headers.get("Content-Range", "").rpartition("/")[2]
            if whole == str(_size(part)):
                yield None
                return
            raise _Gone("it is shorter there than what came before; delete the .part file") from None
        if error.code in _AGAIN:
            raise _Cut(f"answer {error.code} {error.reason}", _seconds(error.headers.get("Retry-After"))) from None
        raise _Gone(f"answer {error.code} {error.reason}") from None
    except (TimeoutError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if url.startswith("file:") or isinstance(error, ValueError):
            raise _Gone(getattr(reason, "strerror", None) or str(reason)) from None
        raise _Cut(str(reason) or type(reason).__name__) from None
    with answer:
        yield answer


class _Sums:
    """Length and digests of what was written so far."""

    def __init__(self, path: Path) -> None:
        self.clear()
        if path.is_file():
            with open(path, "rb") as stream:
                while block := stream.read(_BLOCK):
                    self.update(block)

    def clear(self) -> None:
        self.bytes, self._each = 0, {kind: hashlib.new(kind, usedforsecurity=False) for kind in DIGESTS}

    def update(self, block: bytes) -> None:
        self.bytes += len(block)
        for each in self._each.values():
            each.update(block)

    def hex(self, kind: str) -> str:
        return self._each[kind].hexdigest()

    def wrong(self, remote: Remote) -> str | None:
        """How this differs from what it must be, or None."""
        if remote.bytes not in (None, self.bytes):
            return f"{self.bytes} bytes, wanted {remote.bytes}"
        for kind, wanted in remote.digests.items():
            if self.hex(kind) != wanted:
                return f"{kind} is {self.hex(kind)}, wanted {wanted}"
        return None


def _blocks(answer: HTTPResponse) -> Iterator[bytes]:
    """The rest of a stream as it comes; a break of any kind becomes one error."""
    read = getattr(answer, "read1", answer.read)
    while True:
        try:
            block = read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(f"the stream broke off ({error or type(error).__name__})") from None
        if not block:
            return
        yield block


def _length(answer: HTTPResponse) -> int | None:
    given = answer.headers.get("Content-Length", "")
    return int(given) if given.isdigit() else None


def _range(answer: HTTPResponse) -> tuple[int, int | None]:
    """First byte and whole length of `Content-Range: bytes 5-9/10`."""
    unit, _, span = answer.headers.get("Content-Range", "").partition(" ")
    first, _, whole = span.partition("/")
    start = first.partition("-")[0]
    if unit != "bytes" or not start.isdigit():
        raise _Cut(f"an answer to another range: '{unit} {span}'")
    return int(start), int(whole) if whole.isdigit() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None


def _need_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(f"{folder} has {free} bytes free, wanted {wanted} more; free space and run again")


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> dict[str, Any]:
    try:
        found = json.loads(_note(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
