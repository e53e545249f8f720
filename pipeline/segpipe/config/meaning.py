"""What code means: the parts of the package that a function really reaches, without their words and types.

A part is a function, a class without its methods, a method, or a constant of a module. From a function the search
follows the names that it uses, through imports, to other parts; a method counts when some reached code names an
attribute like it. Docstrings, comments, annotations, messages of errors, and what is printed or logged are left out,
and so are positions: a part that moves into another file means the same. What is chosen by name at run time
(losses, networks) cannot be followed; the caller gives it as a root.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segpipe.config.source import Chain, Module, Node, Uses, chain_of, header, is_ours, methods_of, parse, read

_PLAIN_BASES = ("object", "ABC", "Protocol", "Generic", "Exception", "ValueError", "NamedTuple")


@dataclass(frozen=True)
class Part:
    """A part of a module: `method` is empty unless it is a method of the class `name`."""

    module: str
    name: str
    method: str = ""


@dataclass
class _Methods:
    """Of a class: those that may always be called, by Python itself or by a base from elsewhere, and others by name."""

    always: list[Part] = field(default_factory=list)
    by_name: dict[str, Part] = field(default_factory=dict)

    def called(self, words: AbstractSet[str]) -> Iterator[Part]:
        """Those that a word may call."""
        yield from (self.by_name[name] for name in self.by_name.keys() & words)


class Package:
    """The source of a package, parsed as far as it is reached.

    root: the folder of the package. left_out: modules, or packages, that no search enters. values: modules of
    parameters, whose classes mean nothing beside the values, which the caller digests: a new field, another name or
    place changes no meaning. Their methods count where they are called.
    """

    def __init__(self, root: Path, left_out: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        self.root, self.left_out, self.values = root, tuple(left_out), tuple(values)
        self._modules: dict[str, Module | None] = {}
        self._uses: dict[Part, Uses] = {}
        self._texts: dict[Part, str] = {}
        self._targets: dict[Part, list[tuple[str, Part]]] = {}
        self._classes: dict[Part, _Methods] = {}

    def digest(self, roots: Iterable[tuple[str, str]]) -> str:
        """sha256 of what the roots, given as (module, name), reach.

        Neither the name of a part nor its place counts, only what it means: its own text at first, then that with the
        meaning of whatever it refers to, until a round tells no more parts apart (Weisfeiler and Leman 1968).
        """
        means = {part: self._text(part) for part in self.reached(roots) if not self._is_value(part)}
        edges = {part: {(chain, to) for chain, to in self._edges(part) if to in means} for part in means}
        before = 0
        while before < (kinds := len(set(means.values()))):
            before = kinds
            means = {
                part: _sha256([text, sorted({(chain, means[to]) for chain, to in edges[part]})])
                for part, text in means.items()
            }
        return _sha256(sorted(means.values()))

    def reached(self, roots: Iterable[tuple[str, str]]) -> set[Part]:
        """All parts that the roots reach, themselves included."""
        found: set[Part] = set()
        classes: set[Part] = set()
        modules: set[str] = set()
        words: set[str] = set()
        waiting = [part for module, name in roots for part in self._resolve(module, name)]
        while waiting:
            part = waiting.pop()
            if part in found:
                continue
            found.add(part)
            uses = self.uses(part)
            fresh = uses.words - words
            words |= fresh
            waiting += [to for _, to in self._edges(part)]
            if part.module not in modules:
                modules.add(part.module)
                waiting += self._statements(part.module)
            waiting += [method for one in classes for method in self._methods(one).called(fresh)]
            if self._is_class(part):
                classes.add(part)
                waiting += [*self._methods(part).always, *self._methods(part).called(words)]
        return found

    def lines(self, part: Part) -> list[tuple[int, int]]:
        """The first and last line of each statement of a part, decorators included."""
        found = []
        for node in self._nodes(part):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            found.append((first, node.end_lineno or first))
        return found

    def _nodes(self, part: Part) -> list[Node]:
        module = self._module(part.module)
        assert module is not None
        if part.name == "":
            return list(module.always)
        if part.method:
            return [n for c in module.parts[part.name] for n in methods_of(c) if n.name == part.method]
        return [header(n) if isinstance(n, ast.ClassDef) else n for n in module.parts[part.name]]

    def uses(self, part: Part) -> Uses:
        """What a part refers to."""
        if part not in self._uses:
            uses = read(self._nodes(part))
            if self._is_value(part):
                uses = replace(uses, text="", chains=frozenset(self._bases(part)), words=frozenset())
            self._uses[part] = uses
        return self._uses[part]

    def _text(self, part: Part) -> str:
        """A hash of what a part says, with what its names mean that come from other packages."""
        if part not in self._texts:
            self._texts[part] = self._hash(part)
        return self._texts[part]

    def _hash(self, part: Part) -> str:
        uses, module = self.uses(part), self._module(part.module)
        assert module is not None
        known = {**module.imports, **uses.imports}
        outside = sorted({(c[0], *known[c[0]]) for c in uses.chains if c[0] in known and not is_ours(known[c[0]][0])})
        return hashlib.sha256(json.dumps([uses.text, outside]).encode()).hexdigest()

    def _edges(self, part: Part) -> list[tuple[str, Part]]:
        """(name as written, part that it stands for)."""
        if part not in self._targets:
            self._targets[part] = list(self._named(part))
        return self._targets[part]

    def _named(self, part: Part) -> Iterator[tuple[str, Part]]:
        uses = self.uses(part)
        if part.method:
            yield part.name, Part(part.module, part.name)  # a method belongs to its class
        for chain in uses.chains:
            for to in self._follow(part.module, chain, uses.imports):
                yield ".".join(chain), to
        for chain in uses.typed - uses.chains:
            for to in self._follow(part.module, chain, uses.imports):
                if self._is_class(to):
                    yield ".".join(chain), to
                elif not to.method and to.name and self._is_alias(to):
                    # A name for a type: the classes in it count, its text does not.
                    inner = self.uses(to)
                    for nested in inner.chains:
                        yield from (
                            (".".join(nested), t) for t in self._follow(to.module, nested, {}) if self._is_class(t)
                        )

    def _follow(self, module: str, chain: Chain, local: dict[str, tuple[str, str]]) -> Iterator[Part]:
        """The parts that a chain such as `files.read_json` stands for in a module."""
        known = self._module(module)
        assert known is not None
        first, *rest = chain
        target = local.get(first)
        if target is None and first in known.parts:
            yield Part(module, first)
            return
        target = target or known.imports.get(first)
        if target is None or not is_ours(target[0]):
            return
        at, name = target
        if name:
            inner = f"{at}.{name}"
            if self._module(inner) is None or self._defines(at, name):
                yield from self._resolve(at, name)
                return
            at = inner
        while rest and self._module(f"{at}.{rest[0]}") is not None and not self._defines(at, rest[0]):
            at = f"{at}.{rest.pop(0)}"
        if rest:
            yield from self._resolve(at, rest[0])
        else:  # the module itself is handed on: all of it
            whole = self._module(at)
            yield from (Part(at, part) for part in (whole.parts if whole else ()))

    def _resolve(self, module: str, name: str) -> Iterator[Part]:
        """The part called `name` in a module, through what it imports."""
        known = self._module(module)
        if known is None:
            return
        if name in known.parts:
            yield Part(module, name)
        elif name in known.imports:
            at, inner = known.imports[name]
            if is_ours(at) and inner and (self._module(f"{at}.{inner}") is None or self._defines(at, inner)):
                yield from self._resolve(at, inner)
        elif "__getattr__" in known.parts:
            yield Part(module, "__getattr__")

    def _defines(self, module: str, name: str) -> bool:
        known = self._module(module)
        return known is not None and (name in known.parts or (name in known.imports and known.path.name == "__init__.py"
                                      and self._module(f"{module}.{name}") is None))  # fmt: skip

    def _is_value(self, part: Part) -> bool:
        """Whether a part is a class of parameters: it leads to those of its fields, and says nothing itself."""
        return part.module in self.values and self._is_class(part)

    def _bases(self, part: Part) -> Iterator[Chain]:
        known = self._module(part.module)
        for node in known.parts[part.name] if known else ():
            yield from (chain for base in getattr(node, "bases", ()) if (chain := chain_of(base)))

    def _is_class(self, part: Part) -> bool:
        known = self._module(part.module)
        nodes = known.parts.get(part.name, []) if known else []
        return not part.method and any(isinstance(node, ast.ClassDef) for node in nodes)

    def _is_alias(self, part: Part) -> bool:
        known = self._module(part.module)
        return known is not None and all(isinstance(n, ast.Assign | ast.AnnAssign) for n in known.parts[part.name])

    def _methods(self, part: Part) -> _Methods:
        """The methods of a class."""
        if part not in self._classes:
            known = self._module(part.module)
            assert known is not None
            found = _Methods()
            for node in known.parts[part.name]:
                if isinstance(node, ast.ClassDef):
                    foreign = self._has_foreign_base(part.module, node)
                    for method in methods_of(node):
                        one = Part(part.module, part.name, method.name)
                        if foreign or method.name.startswith("__"):
                            found.always.append(one)
                        else:
                            found.by_name[method.name] = one
            self._classes[part] = found
        return self._classes[part]

    def _has_foreign_base(self, module: str, node: ast.ClassDef) -> bool:
        known = self._module(module)
        assert known is not None
        for base in node.bases if module not in self.values else ():
            chain = chain_of(base.value if isinstance(base, ast.Subscript) else base)
            if not chain or chain[-1] in _PLAIN_BASES:
                continue
            parents = list(self._follow(module, chain, {}))
            if not parents:
                return True
            for parent in parents:
                at = self._module(parent.module)
                for other in at.parts.get(parent.name, []) if at else []:
                    if isinstance(other, ast.ClassDef) and self._has_foreign_base(parent.module, other):
                        return True
        return False

    def _statements(self, module: str) -> list[Part]:
        """What runs when a module, and the packages around it, are imported."""
        names, found = module.split("."), []
        for depth in range(1, len(names) + 1):
            known = self._module(".".join(names[:depth]))
            if known is not None and known.always:
                found.append(Part(known.name, ""))
        return found

    def _module(self, name: str) -> Module | None:
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def _parse(self, name: str) -> Module | None:
        if not is_ours(name) or any(name == out or name.startswith(f"{out}.") for out in self.left_out):
            return None
        base = self.root.joinpath(*name.split(".")[1:])
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        return parse(name, path) if path.is_file() else None


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
