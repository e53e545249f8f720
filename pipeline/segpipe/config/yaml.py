"""YAML through ruamel.yaml, as DVC reads it: both read the same value from the same text (YAML 1.2)."""

from __future__ import annotations

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.representer import RoundTripRepresenter

__all__ = ["MarkedYAMLError", "YAMLError", "edit", "lines", "load"]

_MOST_VALUES, _MOST_CHARACTERS, _DEEPEST = 20_000, 2**20, 50  # a thousand runs are 5000 values, six levels deep


def load(text: str) -> Any:
    """The value of a text.

    Raises:
        YAMLError: it is not YAML, or larger than any parameters are.
    """
    _refuse_bombs(text)
    return YAML(typ="safe", pure=True).load(text)


def _refuse_bombs(text: str) -> None:
    """YAMLError for what would take hours to read: a few lines whose aliases stand for millions of values, nests that
    are deeper than the parser's stack. The events are counted before anything is built of them.
    """
    if len(text) > _MOST_CHARACTERS:
        raise YAMLError(f"{len(text)} characters, wanted at most {_MOST_CHARACTERS}")
    sizes: dict[str, int] = {}  # of what an anchor names, its aliases counted in full
    nodes: list[tuple[str | None, int]] = [(None, 0)]  # those that are open, and what they hold so far
    for event in YAML(typ="safe", pure=True).parse(text):
        anchor, size = getattr(event, "anchor", None), 1
        where = f"line {event.start_mark.line + 1}: "
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            nodes.append((anchor, 1))
            if len(nodes) > _DEEPEST:
                raise YAMLError(f"{where}nested deeper than {_DEEPEST} levels")
            continue
        if isinstance(event, MappingEndEvent | SequenceEndEvent):
            anchor, size = nodes.pop()
        elif isinstance(event, AliasEvent):
            if anchor is None or anchor not in sizes:
                raise YAMLError(f"{where}alias '*{anchor}' is undefined or refers to itself")
            size, anchor = sizes[anchor], None
        elif not isinstance(event, ScalarEvent):
            continue
        if anchor is not None:
            sizes[anchor] = size
        nodes[-1] = (nodes[-1][0], nodes[-1][1] + size)
        if sum(held for _, held in nodes) > _MOST_VALUES:
            raise YAMLError(f"{where}more than {_MOST_VALUES} values")


def lines(text: str) -> dict[tuple[str, ...], int]:
    """The line, from 1, of every key by its path, and of every item by its number."""
    found: dict[tuple[str, ...], int] = {}

    def walk(node: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, CommentedMap):
            for key, value in node.items():
                found[(*path, str(key))] = node.lc.key(key)[0] + 1
                walk(value, (*path, str(key)))
        elif isinstance(node, CommentedSeq):
            for number, value in enumerate(node):
                found[(*path, str(number))] = node.lc.item(number)[0] + 1
                walk(value, (*path, str(number)))

    walk(_commented().load(text), ())
    return found


def edit(text: str, changes: dict[str, Any]) -> str:
    """`text` with the values at dotted paths replaced; comments stay.

    Raises:
        KeyError: a path that is not there.

    >>> edit("a:\\n  b: 2  # one\\n", {"a.b": 3})
    'a:\\n  b: 3  # one\\n'
    """
    yaml = _commented()
    data = yaml.load(text)
    for path, value in changes.items():
        *above, last = path.split(".")
        node = data
        for key in above:
            if not isinstance(node, CommentedMap) or key not in node:
                raise KeyError((*above, last))
            node = node[key]
        if not isinstance(node, CommentedMap) or last not in node:
            raise KeyError((*above, last))
        node[last] = _flow(value)
    stream = io.StringIO()
    yaml.dump(data, stream)
    return re.sub(r"^( .*\n)(?=\w)", r"\1\n", stream.getvalue(), flags=re.MULTILINE)  # a blank line between sections


class _Representer(RoundTripRepresenter):
    """Writes null as null."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _commented() -> YAML:
    """Keeps comments, quotes and the order of keys."""
    yaml = YAML(typ="rt", pure=True)
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 1000
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _flow(value: Any) -> Any:
    """Lists, and what is in them, on one line; sections in lines of their own."""
    if isinstance(value, dict):
        found = CommentedMap((key, _flow(item)) for key, item in value.items())
        if not value:
            found.fa.set_flow_style()
        return found
    if isinstance(value, list):
        items = CommentedSeq(_flow(item) for item in value)
        items.fa.set_flow_style()
        return items
    return value
