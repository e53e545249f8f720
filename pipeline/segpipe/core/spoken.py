"""Text that only people read."""

from __future__ import annotations


def spoken(text: str) -> str:
    """`text` itself. It marks a sentence that is shown and never written into a result: a change of it reruns no stage
    (see `segpipe.config.meaning`).
    """
    return text
