"""Command repro: `dvc repro` with independent stages side by side, with progress and time left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from segpipe.cli import code
from segpipe.core.errors import ConfigError, DataError, SegpipeError

LOGS = Path(".segpipe/repro")
_SETTLED = 0.5  # seconds; a living DVC has finished writing its record by then
_PAUSE = 0.05  # seconds between looks at the running stages


@dataclass
class Plan:
    """Stages by name, each with those it waits for; what ran, what failed and what therefore never began."""

    waits_for: Mapping[str, set[str]]
    done: set[str] = field(default_factory=set)
    failed: dict[str, int] = field(default_factory=dict)

    def ready(self, running: Mapping[str, Any]) -> list[str]:
        """Stages that may begin, in the order of the pipeline."""
        begun = self.done | self.failed.keys() | running.keys()
        return [name for name, before in self.waits_for.items() if name not in begun and before <= self.done]

    @property
    def left(self) -> list[str]:
        """Stages that never began."""
        return [name for name in self.waits_for if name not in self.done and name not in self.failed]


def repro(jobs: Annotated[int, typer.Option("--jobs", "-j", help="Stages at once.", min=1, max=64)] = 2) -> None:
    """Run every stage whose inputs changed, independent ones side by side: the same results as `dvc repro`."""
    from tqdm import tqdm

    _free(Path(".dvc/tmp/rwlock"))
    plan, unchanged = _planned()
    plan.done |= unchanged
    LOGS.mkdir(parents=True, exist_ok=True)
    began, running = time.monotonic(), dict[str, subprocess.Popen[bytes]]()
    with tqdm(total=len(plan.waits_for), initial=len(unchanged), unit="stage", disable=None) as bar:
        try:
            while running or (plan.ready(running) and not plan.failed):
                for name in plan.ready(running)[: jobs - len(running)] if not plan.failed else ():
                    running[name] = _begin(name)
                bar.set_postfix_str(", ".join(running))
                time.sleep(_PAUSE)
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    status = running.pop(name).returncode
                    if status:
                        plan.failed[name] = status
                    else:
                        plan.done.add(name)
                    bar.update()
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
    if plan.failed:
        _explain(plan)
    ran = len(plan.done) - len(unchanged)
    print(f"{ran} stages ran, {len(unchanged)} were up to date; {time.monotonic() - began:.0f} s")


def run_stage(name: str, *, quiet: bool) -> None:
    """`dvc repro` of a stage and what it reads.

    quiet: what DVC prints goes to the error stream.

    Raises:
        DataError: it fails.
    """
    command = [sys.executable, "-m", "dvc", "repro", name]
    if subprocess.run(command, stdout=sys.stderr if quiet else None, check=False).returncode:
        raise DataError(f"dvc repro {name} failed, see above; correct the cause and run dvc repro")


def _free(path: Path) -> None:
    """Remove DVC's record of who reads and writes what, when a killed DVC has left it half-written.

    DVC writes it in place and refuses to work until a broken one is gone. One that stays broken has no living writer.
    """
    for pause in (_SETTLED, 0):
        try:
            json.loads(path.read_bytes())
            return
        except FileNotFoundError:
            return
        except ValueError:
            time.sleep(pause)
    path.unlink(missing_ok=True)


def _planned() -> tuple[Plan, set[str]]:
    """All stages of dvc.yaml, and those that nothing has changed for, nor for any stage before them."""
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
    except ImportError:
        raise ConfigError("DVC cannot be imported; pip install dvc") from None
    try:
        with Repo() as repo:
            code.write()  # so that stages are compared with what the code means now
            graph = repo.index.graph
            names = {stage: str(stage.addressing) for stage in graph.nodes}
            waits_for = {name: {names[before] for before in graph.successors(stage)} for stage, name in names.items()}
            order = _sorted(waits_for)
            with repo.lock:
                changed = {name for stage, name in names.items() if not _is_done(name) and stage.changed()}
    except DvcException as error:
        raise ConfigError(f"{str(error).splitlines()[0]}; run inside a workspace (segpipe init)") from None
    unchanged = set[str]()
    for name in order:
        if name not in changed and waits_for[name] <= unchanged:
            unchanged.add(name)
    return Plan({name: waits_for[name] for name in order}), unchanged


def _is_done(name: str) -> bool:
    """True for stage code, which has just run."""
    return name == "code" or name.endswith(":code")


def _sorted(waits_for: Mapping[str, set[str]]) -> list[str]:
    """Stages, each after those it waits for."""
    from graphlib import TopologicalSorter

    return list(TopologicalSorter(waits_for).static_order())


def _begin(name: str) -> subprocess.Popen[bytes]:
    """One stage in a process of its own; its words go to a file."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
    with open(_log(name), "wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def _log(name: str) -> Path:
    return LOGS / f"{name.replace('@', '-').replace('/', '-')}.log"


def _explain(plan: Plan) -> None:
    """Why the first stage failed, what never began, and where the whole story is."""
    name = next(iter(plan.failed))
    text = _log(name).read_text(encoding="utf-8", errors="replace").splitlines()
    words = [line for line in text if line.startswith("segpipe: ")] or [line for line in text if line.strip()]
    reason = words[-1].removeprefix("segpipe: ") if words else "it said nothing"
    left = f"; {len(plan.left)} stages never began" if plan.left else ""
    error = DataError if words and words[-1].startswith("segpipe: ") else SegpipeError
    raise error(f"stage {name} failed: {reason}{left}; see {_log(name)}, then run the same command to go on")
