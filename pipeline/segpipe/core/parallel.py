"""One function over many items, several at once; results come in the order of the items."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from segpipe.core.errors import ConfigError

_T = TypeVar("_T")
_WAITING = 4  # results of a worker


@dataclass(frozen=True)
class Pool:
    """jobs: threads of this process (NumPy, OpenCV and torch let go of the interpreter's lock, and nothing is
    copied). scheduler: the address of a Dask cluster, whose workers share this file system; a task whose worker
    dies is run by another one. setup: called before every task of a cluster, whose processes know nothing.
    """

    jobs: int = 1
    scheduler: str | None = None
    setup: Callable[[], None] | None = None

    def map(self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """`function(*item)` of each; at most a few results a worker wait to be taken."""
        from joblib import Parallel, delayed

        if self.scheduler is None and self.jobs == 1:
            yield from (function(*item) for item in items)
            return
        # In portions, since joblib's own generators go on while nobody takes what they found.
        if self.scheduler is None:
            with Parallel(n_jobs=self.jobs, backend="threading", batch_size=1) as pool:
                for some in _portions(items, _WAITING * self.jobs):
                    yield from pool(delayed(function)(*item) for item in some)
            return
        with _cluster(self.scheduler) as workers, Parallel(n_jobs=-1, batch_size=1) as pool:
            for some in _portions(items, _WAITING * workers):
                yield from pool(delayed(_on_worker)(os.getcwd(), self.setup, function, *item) for item in some)


def _portions(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    taken = iter(items)
    while some := list(islice(taken, size)):
        yield some


@contextmanager
def _cluster(address: str) -> Iterator[int]:
    """joblib's Dask backend on the cluster at an address; the number of its workers."""
    try:
        from dask.distributed import Client
    except ImportError:
        raise ConfigError("--scheduler needs Dask; pip install 'segpipe[cluster]'") from None
    from joblib import parallel_config

    try:
        client: Any = Client(address, timeout=10)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ConfigError(
            f"--scheduler {address}: no cluster answers there ({reason}); start one with `dask scheduler` and "
            "`dask worker tcp://HOST:8786` in this folder"
        ) from None
    try:
        workers = len(client.scheduler_info()["workers"])
        if not workers:
            raise ConfigError(f"--scheduler {address}: the cluster has no worker; start `dask worker {address}`")
        with parallel_config(backend="dask", client=client):
            yield workers
    finally:
        client.close()


def _on_worker(folder: str, setup: Callable[[], None] | None, function: Callable[..., Any], *item: Any) -> Any:
    """Relative paths mean the folder of the caller."""
    if os.getcwd() != folder:
        os.chdir(folder)
    if setup is not None:
        setup()
    return function(*item)
