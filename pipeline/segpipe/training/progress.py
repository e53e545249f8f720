"""What a training says: a bar on a terminal; elsewhere one line an epoch. Both tell score and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from segpipe.training.loggers import Logger, Row


class Progress:
    """Steps and epochs of one run, of which some are `done`; `quiet` processes say nothing. logs: told too."""

    def __init__(
        self, name: str, epochs: int, done: Sequence[Row], steps: int, *, quiet: bool = False,
        logs: Sequence[Logger] = (),
    ) -> None:  # fmt: skip
        self.name, self.epochs, self.done, self.quiet, self.logs = name, epochs, len(done), quiet, logs
        for log in logs:
            log.begin(done)
        self.start, self._score = time.monotonic(), ""
        self.bar = tqdm(
            total=epochs * steps, initial=self.done * steps, desc=name, unit="step", disable=True if quiet else None,
            dynamic_ncols=True,
        )  # fmt: skip

    def step(self, loss: float) -> None:
        """One batch is done."""
        self.bar.update()
        if not self.bar.disable:
            self.bar.set_postfix_str(f"loss {loss:.3f}{self._score}", refresh=False)

    def epoch(self, row: Row, best: float) -> None:
        """One epoch is validated."""
        epoch = int(row["epoch"])
        self._score = f", val mIoU^D {row['val_miou_dataset']:.3f} (best {best:.3f})"
        if self.bar.disable and not self.quiet:
            left = (time.monotonic() - self.start) / (epoch - self.done) * (self.epochs - epoch)
            done = f"epoch {epoch}/{self.epochs}, loss {row['train_loss']:.3f}{self._score}"
            self.say(f"{self.name}: {done}, {left:.0f} s left")
        for log in self.logs:
            log.epoch(row)

    def say(self, line: str) -> None:
        """A line for people, from the process that is not quiet."""
        if not self.quiet:
            self.tell(line)

    @staticmethod
    def tell(line: str) -> None:
        """A line for people beside the bar."""
        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """No more bar."""
        self.bar.close()
        for log in self.logs:
            log.close()
