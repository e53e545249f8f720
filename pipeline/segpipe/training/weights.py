"""Tensors on disk: bytes that depend on their content alone, checked by sha256, never executed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from segpipe.core.errors import DataError
from segpipe.core.files import digest, write_bytes, write_text


def save(path: Path, content: Any) -> None:
    """Write tensors and plain values to `path` and their sha256 beside it.

    Saved through memory: torch.save to a path puts the file's name into its bytes.
    """
    stream = io.BytesIO()
    torch.save(content, stream)
    write_bytes(path, stream.getvalue())
    write_text(_sidecar(path), digest(stream.getvalue()) + "\n")


def load(path: Path) -> Any:
    """Read what `save` wrote; a changed bit is an error, pickled code is refused."""
    try:
        content = Path(path).read_bytes()
        wanted = _sidecar(path).read_text().strip()
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing; train the run again") from None
    if digest(content) != wanted:
        raise DataError(
            f"{path} does not match its sha256, so it is damaged; delete its folder and train the run again"
        )
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path} does not hold plain tensors ({type(error).__name__}); train the run again") from None


def _sidecar(path: Path) -> Path:
    return Path(path).with_name(Path(path).name + ".sha256")
