"""What can go wrong, as a tree; every leaf knows its exit code.

SegpipeError            1   an error of segpipe itself
├── ConfigError         2   a parameter, option or name is wrong
├── DataError           3   an input file is missing, corrupt or does not fit
├── TrainingError       4   training went non-finite
└── BusyError           5   another process writes the same output
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SegpipeError(Exception):
    """Base of all errors that segpipe explains in one line."""

    exit_code = 1

    @property
    def found(self) -> str:
        """What was found and wanted: all but the remedy."""
        what, _, remedy = str(self).rpartition("; ")
        return what or remedy

    @property
    def remedy(self) -> str:
        """What to do next: what a message says after its last semicolon."""
        what, _, remedy = str(self).rpartition("; ")
        return remedy if what else ""


class ConfigError(SegpipeError, ValueError):
    """A parameter, option or name is wrong."""

    exit_code = 2


class DataError(SegpipeError, ValueError):
    """An input file is missing, corrupt or does not fit the others."""

    exit_code = 3


class TrainingError(SegpipeError):
    """Training met a loss or weight that is not finite."""

    exit_code = 4


class BusyError(SegpipeError):
    """Another process is writing the same output."""

    exit_code = 5


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the near miss, else all known names.

    >>> suggestion("focl", ["ce", "focal"])
    "; did you mean 'focal'?"
    >>> suggestion("zzz", ["ce", "focal"])
    '; known: ce, focal'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""
