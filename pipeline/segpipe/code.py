"""Which files of the package a stage is made of, found by following its imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from segpipe.core.files import digest, digest_json
from segpipe.training import parts

ROOT = Path(__file__).parent

# Packages, and modules, whose files a stage imports by the names in params.yaml.
READS_CARD = ("download", "prepare", "stats", "crf", "ensemble", "evaluate")  # stages that read the dataset's card
_CHOSEN_BY_NAME = {
    **dict.fromkeys(READS_CARD, ("data.masks",)),
    "download": ("data.layouts", "data.masks"),
    "train": ("losses", "models", *parts.MODULES.values()),
    "predict": ("models",),
}


def digest_of_stage(stage: str) -> str:
    """sha256 over the stage's own code and the cards that it may read."""
    paths = list(files_of_stage(stage))
    if stage in READS_CARD:
        paths += [card.relative_to(ROOT) for card in sorted((ROOT / "data/cards").glob("*.toml"))]
    return digest_json({path.as_posix(): digest((ROOT / path).read_bytes()) for path in paths})


@cache
def files_of_stage(stage: str) -> tuple[Path, ...]:
    """All modules, relative to the package, that the stage's command can import; sorted.

    Imports inside functions count, except in the `__init__` of a package: there they serve
    callers that choose by name, which `_CHOSEN_BY_NAME` lists.
    """
    found: set[Path] = set()
    waiting = [Path("stages") / f"{stage}.py"]
    for chosen in _CHOSEN_BY_NAME.get(stage, ()):
        path = Path(*chosen.removeprefix("segpipe.").split("."))
        alone = path.with_suffix(".py")
        is_module = (ROOT / alone).is_file()
        waiting += [alone] if is_module else [file.relative_to(ROOT) for file in (ROOT / path).glob("*.py")]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imports(path)
            waiting += [parent / "__init__.py" for parent in path.parents]
    return tuple(sorted(found))


def _imports(path: Path) -> Iterator[Path]:
    """The package's files that a file imports."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    nodes = tree.body if path.name == "__init__.py" else ast.walk(tree)
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            package, *parts = name.split(".")
            base = Path(*parts)
            if package == "segpipe" and parts:
                for candidate in (base.with_suffix(".py"), base / "__init__.py"):
                    if (ROOT / candidate).is_file():
                        yield candidate
