"""The card of a guess as it grows, with the reason of every part."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segpipe.data.reading import PLAIN, Reading


@dataclass
class Guess:
    """A card's keys as they grow, and what was guessed: what, why, how to say otherwise.

    leaves_out: skip images without a mask, however many. several: what several masks per image are, "classes" or
        "annotators"; empty: inferred.
    """

    reading: Reading = PLAIN
    leaves_out: bool = False
    several: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    reasons: list[tuple[str, str, str]] = field(default_factory=list)

    def say(self, what: str, why: str, otherwise: str) -> None:
        """Remember a guess."""
        self.reasons.append((what, why, otherwise))


def toml(found: Guess, title: str, source: Path) -> str:
    """The card as text."""
    head = {"title": title, "licence": "yours", "source": str(source), "layout": "template"}
    lines = [f"{key} = {_value(value)}" for key, value in {**head, **found.keys}.items()]
    for name, table in found.tables.items():
        lines += ["", f"[{name}]"] + [f"{key} = {_value(value)}" for key, value in table.items()]
    lines += ["", "[params]"] + [f'"{key}" = {_value(value)}' for key, value in found.params.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:

    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def below(folder: str, path: str) -> str:
    """A path below a folder, which may be the dataset's own."""
    return path if folder == "." else f"{folder}/{path}"
