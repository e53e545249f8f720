"""Tensors on disk: bytes that depend on their content alone, never executed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from segpipe.core.errors import DataError
from segpipe.core.files import read_bytes, read_sealed, write_bytes, write_sealed


def save(path: Path, content: object) -> None:
    """Write tensors and plain values to `path`; the folder of a run holds its digest."""
    write_bytes(path, _bytes(content))


def load(path: Path) -> Any:
    """Read what `save` wrote; pickled code is refused, and so is a changed bit where the folder is whole.

    Raises:
        DataError: it is missing, damaged or does not hold plain tensors.
    """
    return _tensors(path, read_bytes(path))


def save_checkpoint(path: Path, content: object) -> None:
    """Replace a checkpoint by one rename: its digest is part of the file."""
    write_sealed(path, _bytes(content))


def load_checkpoint(path: Path) -> Any:
    """Read what `save_checkpoint` wrote.

    Raises:
        DataError: a bit was changed, or it does not hold plain tensors.
    """
    return _tensors(path, read_sealed(path))


def _bytes(content: object) -> bytes:
    """Through memory: torch.save to a path puts the file's name into its bytes."""
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _tensors(path: Path, content: bytes) -> Any:
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path} does not hold plain tensors ({type(error).__name__}); train the run again") from None
