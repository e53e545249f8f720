"""Makes the n-th write, fsync or rename of a process fail, or kills the process there.

`install("fsync:3:EIO")`, `install("rename:1:kill")`; what lies outside of the folder of the process is left alone.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


class _Shim:
    def __init__(self, kind: str, number: int, action: str) -> None:
        self.kind, self.left, self.action, self.top = kind, number, action, f"{Path.cwd()}{os.sep}"

    def strike(self, path: object) -> None:
        """Count a call; act at the one that is meant."""
        if isinstance(path, str | os.PathLike) and not os.path.abspath(path).startswith(self.top):
            return
        self.left -= 1
        if self.left == 0:
            if self.action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            code = getattr(errno, self.action)
            raise OSError(code, os.strerror(code), str(path))

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.strike(arguments[0])
            return function(*arguments, **options)

        return call

    def opened(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            stream = function(file, mode, *arguments, **options)
            if isinstance(file, int) or not set(mode) & set("wax+") or not isinstance(stream, io.IOBase):
                return stream
            write = stream.write

            def struck(data: Any) -> Any:
                self.strike(file)
                return write(data)

            try:
                stream.write = struck  # type: ignore[method-assign]
            except AttributeError:  # a stream of C, which takes no attribute
                return _Stream(stream, struck)
            return stream

        return call


class _Stream:
    """A stream whose writes are counted."""

    def __init__(self, stream: Any, write: Callable[[Any], Any]) -> None:
        self.stream, self.write = stream, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()

    def __iter__(self) -> Any:
        return iter(self.stream)


def install(text: str) -> None:
    """Arm this process."""
    kind, number, action = text.split(":")
    shim = _Shim(kind, int(number), action)
    if kind == "fsync":
        os.fsync = shim.before(os.fsync)
    elif kind == "rename":
        os.replace, os.rename = shim.before(os.replace), shim.before(os.rename)
    else:
        builtins.open = io.open = shim.opened(builtins.open)  # type: ignore[assignment]
