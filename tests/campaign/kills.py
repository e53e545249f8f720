"""Kills and faults in every stage: is the result the same bytes, after the same command once more?

    python tests/campaign/kills.py WORKSPACE [KILLS] [FAULTS] [SEED]

WORKSPACE is whole (`segpipe init scenes --profile tiny`, then `dvc repro`); a copy is worked on. A kill is `kill -9`
at a random moment of a stage, or at its n-th rename. A fault is the n-th write, fsync or rename of a stage that fails,
with a full or a broken disk. Then the same command runs again. A try that broke a promise is printed: another byte, a
training that started anew though a checkpoint was there, a file that was left over, a second run that failed, a fault
that gave a traceback.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flips import content, copied, restore

STAGES = (
    (("download",), "data/download/scenes"),
    (("prepare",), "data/prepare"),
    (("stats",), "data/stats.json"),
    (("train", "--run", "ce_jml"), "data/train/ce_jml-0"),
    (("predict", "--run", "ce"), "data/predict/ce-0"),
    (("crf", "--run", "ce"), "data/crf/ce-0"),
    (("ensemble", "--method", "stacking"), "data/ensemble/stacking"),
    (("evaluate", "--run", "ce"), "results/runs/ce-0"),
    (("report",), "results"),
)
FAULTS = tuple(f"{kind}:{{}}:{code}" for kind in ("write", "fsync", "rename") for code in ("ENOSPC", "EIO"))
# Begin a command; wait for it, or kill it after so many seconds: exit code (negative: killed) and its words.
Run = Callable[[tuple[str, ...], Path, str, float | None], tuple[int, str]]


@dataclass(frozen=True)
class Try:
    """What was done to a stage, whether it struck, and what was wrong afterwards."""

    command: str
    what: str
    struck: bool
    problems: tuple[str, ...]


def leftovers(workspace: Path) -> list[str]:
    """Files that only a run in progress needs."""
    partial = [path for top in ("data", "results", ".segpipe") for path in (workspace / top).rglob(".*.partial")]
    hidden = workspace / ".segpipe"
    kept = [p for name in ("checkpoints", "crf") for p in (hidden / name).rglob("*") if p.is_file()]
    pids = [path for path in (hidden / "locks").glob("*.pid") if path.exists()]
    return sorted(path.relative_to(workspace).as_posix() for path in (*partial, *kept, *pids))


def broken(found: dict[str, bytes], wanted: dict[str, bytes], workspace: Path) -> list[str]:
    """Files that differ from the wanted ones, and files that were left over; three of each at most."""
    differ = [f"{name} differs" for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
    return differ[:3] + [f"{name} is left" for name in leftovers(workspace)][:3]


def campaign(workspace: Path, kills: int, faults: int, seed: int, run: Run) -> Iterator[Try]:
    """Tries in turn over all stages; the workspace is whole again after each."""
    draw = random.Random(seed)
    wanted = {output: content(workspace / output) for _, output in STAGES}
    lasts: dict[str, float] = {}
    for command, output in STAGES:
        began = time.monotonic()
        code, said = run(command, workspace, "", None)
        lasts[output] = time.monotonic() - began
        assert code == 0, said
        assert content(workspace / output) == wanted[output], f"{command} gives other bytes than the workspace holds"
    for k in range(kills + faults):
        command, output = STAGES[k % len(STAGES)]
        fault, moment = "", None
        if k >= kills:
            fault = draw.choice(FAULTS).format(draw.choice((1, 2, 3, 5, 8, 13, 21)))
        elif draw.random() < 0.3:
            fault = f"rename:{draw.choice((1, 2, 3, 4, 6, 9))}:kill"
        else:
            moment = draw.uniform(0.02, 1.0) * lasts[output]
        if command[0] == "train":  # else the folder of before would be found whole
            shutil.rmtree(workspace / output, ignore_errors=True)
        code, said = run(command, workspace, fault, moment)
        there = any((workspace / ".segpipe/checkpoints").rglob("state.pt"))
        problems = []
        if fault.endswith(("ENOSPC", "EIO")) and code not in (0, 3):
            problems.append(f"exit {code}: {said.strip()[-300:]}")
        again, words = run(command, workspace, "", None)
        if again != 0:
            problems.append(f"the same command gave {again}: {words.strip()[-300:]}")
        if command[0] == "train" and there and "resuming after epoch" not in words:
            problems.append("the training started anew")
        problems += broken(content(workspace / output), wanted[output], workspace)
        yield Try(" ".join(command), fault or f"kill after {moment:.2f} s", code != 0, tuple(problems))
        if problems:
            _mend(workspace, output, wanted[output])


def _mend(workspace: Path, output: str, wanted: dict[str, bytes]) -> None:
    for name in ("checkpoints", "crf"):
        shutil.rmtree(workspace / ".segpipe" / name, ignore_errors=True)
    for path in [path for top in ("data", "results") for path in (workspace / top).rglob(".*.partial")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    restore(workspace / output, wanted)


CODE = "import sys; sys.path.insert(0, {folder!r}); import shim; {arm}from segpipe.cli.app import main; main()"


def run_segpipe(command: tuple[str, ...], workspace: Path, fault: str, moment: float | None) -> tuple[int, str]:
    """A command in a process of its own, as DVC would run it."""
    arm = f"shim.install({fault!r}); " if fault else ""
    code = CODE.format(folder=str(Path(__file__).parent), arm=arm)
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *command], cwd=workspace, stdout=subprocess.DEVNULL, stderr=words,
            env={**os.environ, "DVC_STAGE": "campaign"},
        )  # fmt: skip
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        words.seek(0)
        return process.returncode, words.read()


def main() -> None:
    """Run the campaign and print what broke a promise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("kills", type=int, nargs="?", default=500)
    parser.add_argument("faults", type=int, nargs="?", default=300)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = copied(given.workspace, Path(folder) / "w")
        tries = []
        for one in campaign(work, given.kills, given.faults, given.seed, run_segpipe):
            tries.append(one)
            for problem in one.problems:
                print(f"{one.command}, {one.what}: {problem}", flush=True)
    struck, failed = (
        sum(bool(held) for held in of) for of in zip(*((t.struck, t.problems) for t in tries), strict=True)
    )
    print(f"{given.kills} kills and {given.faults} faults, {struck} struck; {failed} broke a promise")
    sys.exit(any(one.problems for one in tries))


if __name__ == "__main__":
    main()
