"""Command doctor: is this machine fit?"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from segpipe.cli import options

Finding = tuple[str, str, str]  # ok, warning or error; what; detail with the next step


def doctor(as_json: options.Json = False) -> None:
    """Check Python, packages, threads, memory, disk and the workspace."""
    found = [finding for check in _CHECKS for finding in _guarded(check)]
    if as_json:
        print(json.dumps([dict(zip(("state", "what", "detail"), f, strict=True)) for f in found]))
    else:
        for state, what, detail in found:
            print(f"{state:<8} {what:<12} {detail}")
    if any(state == "error" for state, _, _ in found):
        from segpipe.core.errors import SegpipeError

        raise SegpipeError("this machine is not fit; mend the errors above")
    if not as_json:
        print("next: dvc repro" if Path("params.yaml").exists() else "next: segpipe init scenes")


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; what stops it is a finding too."""
    try:
        yield from check()
    except Exception as error:
        yield "error", check.__name__.strip("_"), f"{type(error).__name__}: {error}".splitlines()[0]


def _python() -> Iterator[Finding]:
    version = sys.version.split()[0]
    fit = sys.version_info >= (3, 11)
    yield ("ok" if fit else "error", "python", version if fit else f"{version}, wanted 3.11 or newer")


def _packages() -> Iterator[Finding]:
    for name in ("torch", "cv2", "dvc", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "pydantic", "yaml", "tqdm"):
        try:
            module = importlib.import_module("segpipe.core.opencv" if name == "cv2" else name)
        except Exception as error:
            yield "error", name, f"{error}".splitlines()[0]
            continue
        if name == "cv2":
            module = module.cv2
        yield "ok", name, str(getattr(module, "__version__", "found"))
    both = [d for d in ("opencv-python", "opencv-python-headless") if _installed(d)]
    if len(both) == 2:
        yield "warning", "cv2", "opencv-python and opencv-python-headless share a folder; uninstall both, install one"


def _machine() -> Iterator[Finding]:
    import shutil

    import torch

    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none, training runs on the CPU"
    yield "ok", "gpu", cuda
    yield "ok", "cores", f"{os.cpu_count()} ({torch.backends.cpu.get_cpu_capability()})"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        yield (
            "ok" if memory > 3 else "warning",
            "memory",
            f"{memory:.0f} GiB" + ("" if memory > 3 else "; 4 are advised"),
        )
    free = shutil.disk_usage(".").free / 2**30
    yield (
        "ok" if free > 5 else "warning",
        "disk",
        f"{free:.0f} GiB free" + ("" if free > 5 else "; 5 GiB are advised"),
    )


def _workspace() -> Iterator[Finding]:
    import shutil

    from segpipe.config import code, dag, params
    from segpipe.core.errors import SegpipeError

    if shutil.which("dvc") is None or shutil.which("segpipe") is None:
        yield (
            "warning",
            "path",
            "`dvc` or `segpipe` is not on PATH; activate the environment, or dvc repro cannot call it",
        )
    if not params.FILE.exists():
        yield "warning", "workspace", "no params.yaml here; `segpipe init scenes` makes a workspace"
        return
    try:
        loaded = params.load()
        fresh = dag.is_fresh(loaded)
        if code.FILE.exists():
            code.read()
        yield (
            "ok" if fresh else "warning",
            "workspace",
            "fits" if fresh else "dvc.yaml is old; run `segpipe dag --write`",
        )
        if loaded.threads > (os.cpu_count() or 1):
            yield "warning", "threads", f"params.yaml asks for {loaded.threads} threads, more than there are cores"
    except SegpipeError as error:
        yield "error", "workspace", str(error)
    if not os.access(".", os.W_OK):
        yield "error", "workspace", "no permission to write here"


def _installed(distribution: str) -> bool:
    from importlib import metadata

    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_python, _packages, _machine, _workspace)
