"""A package's source as a search reads it: the statements of each module, what they say, and what they refer to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from segpipe.core.errors import ConfigError

PACKAGE = "segpipe"
_SAYS = ("print", "log", "warn", "tell", "simplefilter")  # calls that only speak, alone or of one of these:
_SPEAKERS = ("self", "context", "warnings")
_SPOKEN = "spoken"  # core.spoken marks text that only people read
_IGNORED = ("ctx", "type_comment", "type_params", "kind", "type_ignores")  # fields of syntax that mean nothing
Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.stmt
Chain = tuple[str, ...]


@dataclass
class Module:
    """A parsed file: what its names stand for, and the statements that run when it is imported."""

    name: str
    path: Path
    parts: dict[str, list[Node]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # local name: (module, name or "")
    always: list[ast.stmt] = field(default_factory=list)


@dataclass(frozen=True)
class Uses:
    """What a part's text refers to: names, attribute chains from a name, and every attribute or word in it."""

    text: str
    chains: frozenset[Chain]
    typed: frozenset[Chain]  # named in annotations alone
    words: frozenset[str]
    imports: dict[str, tuple[str, str]]


def parse(name: str, path: Path) -> Module:
    """A module from its file.

    Raises:
        ConfigError: the file is not Python; its line is named.
    """
    try:
        statements = ast.parse(path.read_text(encoding="utf-8")).body
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}; fix it or reinstall segpipe") from None
    module = Module(name, path)
    for node in statements:
        _sort(node, module)
    return module


def is_ours(module: str) -> bool:
    """Whether a module is of the package."""
    return module == PACKAGE or module.startswith(f"{PACKAGE}.")


def _sort(node: ast.stmt, module: Module) -> None:
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


def methods_of(node: Node) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The methods of a class."""
    if isinstance(node, ast.ClassDef):
        yield from (n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def header(node: ast.ClassDef) -> ast.ClassDef:
    """A class without its methods."""
    body = [n for n in node.body if not isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    header = ast.ClassDef(node.name, node.bases, node.keywords, body or [ast.Pass()], node.decorator_list)
    return ast.copy_location(header, node)


def chain_of(node: ast.expr) -> Chain:
    """`a.b.c` as ("a", "b", "c"); nothing for what is no such chain."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def read(nodes: list[Node]) -> Uses:
    """What statements say and refer to."""
    reader = _Reader()
    for node in nodes:
        reader.take(node)
    typed: set[Chain] = set()
    for annotation in reader.annotations:
        typed |= _chains_in(annotation)
    return Uses(
        "\n".join(reader.texts), frozenset(reader.chains), frozenset(typed), frozenset(reader.words), reader.imports
    )


def _chains_in(node: ast.AST) -> set[Chain]:
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            try:
                found |= _chains_in(ast.parse(one.value, mode="eval"))
            except SyntaxError:
                continue
        if isinstance(one, ast.Attribute | ast.Name):
            found.add(chain_of(one))
    return found - {()}


class _Reader:
    """Writes statements as text without words, types and positions, and notes what they refer to."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.chains: set[Chain] = set()
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

    def _plain(self, node: ast.AST, without: Chain = ()) -> str:
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in (*_IGNORED, *without)]
        return f"{type(node).__name__}({','.join(self.text(value) for _, value in fields)})"

    def _Expr(self, node: ast.Expr) -> str:
        said = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return "" if said or _speaks(node.value) else self._plain(node)

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
        chain = chain_of(node)
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


def _speaks(node: ast.AST) -> bool:
    """Whether a call only tells something: `np.log(x, out=x)` does not."""
    if _name_of_call(node) not in _SAYS or not isinstance(node, ast.Call):
        return False
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return owner is None or name in _SPEAKERS


def _name_of_call(node: ast.AST) -> str:
    """The last name of what is called."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
