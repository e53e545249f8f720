"""A loss function from a file of one's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segpipe.core.errors import ConfigError, suggestion


def load_function(spec: str) -> Callable[..., Any]:
    """The function `name` of `path/to/file.py:name`; a class is made without arguments.

    Raises:
        ConfigError: the file is missing or fails, or holds no such name.
    """
    path, _, name = spec.rpartition(":")
    found = importlib.util.spec_from_file_location("own_loss", path) if Path(path).is_file() else None
    if found is None or found.loader is None:
        raise ConfigError(f"{path} is no file; give path/to/own_loss.py:function")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{path} has no function '{name}'{suggestion(name, vars(module))}")
    made: Callable[..., Any] = function() if isinstance(function, type) else function
    return made
