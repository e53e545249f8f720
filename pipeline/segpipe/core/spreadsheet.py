"""CSV tables that a spreadsheet opens without running what is in them, and that read back exactly."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

# What spreadsheets take for a formula (OWASP, CSV injection), behind any number of the apostrophes that mark text.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def csv_text(header: Sequence[str] | None, rows: Iterable[Sequence[Any]] = ()) -> str:
    """Rows as CSV with plain line ends; None is empty; a text that looks like a formula begins with an apostrophe.

    >>> csv_text(None, [["=1+1", -1, "-1"]])
    "'=1+1,-1,-1\\n"
    """
    stream = io.StringIO()
    plain, quoted = (csv.writer(stream, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in rows if header is None else chain([header], rows):
        safe = [_safe(value) for value in row]
        # Python quotes no value for a carriage return, at which its reader would end the line.
        (quoted if any(isinstance(value, str) and "\r" in value for value in safe) else plain).writerow(safe)
    return stream.getvalue()


def csv_rows(text: str) -> list[dict[str, str]]:
    """The rows of a text of `csv_text`, by the names of its header.

    Raises:
        csv.Error: it is no CSV.

    >>> csv_rows("what,n\\n'=1+1,-1\\n")
    [{'what': '=1+1', 'n': '-1'}]
    """
    lines = [[_plain(value) for value in row] for row in csv.reader(io.StringIO(text, newline=""), strict=True)]
    header, *rows = lines or [[]]
    if any(len(row) != len(header) for row in rows):
        raise csv.Error(f"its lines have other than {len(header)} values")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def _plain(value: str) -> str:
    return value[1:] if value.startswith("'") and _safe(value[1:]) == value else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
