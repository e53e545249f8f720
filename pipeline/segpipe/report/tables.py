"""A table of the report: cells as text, from which Markdown and HTML are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PAPER = 12  # columns of numbers that a printed page holds


@dataclass(frozen=True)
class Table:
    """A header and rows of cells; the first column is text, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Aligned columns; bars inside cells are escaped."""
        lines = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        columns = range(len(self.header))
        widths = [max(2, *(len(line[i]) for line in lines)) for i in columns]  # a rule has at least "-:"
        rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        padded = [
            [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
            for line in (lines[0], rule, *lines[1:])
        ]
        return "".join(f"| {' | '.join(line)} |\n" for line in padded)

    def narrow(self, widest: int = PAPER) -> list[Table]:
        """Tables of at most `widest` columns beside the first, which each repeats: paper is not wide enough for all
        classes of some datasets.

        >>> for part in Table(["run", "a", "b", "c"], [["x", "1", "2", "3"]]).narrow(2): print(part.markdown())
        | run |  a |  b |
        | --- | -: | -: |
        | x   |  1 |  2 |
        <BLANKLINE>
        | run |  c |
        | --- | -: |
        | x   |  3 |
        <BLANKLINE>
        """
        parts = [slice(i, i + widest) for i in range(1, len(self.header), widest)]
        return [
            Table([self.header[0], *self.header[part]], [[row[0], *row[part]] for row in self.rows]) for part in parts
        ]
