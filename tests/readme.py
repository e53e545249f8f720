"""Fill the blocks of README.md between marks: `python tests/readme.py --write`, or `--check`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def blocks() -> dict[str, str]:
    """What the program prints, by the name of its block."""
    return {
        "scores": (ROOT / "results/tables/scores.md").read_text().strip(),
        "dag": _output("dvc", "dag", "--md", "--collapse-foreach-matrix"),
        "help": "```\n$ segpipe --help\n" + _output(sys.executable, "-m", "segpipe", "--help") + "\n```",
    }


def filled(text: str, contents: dict[str, str]) -> str:
    """`text` with the content of each mark replaced."""
    for name, content in contents.items():
        if f"<!-- {name} -->" not in text or f"<!-- /{name} -->" not in text:
            raise SystemExit(f"README.md has lost the marks of its block '{name}'")
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)
    return text


def _output(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


if __name__ == "__main__":
    old = README.read_text()
    new = filled(old, blocks())
    if sys.argv[1:] == ["--write"]:
        README.write_text(new)
    elif old != new:
        sys.exit("README.md is out of date; run `python tests/readme.py --write`")
