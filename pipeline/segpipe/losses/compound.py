"""The text of a loss: `focal(gamma=2)`, `0.25*ce(label_smoothing=0.1) + 0.75*jml(average=class)`.

    compound = term { "+" term }
    term     = [ number "*" ] name [ "(" [ option { "," option } ] ")" ]
    option   = key "=" value
    value    = number | word | "[" values "]" | "{" key ":" value { "," ... } "}"

No torch here: parameters are checked before anything heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from segpipe.core import registry
from segpipe.core.errors import ConfigError, suggestion

PACKAGE = "segpipe.losses"
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<word>\w+)|(?P<sign>[-+*()\[\]{},=:]))"
)
_WORDS = {"true": True, "false": False, "none": None, "null": None, "inf": float("inf")}


@dataclass(frozen=True)
class Term:
    """One weighted loss of a compound."""

    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={_text(value)}" for key, value in self.options.items())
        weight = "" if self.weight == 1 else f"{self.weight!r}*"
        return f"{weight}{self.name}" + (f"({options})" if options else "")


def names() -> tuple[str, ...]:
    """The names of all losses.

    >>> "focal" in names()
    True
    """
    return tuple(registry.entries(PACKAGE))


def parse(spec: str, options: Mapping[str, Any] | None = None) -> tuple[Term, ...]:
    """The terms of a compound; `options` go to a single bare name. Names and options are checked.

    >>> [str(term) for term in parse("0.25*ce + 0.75*jml(average=class)")]
    ['0.25*ce', '0.75*jml(average=class)']
    """
    parser = _Parser(spec)
    terms = parser.compound()
    if options:
        if len(terms) != 1:
            raise ConfigError(f"options {sorted(options)} fit no single loss in '{spec}'; write them inside it")
        terms = [replace(terms[0], options={**terms[0].options, **options})]
    for term in terms:
        entry = registry.find(PACKAGE, "loss", term.name)
        registry.check_options("loss", entry, dict(term.options))
    return tuple(terms)


def check(spec: str) -> str:
    """`spec` itself when it names known losses and options, else ConfigError."""
    parse(spec)
    return spec


PER_CLASS = ("class_weights", "alpha", "prior")  # options that hold one number a class, or the name of such


def _named(term: Term) -> dict[str, str]:
    """The per-class options of a term that are given by name; a word of the loss's own is none."""
    own = registry.find(PACKAGE, "loss", term.name).options
    given = {option: term.options.get(option) for option in PER_CLASS}
    return {option: value for option, value in given.items() if isinstance(value, str) and value != own[option]}


def scheme_names(spec: str) -> list[str]:
    """The schemes of class weights or frequencies that a loss names, in the order of its terms.

    >>> scheme_names("ce(class_weights=median_frequency) + prob_match(prior=batch)")
    ['median_frequency']
    """
    return [name for term in parse(spec) for name in _named(term).values()]


def with_class_weights(spec: str, schemes: Mapping[str, Sequence[float]]) -> str:
    """`spec` with each named class-weight scheme replaced by its numbers.

    >>> with_class_weights("ce(class_weights=inverse)", {"inverse": [0.5, 1.5]})
    'ce(class_weights=[0.5, 1.5])'
    """
    terms = []
    for term in parse(spec):
        for option, scheme in _named(term).items():
            if scheme not in schemes:
                raise ConfigError(f"unknown class weights '{scheme}'{suggestion(scheme, schemes)}")
            term = replace(term, options={**term.options, option: list(schemes[scheme])})
        terms.append(term)
    return " + ".join(map(str, terms))


class _Parser:
    """Recursive descent over the tokens of one compound."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"cannot read '{text[position:].strip()[:12]}'")
            self.tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            position = match.end()

    def error(self, why: str) -> ConfigError:
        return ConfigError(f"loss '{self.text}': {why}; write for example '0.25*ce + 0.75*jml(average=class)'")

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
