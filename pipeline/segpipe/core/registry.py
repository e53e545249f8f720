"""Names and signatures read from source by `ast`: no import of torch to list what exists."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from typing import Any, TypeVar

from segpipe.core.errors import ConfigError, suggestion

_T = TypeVar("_T")


@dataclass(frozen=True)
class Entry:
    """One registered function: where it is, what it is called, its options and their defaults."""

    name: str
    module: str
    function: str
    options: dict[str, Any]
    summary: str
    source: str
    attributes: dict[str, Any]

    def load(self) -> Callable[..., Any]:
        """Import the function."""
        function: Callable[..., Any] = getattr(import_module(self.module), self.function)
        return function


def register(name: str, *, source: str, **attributes: Any) -> Callable[[_T], _T]:
    """Mark a function or class as an entry; read from the source by `entries`, inert at run time."""
    del name, source, attributes

    def keep(function: _T) -> _T:
        return function

    return keep


@cache
def entries(package: str) -> dict[str, Entry]:
    """All entries of a package, or of one module, by name, in the order of its files and lines."""
    found: dict[str, Entry] = {}
    parent, _, last = package.rpartition(".")
    alone = resources.files(parent) / f"{last}.py"
    files = [alone] if alone.is_file() else sorted(resources.files(package).iterdir(), key=lambda file: file.name)
    for file in files:
        if file.name.endswith(".py"):
            module = package if file is alone else f"{package}.{file.name[:-3]}"
            for entry in _entries_of(module, file.read_text(encoding="utf-8")):
                found[entry.name] = entry
    return found


def find(package: str, kind: str, name: str) -> Entry:
    """The entry called `name`; ConfigError names the near miss."""
    known = entries(package)
    if name not in known:
        raise ConfigError(f"unknown {kind} '{name}'{suggestion(name, known)}")
    return known[name]


def check_options(kind: str, entry: Entry, options: dict[str, Any]) -> None:
    """Refuse an option that the entry does not have, or whose type differs from its default's."""
    for option, value in options.items():
        if option not in entry.options:
            raise ConfigError(f"{kind} '{entry.name}' has no option '{option}'{suggestion(option, entry.options)}")
        default = entry.options[option]
        wanted = next((name for kinds, name in _PLAIN if type(default) is kinds[0]), None)
        allowed = next((kinds for kinds, name in _PLAIN if name == wanted), ())
        if wanted is not None and type(value) not in allowed:
            raise ConfigError(f"{kind} '{entry.name}': {option} is {value!r}, wanted {wanted}, for example {default}")


# The types that a default of the first kind admits; other defaults (None, words) are checked where they are used.
_PLAIN: tuple[tuple[tuple[type, ...], str], ...] = (
    ((bool,), "true or false"),
    ((int,), "a whole number"),
    ((float, int), "a number"),
)


def _entries_of(module: str, source: str) -> list[Entry]:
    found = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            if call is None or not (isinstance(call.func, ast.Name) and call.func.id == "register"):
                continue
            attributes = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
            found.append(
                Entry(
                    name=ast.literal_eval(call.args[0]),
                    module=module,
                    function=node.name,
                    options=_options(node),
                    summary=(ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " "),
                    source=attributes.pop("source"),
                    attributes=attributes,
                )
            )
    return found


def _options(node: ast.FunctionDef | ast.ClassDef) -> dict[str, Any]:
    """Keyword-only arguments with their defaults (of `__init__` for a class)."""
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not inits:
            return {}
        node = inits[0]
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {a.arg: ast.literal_eval(d) if d is not None else ... for a, d in pairs}
