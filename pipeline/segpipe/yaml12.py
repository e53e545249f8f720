"""YAML 1.2 with PyYAML, so that segpipe and DVC read the same value from the same text.

PyYAML follows YAML 1.1, where `1e-4` is a string, `on` a bool and `010` eight. The resolvers
and constructors here are those that DVC's reader applies.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_BOOL, _FLOAT, _INT, _NULL = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "null"))
_RESOLVERS = (
    (_BOOL, r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    (
        _FLOAT,
        r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)"
        r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    (_INT, r"^(?:[-+]?0b[0-1_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+)$", "-+0123456789"),
    ("tag:yaml.org,2002:merge", r"^(?:<<)$", "<"),
    (
        "tag:yaml.org,2002:timestamp",
        r"^(?:\d{4}-\d\d-\d\d|\d{4}-\d\d?-\d\d?(?:[Tt]|[ \t]+)\d\d?:\d\d:\d\d(?:\.\d*)?"
        r"(?:[ \t]*(?:Z|[-+]\d\d?(?::\d\d)?))?)$",
        "0123456789",
    ),
    (_NULL, r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
)


class Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2; a key given twice is an error."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML declares it so

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping whose keys occur once."""
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' occurs twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _construct_int(loader: Loader, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    for prefix, base in (("0b", 2), ("0x", 16), ("0o", 8)):
        if digits.startswith(prefix):
            return sign * int(digits[2:], base)
    return sign * int(digits)


def _construct_float(loader: Loader, node: Any) -> float:
    text = loader.construct_scalar(node).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in _RESOLVERS:
    Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))
Loader.add_constructor(_INT, _construct_int)
Loader.add_constructor(_FLOAT, _construct_float)


def load(text: str) -> Any:
    """The value of a YAML 1.2 text."""
    return yaml.load(text, Loader)  # noqa: S506  # a SafeLoader


def nodes(text: str) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """(key node, value node) of every mapping entry by its path; nodes know their place in the text."""
    found: dict[tuple[str, ...], tuple[Any, Any]] = {}

    def walk(node: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(key.value))
                found[here] = (key, value)
                walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                found[(*path, str(index))] = (item, item)
                walk(item, (*path, str(index)))

    walk(yaml.compose(text, Loader), ())
    return found


def edit(text: str, changes: dict[str, Any]) -> str:
    """`text` with the values at dotted paths replaced; comments elsewhere stay.

    >>> edit("a:\\n  b: 1  # one\\n", {"a.b": 2})
    'a:\\n  b: 2  # one\\n'
    """
    for path, value in changes.items():
        key, node = nodes(text)[tuple(path.split("."))]
        block_node = isinstance(node, yaml.CollectionNode) and not node.flow_style
        if block_node and not value:
            text = f"{text[: key.end_mark.index + 1]} {value}\n\n{text[node.end_mark.index :]}"
        elif isinstance(value, dict) and value:
            block = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
            indent = " " * (key.start_mark.column + 2)
            new = "\n" + "".join(f"{indent}{line}\n" for line in block.splitlines())
            start, end = key.end_mark.index + 1, node.end_mark.index
            text = text[:start] + new + "\n" + text[end:].lstrip("\n")
        else:
            new = yaml.safe_dump(value, default_flow_style=True, width=1000).split("\n...")[0].strip()
            text = text[: node.start_mark.index] + new + text[node.end_mark.index :]
    return text
