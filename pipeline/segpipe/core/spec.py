"""The text of a choice: a name with options, `focal(gamma=2)`, or a weighted sum of such.

compound = term { "+" term }
term     = [ number "*" ] name [ "(" [ option { "," option } ] ")" ]
option   = key "=" value
value    = number | word | "[" values "]" | "{" key ":" value { "," ... } "}"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segpipe.core import registry
from segpipe.core.errors import ConfigError

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<word>\w+)|(?P<sign>[-+*()\[\]{},=:]))"
)
_WORDS = {"true": True, "false": False, "none": None, "null": None, "inf": float("inf")}


@dataclass(frozen=True)
class Term:
    """A name with its options and the weight that it has in a sum."""

    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={_text(value)}" for key, value in self.options.items())
        weight = "" if self.weight == 1 else f"{self.weight!r}*"
        return f"{weight}{self.name}" + (f"({options})" if options else "")


def parse(text: str, kind: str, example: str) -> list[Term]:
    """The terms of a sum; an error says `kind` and shows the `example`."""
    return _Parser(text, kind, example).compound()


def choose(package: str, kind: str, text: str) -> tuple[registry.Entry, dict[str, Any]]:
    """The one entry that a text names, and its checked options.

    Raises:
        ConfigError: the text cannot be read, or names no entry or option of the package.
    """
    terms = parse(text, kind, f"{next(iter(registry.entries(package)))}")
    if len(terms) != 1 or terms[0].weight != 1:
        raise ConfigError(f"{kind} '{text}': wanted one name with options, not a sum")
    entry, options = registry.find(package, kind, terms[0].name), dict(terms[0].options)
    registry.check_options(kind, entry, options)
    return entry, options


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, kind: str, example: str) -> None:
        self.text, self.kind, self.example = text, kind, example
        self.tokens: list[tuple[str, str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"cannot read '{text[position:].strip()[:12]}'")
            self.tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            position = match.end()

    def error(self, why: str) -> ConfigError:
        return ConfigError(f"{self.kind} '{self.text}': {why}; write for example '{self.example}'")

    def peek(self) -> str:
        return self.tokens[0][1] if self.tokens else ""

    def take(self, wanted: str | None = None) -> tuple[str, str]:
        if not self.tokens:
            raise self.error(f"ends where {wanted or 'a value'} was expected")
        kind, value = self.tokens.pop(0)
        if wanted is not None and wanted not in (value, kind):
            raise self.error(f"found '{value}' where {wanted} was expected")
        return kind, value

    def compound(self) -> list[Term]:
        terms = [self.term()]
        while self.tokens:
            if self.tokens[0][0] == "number" and self.peek().startswith("+"):
                self.tokens[0] = ("number", self.peek()[1:])  # "a +0.5*b" lexes the sign with the number
            else:
                self.take("+")
            terms.append(self.term())
        return terms

    def term(self) -> Term:
        weight = 1.0
        if self.tokens and self.tokens[0][0] == "number":
            weight = float(self.take()[1])
            self.take("*")
            if weight < 0:
                raise self.error("a weight is negative")
        name = self.take("word")[1]
        options: dict[str, Any] = {}
        if self.peek() == "(":
            self.take("(")
            while self.peek() != ")":
                key = self.take("word")[1]
                self.take("=")
                options[key] = self.value()
                if self.peek() != ")":
                    self.take(",")
            self.take(")")
        return Term(name, weight, options)

    def value(self) -> Any:
        kind, text = self.take()
        if kind == "number":
            return float(text) if re.search(r"[.eE]", text) else int(text)
        if kind == "word":
            return _WORDS.get(text.lower(), text)
        if text == "[":
            return self.sequence("]", self.value)
        if text == "{":
            return dict(self.sequence("}", self.pair))
        raise self.error(f"found '{text}' where a value was expected")

    def pair(self) -> tuple[str, Any]:
        key = self.take("word")[1]
        self.take(":")
        return key, self.value()

    def sequence(self, closing: str, item: Any) -> list[Any]:
        items = []
        while self.peek() != closing:
            items.append(item())
            if self.peek() != closing:
                self.take(",")
        self.take(closing)
        return items


def _text(value: Any) -> str:
    """A value as the grammar reads it back."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
