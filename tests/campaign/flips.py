"""Flips, cuts and changed digits in every kind of file of a workspace: what does the next stage say?

    python tests/campaign/flips.py WORKSPACE [NUMBER] [SEED]

WORKSPACE is whole (`segpipe init scenes --profile tiny`, then `dvc repro`); a copy is damaged, one file at a time. A
damage is *told* when the stage that reads the file refuses it in one line that names the file and a command; it is
*harmless* when all outputs of that stage are the same bytes as before; all else is *silent*, or a *crash* (exit 1).
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# What reads the files under a folder, and what it writes.
READERS = (
    ("data/download/", ("prepare",), "data/prepare"),
    ("data/prepare/", ("train", "--run", "ce"), "data/train/ce-0"),
    ("data/prepare/", ("predict", "--run", "ce"), "data/predict/ce-0"),
    ("data/stats.json", ("train", "--run", "ce"), "data/train/ce-0"),
    ("data/train/ce-0/", ("predict", "--run", "ce"), "data/predict/ce-0"),
    ("data/predict/ce-0/", ("evaluate", "--run", "ce"), "results/runs/ce-0"),
    ("data/predict/ce-0/", ("ensemble", "--method", "average"), "data/ensemble/average"),
    ("data/predict/ce-0/", ("crf", "--run", "ce"), "data/crf/ce-0"),
    ("data/crf/ce-0/", ("evaluate", "--run", "ce", "--crf"), "results/crf/ce-0"),
    ("data/ensemble/stacking/", ("evaluate", "--ensemble", "stacking"), "results/ensembles/stacking"),
    ("data/ensemble/plurality/", ("evaluate", "--ensemble", "plurality"), "results/ensembles/plurality"),
    ("results/runs/", ("report",), "results/tables"),
    ("results/crf/", ("report",), "results/tables"),
    ("results/ensembles/", ("report",), "results/tables"),
    (".segpipe/code.json", ("code",), "data/code.json"),
)


@dataclass(frozen=True)
class Damage:
    """A file, what was done to it, and what came of it."""

    path: str
    kind: str
    command: str
    outcome: str  # told, harmless, silent or crash
    said: str


Run = Callable[[tuple[str, ...], Path], tuple[int, str]]


def damaged(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """A name and the bytes of a fault: a bit, a byte, a cut, zeros, or another digit of a number."""
    kinds = ["bit", "byte", "cut", "zeros", "digit"] if content else ["byte"]
    kind, at = draw.choice(kinds), draw.randrange(max(1, len(content)))
    if kind == "digit":
        digits = [match.start() for match in re.finditer(rb"[0-9]", content[:200_000])]
        if digits:
            at = draw.choice(digits)
            other = draw.choice([d for d in b"0123456789" if d != content[at]])
            return kind, content[:at] + bytes([other]) + content[at + 1 :]
        kind = "bit"
    if kind == "bit":
        return kind, content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
    if kind == "byte":
        return kind, content[:at] + bytes([draw.randrange(256)]) + content[at:]
    if kind == "cut":
        return kind, content[:at]
    length = min(len(content) - at, 64)
    return kind, content[:at] + bytes(length) + content[at + length :]


def files_of(workspace: Path, prefix: str) -> list[Path]:
    """The files that a reader may be given damaged."""
    top = workspace / prefix
    found = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
    return [path for path in found if path.name != "truth.json"]  # the planted errors, which no stage reads


def copied(source: Path, target: Path) -> Path:
    """A copy of a workspace whose files may be changed: DVC makes what it links to its cache read-only."""
    shutil.copytree(source, target, symlinks=True)
    for path in target.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)
    return target


def content(path: Path) -> dict[str, bytes]:
    """All bytes of an output, by path from the folder that it lies in."""
    inside = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path.parent).as_posix(): p.read_bytes() for p in inside}


def restore(output: Path, wanted: dict[str, bytes]) -> None:
    """Make an output what it was."""
    shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)
    for name, held in wanted.items():
        target = output.parent / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(held)


def campaign(workspace: Path, number: int, seed: int, run: Run) -> Iterator[Damage]:
    """Damage `number` files, one at a time, as many for each reader; each is restored before the next."""
    draw = random.Random(seed)
    order = [READERS[k % len(READERS)] for k in range(number)]
    for prefix, command, output in order:
        path, out = draw.choice(files_of(workspace, prefix)), workspace / output
        before, wanted = path.read_bytes(), content(out)
        kind, broken = damaged(before, draw)
        if broken == before:
            continue
        path.write_bytes(broken)
        code, said = run(command, workspace)
        name = path.relative_to(workspace).as_posix()
        yield Damage(name, kind, " ".join(command), _outcome(code, said, name, wanted, content(out)), said.strip())
        path.write_bytes(before)
        if content(out) != wanted:
            restore(out, wanted)


def _outcome(code: int, said: str, name: str, wanted: dict[str, bytes], found: dict[str, bytes]) -> str:
    if code == 0:
        return "harmless" if found == wanted else "silent"
    last = said.strip().splitlines()[-1]
    remedy = re.search(r"`(segpipe|dvc) [^`]+`|replace|delete|run (it|the)", last)
    return "told" if code in (2, 3) and name.rpartition("/")[2] in last and remedy and found == wanted else "crash"


def run_segpipe(command: tuple[str, ...], workspace: Path) -> tuple[int, str]:
    """A command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "segpipe", *command], cwd=workspace, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def main() -> None:
    """Run the campaign and print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("number", type=int, nargs="?", default=300)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = copied(given.workspace, Path(folder) / "w")
        found = list(campaign(work, given.number, given.seed, run_segpipe))
    for damage in found:
        if damage.outcome in ("silent", "crash"):
            print(f"{damage.outcome}: {damage.path} ({damage.kind}), {damage.command}: {damage.said[-300:]}")
    print(
        len(found), "faults:", ", ".join(f"{n} {outcome}" for outcome, n in Counter(d.outcome for d in found).items())
    )
    sys.exit(any(damage.outcome in ("silent", "crash") for damage in found))


if __name__ == "__main__":
    main()
