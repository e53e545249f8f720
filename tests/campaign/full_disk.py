"""Stages on a disk that is too small, then on one that is not: are the outputs the same bytes?

    sudo python tests/campaign/full_disk.py WORKSPACE [TRIES] [SEED]

WORKSPACE is whole (`segpipe init scenes --profile tiny`, then `dvc repro`). For each try a copy lies on a tmpfs that
leaves room for a random part of what a stage writes; the stage runs, the tmpfs grows, the same command runs again. A
try that broke a promise is printed: another exit code than 0 or 3, words that do not speak of space, another byte, a
training that started anew though a checkpoint was there, a file that was left over.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flips import content, copied
from kills import STAGES, Try, broken, run_segpipe

SLACK = 160 * 1024  # what a stage writes beside its output: locks, journals, checkpoints


def used(disk: Path) -> int:
    """Bytes that are taken on a disk."""
    found = os.statvfs(disk)
    return found.f_frsize * (found.f_blocks - found.f_bfree)


def mount(*options: str, at: Path) -> None:
    """Mount a tmpfs."""
    subprocess.run(("mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", at), check=True)


def campaign(workspace: Path, tries: int, seed: int) -> Iterator[Try]:
    """Tries in turn over all stages."""
    draw = random.Random(seed)
    for k in range(tries):
        command, output = STAGES[k % len(STAGES)]
        wanted = content(workspace / output)
        room = int(draw.uniform(0, 1.2) * (sum(map(len, wanted.values())) + SLACK))
        with tempfile.TemporaryDirectory() as folder:
            disk = Path(folder)
            mount("size=1g", at=disk)
            try:
                work = copied(workspace, disk / "w")
                if command[0] == "train":  # else the folder of before would be found whole
                    shutil.rmtree(work / output)
                mount("remount", f"size={used(disk) + room}", at=disk)
                code, said = run_segpipe(command, work, "", None)
                there = any((work / ".segpipe/checkpoints").rglob("state.pt"))
                problems = [] if code in (0, 3) else [f"exit {code}: {said.strip()[-300:]}"]
                if code == 3 and "No space left" not in said and "free space" not in said:
                    problems.append(f"it does not speak of space: {said.strip()[-300:]}")
                mount("remount", "size=1g", at=disk)
                again, words = run_segpipe(command, work, "", None)
                if again != 0:
                    problems.append(f"the same command gave {again}: {words.strip()[-300:]}")
                if command[0] == "train" and there and "resuming after epoch" not in words:
                    problems.append("the training started anew")
                problems += broken(content(work / output), wanted, work)
            finally:
                subprocess.run(("umount", disk), check=True)
        yield Try(" ".join(command), f"{room // 1024} KiB left", code != 0, tuple(problems))


def main() -> None:
    """Run the campaign and print what broke a promise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("tries", type=int, nargs="?", default=90)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    given = parser.parse_args()
    struck = failed = 0
    for one in campaign(given.workspace.resolve(), given.tries, given.seed):
        struck, failed = struck + one.struck, failed + bool(one.problems)
        for problem in one.problems:
            print(f"{one.command}, {one.what}: {problem}", flush=True)
    print(f"{given.tries} tries, the disk was full in {struck}; {failed} broke a promise")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
