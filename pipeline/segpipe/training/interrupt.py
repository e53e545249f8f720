"""Ctrl-C and SIGTERM end a training after the step in progress, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Signals:
    """Within the block the first signal is noted, a second one acts at once.

    Off the main thread, where Python allows no handlers, it notes nothing.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def act(self) -> None:
        """Do now what the noted signal asked for."""
        self.__exit__()
        signal.raise_signal(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received:
            self.received = number
            self.act()
        self.received = number
