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
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from segpipe.core.errors import ConfigError

PACKAGE = "segpipe"
_SAYS = ("print", "log", "warn", "tell", "simplefilter")  # calls that only speak
_SPOKEN = "spoken"  # core.spoken marks text that only people read
_PLAIN_BASES = ("object", "ABC", "Protocol", "Generic", "Exception", "ValueError", "NamedTuple")
Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.stmt


@dataclass(frozen=True)
class Part:
    """A part of a module: `method` is empty unless it is a method of the class `name`."""

    module: str
    name: str
    method: str = ""


@dataclass
class _Module:
    """A parsed file: what its names stand for, and the statements that run when it is imported."""

    name: str
    path: Path
    parts: dict[str, list[Node]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # local name: (module, name or "")
    always: list[ast.stmt] = field(default_factory=list)


@dataclass(frozen=True)
class _Uses:
    """What a part's text refers to: names, attribute chains from a name, and every attribute or word in it."""

    text: str
    chains: frozenset[tuple[str, ...]]
    typed: frozenset[tuple[str, ...]]  # named in annotations alone
    words: frozenset[str]
    imports: dict[str, tuple[str, str]]


@dataclass
class _Methods:
    """Of a class: those that may always be called, by Python itself or by a base from elsewhere, and others by name."""

    always: list[Part] = field(default_factory=list)
    by_name: dict[str, Part] = field(default_factory=dict)

    def called(self, words: Set[str]) -> Iterator[Part]:
        """Those that a word may call."""
        yield from (self.by_name[name] for name in self.by_name.keys() & words)


class Package:
    """The source of a package, parsed as far as it is reached.

    root: the folder of the package. left_out: modules, or packages, that no search enters. values: modules of
    parameters, whose fields and checks mean nothing beside the values, which the caller digests; their methods count.
    """

    def __init__(self, root: Path, left_out: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        self.root, self.left_out, self.values = root, tuple(left_out), tuple(values)
        self._modules: dict[str, _Module | None] = {}
        self._uses: dict[Part, _Uses] = {}
        self._texts: dict[Part, str] = {}
        self._targets: dict[Part, list[tuple[str, Part]]] = {}
        self._classes: dict[Part, _Methods] = {}

    def digest(self, roots: Iterable[tuple[str, str]]) -> str:
        """sha256 of what the roots, given as (module, name), reach."""
        texts = {part: self._text(part) for part in self.reached(roots)}
        lines = []
        for part, text in texts.items():
            edges = sorted({(chain, texts[to]) for chain, to in self._edges(part) if to in texts})
            lines.append([text, edges])
        return hashlib.sha256(json.dumps(sorted(lines)).encode()).hexdigest()

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
            return [n for c in module.parts[part.name] for n in _methods_of(c) if n.name == part.method]
        return [_header(n) if isinstance(n, ast.ClassDef) else n for n in module.parts[part.name]]

    def uses(self, part: Part) -> _Uses:
        """What a part refers to."""
        if part not in self._uses:
            uses = _read(self._nodes(part))
            if part.module in self.values and self._is_class(part):
                uses = replace(uses, text="", chains=frozenset(), words=frozenset())
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
        outside = sorted({(c[0], *known[c[0]]) for c in uses.chains if c[0] in known and not _ours(known[c[0]][0])})
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

    def _follow(self, module: str, chain: tuple[str, ...], local: dict[str, tuple[str, str]]) -> Iterator[Part]:
        """The parts that a chain such as `files.read_json` stands for in a module."""
        known = self._module(module)
        assert known is not None
        first, *rest = chain
        target = local.get(first)
        if target is None and first in known.parts:
            yield Part(module, first)
            return
        target = target or known.imports.get(first)
        if target is None or not _ours(target[0]):
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
            if _ours(at) and inner and (self._module(f"{at}.{inner}") is None or self._defines(at, inner)):
                yield from self._resolve(at, inner)
        elif "__getattr__" in known.parts:
            yield Part(module, "__getattr__")

    def _defines(self, module: str, name: str) -> bool:
        known = self._module(module)
        return known is not None and (name in known.parts or (name in known.imports and known.path.name == "__init__.py"
                                      and self._module(f"{module}.{name}") is None))  # fmt: skip

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
                    for method in _methods_of(node):
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
            chain = _chain(base.value if isinstance(base, ast.Subscript) else base)
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

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def _parse(self, name: str) -> _Module | None:
        if not _ours(name) or any(name == out or name.startswith(f"{out}.") for out in self.left_out):
            return None
        base = self.root.joinpath(*name.split(".")[1:])
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if not path.is_file():
            return None
        module = _Module(name, path)
        try:
            statements = ast.parse(path.read_text(encoding="utf-8")).body
        except SyntaxError as error:
            raise ConfigError(f"{path}:{error.lineno}: {error.msg}; mend it, or install segpipe again") from None
        for node in statements:
            _sort(node, module)
        return module


def _ours(module: str) -> bool:
    return module == PACKAGE or module.startswith(f"{PACKAGE}.")


def _sort(node: ast.stmt, module: _Module) -> None:
    """Put a statement of a module where it belongs."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        module.parts.setdefault(node.name, []).append(node)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        module.imports.update(_imported(node))
    elif isinstance(node, ast.Assign | ast.AnnAssign) and all(
        isinstance(n, ast.Name | ast.Tuple) for n in _targets(node)
    ):
        for name in _bound(node):
            if name != "__all__":
                module.parts.setdefault(name, []).append(node)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        for inner in node.body:
            _sort(inner, module)
    elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        module.always.append(node)


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _bound(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    for target in _targets(node):
        yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
    if isinstance(node, ast.Import):
        return {
            a.asname or a.name.split(".")[0]: (a.name if a.asname else a.name.split(".")[0], "") for a in node.names
        }
    return {a.asname or a.name: (node.module or "", a.name) for a in node.names}


def _methods_of(node: Node) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    if isinstance(node, ast.ClassDef):
        yield from (n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def _header(node: ast.ClassDef) -> ast.ClassDef:
    """A class without its methods."""
    body = [n for n in node.body if not isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    header = ast.ClassDef(node.name, node.bases, node.keywords, body or [ast.Pass()], node.decorator_list)
    return ast.copy_location(header, node)


def _chain(node: ast.expr) -> tuple[str, ...]:
    """`a.b.c` as ("a", "b", "c"); nothing for what is no such chain."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def _read(nodes: list[Node]) -> _Uses:
    """What statements say and refer to."""
    reader = _Reader()
    for node in nodes:
        reader.take(node)
    typed: set[tuple[str, ...]] = set()
    for annotation in reader.annotations:
        typed |= _chains_in(annotation)
    return _Uses(
        "\n".join(reader.texts), frozenset(reader.chains), frozenset(typed), frozenset(reader.words), reader.imports
    )


def _chains_in(node: ast.AST) -> set[tuple[str, ...]]:
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            try:
                found |= _chains_in(ast.parse(one.value, mode="eval"))
            except SyntaxError:
                continue
        if isinstance(one, ast.Attribute | ast.Name):
            found.add(_chain(one))
    return found - {()}


class _Reader:
    """Writes statements as text without words, types and positions, and notes what they refer to."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.chains: set[tuple[str, ...]] = set()
        self.words: set[str] = set()
        self.imports: dict[str, tuple[str, str]] = {}
        self.annotations: list[ast.AST] = []

    def take(self, node: ast.AST) -> None:
        """The next statement."""
        self.texts.append(self.text(node))

    def text(self, node: object) -> str:
        """A node, or a list of nodes, or a plain value."""
        if isinstance(node, list):
            return f"[{','.join(filter(None, map(self.text, node)))}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        special = getattr(self, f"_{type(node).__name__}", None)
        return str(special(node)) if special else self._plain(node)

    def _plain(self, node: ast.AST, without: tuple[str, ...] = ()) -> str:
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in (*_IGNORED, *without)]
        return f"{type(node).__name__}({','.join(self.text(value) for _, value in fields)})"

    def _Expr(self, node: ast.Expr) -> str:
        said = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return "" if said or _name_of_call(node.value) in _SAYS else self._plain(node)

    def _Raise(self, node: ast.Raise) -> str:
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return f"Raise({self.text(error)})"

    def _Assert(self, node: ast.Assert) -> str:
        return f"Assert({self.text(node.test)})"

    def _Call(self, node: ast.Call) -> str:
        name = _name_of_call(node)
        if name == _SPOKEN:
            return name
        if name == "tqdm" and node.args:
            return self.text(node.args[0])
        if name == "register":
            return self.text([*node.args, *(k for k in node.keywords if k.arg != "source")])
        return self._plain(node)

    def _FunctionDef(self, node: ast.FunctionDef) -> str:
        if node.returns is not None:
            self.annotations.append(node.returns)
        return self._plain(node, ("returns",))

    _AsyncFunctionDef = _FunctionDef

    def _arg(self, node: ast.arg) -> str:
        if node.annotation is not None:
            self.annotations.append(node.annotation)
        return node.arg

    def _AnnAssign(self, node: ast.AnnAssign) -> str:
        self.annotations.append(node.annotation)
        return f"Assign([{self.text(node.target)}],{self.text(node.value)})"

    def _Assign(self, node: ast.Assign) -> str:
        return f"Assign({self.text(node.targets)},{self.text(node.value)})"

    def _Import(self, node: ast.Import) -> str:
        self.imports.update(_imported(node))
        return ""

    def _ImportFrom(self, node: ast.ImportFrom) -> str:
        self.imports.update(_imported(node))
        return ""

    def _Name(self, node: ast.Name) -> str:
        self.chains.add((node.id,))
        return node.id

    def _Attribute(self, node: ast.Attribute) -> str:
        chain = _chain(node)
        if not chain:
            self.words.add(node.attr)
            return f"{self.text(node.value)}.{node.attr}"
        self.chains.add(chain)
        self.words.update(chain[1:])
        return ".".join(chain)

    def _Constant(self, node: ast.Constant) -> str:
        if isinstance(node.value, str) and node.value.isidentifier():
            self.words.add(node.value)
        return repr(node.value)


_IGNORED = ("ctx", "type_comment", "type_params", "kind", "type_ignores")


def _name_of_call(node: ast.AST) -> str:
    """The last name of what is called."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
