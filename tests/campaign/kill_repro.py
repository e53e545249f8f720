"""Kills inside `dvc repro` and `segpipe repro -j 2`: are all files the same bytes, after the same command once more?

    python tests/campaign/kill_repro.py WORKSPACE [KILLS] [SEED]

WORKSPACE is whole (`segpipe init scenes --profile tiny`, then `dvc repro`); a copy is worked on. Before each try the
learning rate changes, so that every stage from the trainings on has to run; DVC's memory of former runs is deleted. At
a random moment all processes are killed with `kill -9`, or a random one of them. Then the same command runs again. Each
try is printed with the promises that it broke: another byte under data/ or results/, a training that started anew
though a checkpoint was there, a file that was left over, a second run that failed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flips import content, copied
from kills import Try, broken

COMMANDS = (("dvc", "repro"), ("segpipe", "repro", "-j", "2"))
RATES = ("0.004", "0.005")
TOPS = ("data", "results")


def descendants(pid: int) -> list[int]:
    """A process and all that it began, as far as they live."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(found for child in children for found in descendants(int(child)))]
    return []


def run(command: tuple[str, ...], workspace: Path, moment: float | None, draw: random.Random) -> tuple[int, str, str]:
    """Exit code, what was said, and what was killed after so many seconds: all, or one process."""
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(command, cwd=workspace, stdout=words, stderr=words, start_new_session=True)
        struck = ""
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            living = descendants(process.pid)
            if draw.random() < 0.5 or not living:
                os.killpg(process.pid, signal.SIGKILL)
                struck = "all"
            else:
                chosen = draw.choice(living)
                struck = f"process {living.index(chosen)} of {len(living)}"
                with suppress(ProcessLookupError):
                    os.kill(chosen, signal.SIGKILL)
            process.wait()
            while any(Path(f"/proc/{pid}/cwd").exists() for pid in living if pid != process.pid):
                time.sleep(0.1)  # whoever is left goes on until his stage ends
        words.seek(0)
        return process.returncode, words.read(), struck


def prepare(workspace: Path, rate: str) -> None:
    """Another learning rate than that of the last run, and no memory of former runs."""
    params = workspace / "params.yaml"
    text, number = re.subn(r"(?m)^  lr: \S+", f"  lr: {rate}", params.read_text())
    assert number == 1
    params.unlink()
    params.write_text(text)
    shutil.rmtree(workspace / ".dvc/cache/runs", ignore_errors=True)


def campaign(workspace: Path, kills: int, seed: int) -> Iterator[Try]:
    """Tries in turn of both commands and rates."""
    draw = random.Random(seed)
    wanted, lasts = {}, {}
    for rate, command in zip(RATES, COMMANDS, strict=True):
        prepare(workspace, rate)
        began = time.monotonic()
        code, said, _ = run(command, workspace, None, draw)
        assert code == 0, said
        lasts[command] = time.monotonic() - began
        wanted[rate] = {name: held for top in TOPS for name, held in content(workspace / top).items()}
    for k in range(kills):
        rate, command = RATES[k % 2], COMMANDS[k // 2 % 2]
        prepare(workspace, rate)
        moment = draw.uniform(0.02, 1.0) * lasts[command]
        code, _, struck = run(command, workspace, moment, draw)
        waiting = sum(1 for _ in (workspace / ".segpipe/checkpoints").rglob("state.pt"))
        again, said, _ = run(command, workspace, None, draw)
        problems = [] if again == 0 else [f"the same command gave {again}: {said.strip()[-400:]}"]
        if "RWLock-file" in said:  # DVC's own record, which a kill can cut; nothing else is to suffer from it
            (workspace / ".dvc/tmp/rwlock").unlink(missing_ok=True)
            again, said, _ = run(command, workspace, None, draw)
        if said.count("resuming after epoch") < waiting:
            problems.append(f"{waiting} checkpoints, {said.count('resuming after epoch')} trainings resumed")
        found = {name: held for top in TOPS for name, held in content(workspace / top).items()}
        problems += broken(found, wanted[rate], workspace)
        yield Try(" ".join(command), f"{struck or 'nothing'} after {moment:.1f} s", bool(struck), tuple(problems))


def main() -> None:
    """Run the campaign and print what broke a promise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    given = parser.parse_args()
    struck = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for one in campaign(copied(given.workspace, Path(folder) / "w"), given.kills, given.seed):
            struck, failed = struck + one.struck, failed + bool(one.problems)
            print(f"{one.command}, {one.what}: {'; '.join(one.problems) or 'well'}", flush=True)
    print(f"{given.kills} kills, {struck} struck; {failed} broke a promise")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
