"""The text of a loss: `focal(gamma=2)`, `0.25*ce(label_smoothing=0.1) + 0.75*jml(average=class)`.

The grammar is that of `core.spec`. No torch here: parameters are checked before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segpipe.core import registry
from segpipe.core import spec as grammar
from segpipe.core.errors import ConfigError, suggestion
from segpipe.core.spec import Term

PACKAGE = "segpipe.losses"
EXAMPLE = "0.25*ce + 0.75*jml(average=class)"


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
    terms = grammar.parse(spec, "loss", EXAMPLE)
    if options:
        if len(terms) != 1:
            raise ConfigError(f"options {sorted(options)} fit no single loss in '{spec}'; write them inside it")
        terms = [replace(terms[0], options={**terms[0].options, **options})]
    for term in terms:
        entry = registry.find(PACKAGE, "loss", term.name)
        registry.check_options("loss", entry, dict(term.options))
    return tuple(terms)


@dataclass(frozen=True)
class Compound:
    """A loss as it was written, with its terms: read once, and carried from params.yaml to the criterion."""

    text: str
    terms: tuple[Term, ...]

    @staticmethod
    def read(text: str) -> Compound:
        """The loss in a text; ConfigError when it names an unknown loss or option.

        >>> [term.name for term in Compound.read("0.25*ce + 0.75*jml").terms]
        ['ce', 'jml']
        """
        return Compound(text, parse(text))

    def __str__(self) -> str:
        return self.text

    @property
    def schemes(self) -> list[str]:
        """The schemes of class weights or frequencies that it names, in the order of its terms.

        >>> Compound.read("ce(class_weights=median_frequency) + prob_match(prior=batch)").schemes
        ['median_frequency']
        """
        return [name for term in self.terms for name in _named(term).values()]

    def with_class_weights(self, schemes: Mapping[str, Sequence[float]]) -> Compound:
        """The same with each named scheme of class weights replaced by its numbers.

        >>> str(Compound.read("ce(class_weights=inverse)").with_class_weights({"inverse": [0.5, 1.5]}))
        'ce(class_weights=[0.5, 1.5])'
        """
        terms = []
        for term in self.terms:
            for option, scheme in _named(term).items():
                if scheme not in schemes:
                    raise ConfigError(f"unknown class weights '{scheme}'{suggestion(scheme, schemes)}")
                term = replace(term, options={**term.options, option: list(schemes[scheme])})
            terms.append(term)
        return Compound(" + ".join(map(str, terms)), tuple(terms))


def wants_hard_labels(term: Term) -> bool:
    """True for a term that refuses soft targets."""
    entry = registry.find(PACKAGE, "loss", term.name)
    distance = term.name == "spatial" and term.options.get("kind") == "distance"
    return distance or entry.attributes.get("needs") == "hard labels"


def takes_soft_labels(name: object) -> bool:
    """True for the name of a loss that takes soft targets and needs no option."""
    return isinstance(name, str) and name in names() and not any(map(wants_hard_labels, parse(name)))


PER_CLASS = ("class_weights", "alpha", "prior")  # options that hold one number a class, or the name of such


def _named(term: Term) -> dict[str, str]:
    """The per-class options of a term that are given by name; a word of the loss's own is none."""
    own = registry.find(PACKAGE, "loss", term.name).options
    given = {option: term.options.get(option) for option in PER_CLASS}
    return {option: value for option, value in given.items() if isinstance(value, str) and value != own[option]}
