"""params.yaml: read as DVC reads it; every error names file, line and key path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from segpipe.config import yaml
from segpipe.config.schema import NAME, NAME_RULE, Params
from segpipe.config.sections import sentence
from segpipe.core.errors import ConfigError, suggestion

FILE = Path("params.yaml")

__all__ = ["FILE", "NAME", "NAME_RULE", "Params", "load", "parse", "read_text"]


def load(path: Path = FILE, overrides: Sequence[str] = ()) -> Params:
    """The parameters of a file, with `a.b=value` overrides.

    Raises:
        ConfigError: file missing, not YAML, unknown key, wrong type or value; with the line.
    """
    return parse(read_text(path), str(path), overrides)


def read_text(path: Path = FILE) -> str:
    """The text of params.yaml."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing here; change into a segpipe folder or make one with `segpipe init scenes`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def parse(text: str, name: str = "params.yaml", overrides: Sequence[str] = ()) -> Params:
    """The parameters in a text; `name` stands in error messages."""
    try:
        data = yaml.load(text)
    except yaml.MarkedYAMLError as error:
        mark, twice = error.problem_mark, re.match(r'found duplicate key "(.*?)"', str(error.problem))
        problem = f"the key '{twice[1]}' occurs twice" if twice else error.problem
        raise ConfigError(f"{name}:{mark.line + 1 if mark else 1}: not valid YAML: {problem}") from None
    except Exception as error:  # a wrong tag raises what its constructor meets
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{name} holds {type(data).__name__}, wanted sections such as 'train:'")
    _check_keys(data, name)
    for override in overrides:
        _set(data, override)
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        explained = _explained(first)
        named = re.match(r"[\w.]+", explained)  # a check across sections names its path itself
        path = tuple(str(part) for part in first["loc"]) or tuple(named.group().split(".") if named else ())
        guilty = [o for o in overrides if path and o.partition("=")[0].strip() == ".".join(path)]
        if guilty:
            raise ConfigError(f"--set {guilty[-1]}: {explained}") from None
        places = yaml.lines(text)
        while path and path not in places:
            path = path[:-1]
        line = f":{places[path]}" if path else ""
        raise ConfigError(f"{name}{line}: {explained}") from None


def _check_keys(data: object, name: str, path: tuple[str, ...] = ()) -> None:
    """ConfigError for a key that is no word: a number, a truth value, a list."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        if isinstance(data, dict) and not isinstance(key, str):
            raise ConfigError(
                f"{name}: the key {key!r} of {'.'.join(path) or 'the file'} is not text; quote or rename it"
            )
        _check_keys(value, name, (*path, str(key)))


def _set(data: dict[str, Any], override: str) -> None:
    """Apply one `a.b=value` to nested dicts; the path must exist or be a new option of an existing section."""
    path, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: wanted KEY=VALUE, for example train.epochs=3")
    parts = path.strip().split(".")
    node: Any = data
    for depth, part in enumerate(parts[:-1]):
        if isinstance(node, dict) and node.get(part) is None and depth > 0:
            node[part] = {}
        if not isinstance(node, dict) or part not in node:
            known = node if isinstance(node, dict) else {}
            raise ConfigError(
                f"--set {override}: no parameter '{'.'.join(parts[: depth + 1])}'{suggestion(part, known)}"
            )
        node = node[part]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {override}: '{'.'.join(parts[:-1])}' holds a value, not a section")
    if len(parts) == 1 and parts[0] not in node:
        raise ConfigError(f"--set {override}: no parameter '{path}'{suggestion(path, node)}")
    try:
        node[parts[-1]] = yaml.load(text)
    except Exception:
        raise ConfigError(f"--set {override[:80]}: '{text[:80]}' is not valid YAML") from None
    if parts == ["model", "name"]:  # another network has other options
        data["model"] = {"name": node["name"]}


def _explained(error: Any) -> str:
    """Key path, what was found, what was wanted."""
    path = ".".join(str(part) for part in error["loc"])
    section: Any = Params
    for part in error["loc"][:-1]:
        section = _field_type(section, str(part))
    return f"{path}: {sentence(error, section)}" if path else sentence(error, section)


def _field_type(section: Any, name: str) -> Any:
    """The model behind a field, through dicts and lists, for near misses."""
    fields = getattr(section, "model_fields", None)
    if fields is None:
        return section
    annotation = fields[name].annotation if name in fields else None
    arguments = getattr(annotation, "__args__", ())
    for candidate in (annotation, *arguments):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
        for inner in getattr(candidate, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                return inner
    return None
