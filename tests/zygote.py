"""One process that has loaded segpipe, torch and DVC, and forks itself for every command that a test runs.

Loading them, and what torch and SciPy load when they are first used, takes up to five seconds of CPU, which is most
of a command in a tiny workspace. A command runs in a process of its own all the same, with the arguments, folder,
environment and streams of who asked: `conftest.segpipe` asks from a test, and `tests/bin/`, which tests have on their
PATH, asks for whoever calls `segpipe` or `dvc`.
"""

from __future__ import annotations

import array
import atexit
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOADED = (
    *("dvc.cli", "dvc.parsing", "dvc.repo.reproduce", "dvc_http"),
    *("matplotlib.backends.backend_svg", "scipy.stats", "sklearn.linear_model"),
    *("torch._dynamo", "torch.utils.flop_counter"),  # what an optimiser and a count of operations load
    *("segpipe.cli.app", "segpipe.cli.adhoc", "segpipe.report.figures"),
    *(f"segpipe.stages.{name}" for name in ("download", "prepare", "stats", "train", "predict", "crf", "ensemble")),
    *("segpipe.stages.evaluate", "segpipe.stages.report"),
)
FAULT = "SEGPIPE_TEST_FAULT"  # the variable that arms a command, see tests/campaign/shim.py
ADDRESS = "SEGPIPE_TEST_ZYGOTE"  # the variable that holds the server's socket


def ask(
    address: str,
    command: list[str],
    cwd: str,
    environment: dict[str, str],
    streams: list[int],
    seconds: float | None = None,
) -> int:
    """Run a command of segpipe or DVC and wait for its exit code; a signal that this process gets is handed on.

    seconds: after which it is killed; it then gives 137.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        request = json.dumps([command, cwd, environment]).encode()
        connection.sendmsg(
            [len(request).to_bytes(4, "big") + request],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))],
        )
        worker = int.from_bytes(_receive(connection, 4), "big")
        before = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, lambda n, _: os.kill(worker, n))
        except ValueError:
            pass  # not the main thread
        try:
            if seconds is not None and not select.select([connection], [], [], seconds)[0]:
                os.kill(worker, signal.SIGKILL)
            answer = _receive(connection, 4)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return int.from_bytes(answer, "big") if answer else 137


def _receive(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            return b""
        found += part
    return found


def serve(address: str) -> None:
    """Load everything, then fork for each request until the process that began this ends."""
    for name in LOADED:
        importlib.import_module(name)
    sys.modules["segpipe.report.figures"].pyplot()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave no zombies
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address + ".new")
        server.listen(16)
        os.rename(address + ".new", address)
        server.settimeout(5)
        while os.getppid() == parent:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                server.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _work(connection)
            connection.close()


def _work(connection: socket.socket) -> None:
    """One command, in this forked process."""
    head, ancillary, *_ = connection.recvmsg(4, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    streams = array.array("i")
    streams.frombytes(ancillary[0][2])
    (program, *arguments), cwd, environment = json.loads(_receive(connection, int.from_bytes(head, "big")))
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    connection.sendall(os.getpid().to_bytes(4, "big"))
    code = 1
    try:
        if FAULT in environment:
            sys.path.insert(0, str(Path(__file__).parent / "campaign"))
            importlib.import_module("shim").install(environment[FAULT])
        if program == "dvc":
            sys.exit(sys.modules["dvc.cli"].main(arguments))
        sys.modules["segpipe.cli.app"].main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        connection.sendall((code & 0xFF).to_bytes(4, "big"))
        os._exit(code & 0xFF)


def start() -> str:
    """Begin a server for this process, and return its address."""
    folder = tempfile.mkdtemp(prefix="zygote")
    address = f"{folder}/socket"
    server = subprocess.Popen([sys.executable, __file__, address])
    atexit.register(lambda: (server.terminate(), server.wait()))
    for _ in range(600):
        if Path(address).exists():
            return address
        time.sleep(0.1)
    raise RuntimeError("the server of commands does not answer")


if __name__ == "__main__":
    serve(sys.argv[1])
