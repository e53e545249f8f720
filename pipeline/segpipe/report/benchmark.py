"""The benchmark's tables: which columns a question wants, as Markdown, CSV or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segpipe.core.errors import ConfigError, suggestion
from segpipe.core.spreadsheet import csv_text
from segpipe.metrics.naming import lower_is_better, pretty
from segpipe.report.judgement import Judgement
from segpipe.report.results import Entry
from segpipe.report.tables import Table

_IOU = ("miou_dataset", "miou_image", "miou_class")
# By table: what it asks, and its columns; `class:NAME` is the IoU^D of one class.
TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "losses": ("Which loss?", ("acc", *_IOU, "miou_image_q5", "ece_dataset")),
    "dropout": ("Does dropout help, and which loss with it?", ("share_iou_ge_0.5", "share_iou_ge_0.7", *_IOU)),
    "targets": ("Which labels: hard, soft, of others?", (*_IOU, "ece_dataset", "nll_dataset")),
    "sampling": ("Which images and pixels count?", ("acc", "macc_dataset", *_IOU, "rare")),
    "focal": ("How much do easy pixels count?", ("acc", *_IOU, "ece_dataset", "rare")),
    "models": ("Which network for which average?", _IOU),
    "schedules": ("Which learning rate, optimiser and average of weights?", (*_IOU, "ece_dataset", "nll_dataset")),
    "augmentation": ("Which single augmentation?", (*_IOU, "ece_dataset")),
    "weights": ("How much region loss beside cross entropy?", (*_IOU, "ece_dataset")),
}
FORMS = ("md", "csv", "tex")


@dataclass(frozen=True)
class Cell:
    """Mean over seeds, standard deviation between them, 95 % interval, and the standing: best, tie or neither."""

    mean: float | None
    spread: float | None
    bounds: tuple[float, float] | None
    standing: str


def columns_of(name: str | None, given: Sequence[str], classes: Sequence[str], shares: Sequence[float]) -> list[str]:
    """The columns of a named table or as given; `rare` is the class of the fewest pixels.

    Raises:
        ConfigError: no such table or class.
    """
    if name is not None and name not in TABLES:
        raise ConfigError(f"unknown table '{name}'{suggestion(name, TABLES)}")
    wanted = list(given) or list(TABLES[name or "losses"][1])
    rarest = classes[min(range(len(classes)), key=lambda k: shares[k])]
    wanted = [f"class:{rarest}" if column == "rare" else column for column in wanted]
    for column in wanted:
        if column.startswith("class:") and column[6:] not in classes:
            raise ConfigError(f"unknown class '{column[6:]}'{suggestion(column[6:], classes)}")
    return wanted


def cells(
    entries: Sequence[Entry], judged: Judgement | None, columns: Sequence[str], classes: Sequence[str]
) -> list[list[Cell]]:
    """By entry and column; ties are runs from which the best is not shown to differ."""
    standings = {} if judged is None else {c: judged.standing(c) for c in columns if judged.order(c)}
    table: list[list[Cell]] = []
    for entry in entries:
        row = []
        for column in columns:
            if column.startswith("class:"):
                k = classes.index(column[6:])
                values = [m["test"]["per_class"]["iou_dataset"][k] for m in entry.metrics]
                defined = [value for value in values if value is not None]
                row.append(Cell(sum(defined) / len(defined) if defined else None, None, None, ""))
                continue
            mark, bounds = "", None
            if judged is not None and column in standings:
                found = standings[column]
                tied = entry.name in (*found.same, *found.ties) and not judged.caution_of(column)
                mark = "best" if entry.name == found.best else "tie" if tied else ""
                bounds = judged.bounds[entry.name].get(column)
            row.append(Cell(entry.mean(column), entry.spread(column), bounds, mark))
        table.append(row)
    return table


def text(form: str, names: Sequence[str], columns: Sequence[str], table: Sequence[Sequence[Cell]], note: str) -> str:
    """The table in a form; Markdown and LaTeX set the best in bold and mark its ties."""
    if form == "csv":
        header = [
            "what",
            *(f"{column}{part}" for column in columns for part in ("", "_sd", "_low", "_high", "_standing")),
        ]
        return csv_text(
            header,
            [
                [name, *(v for c in row for v in (c.mean, c.spread, *(c.bounds or (None, None)), c.standing))]
                for name, row in zip(names, table, strict=True)
            ],
        )
    heads = [_head(column) for column in columns]
    if form == "md":
        return f"{scores_table(names, columns, table).markdown()}\n{note}\n"
    lines = [" & ".join([_tex(name), *map(_latex, row)]) + r" \\" for name, row in zip(names, table, strict=True)]
    head = " & ".join(["", *(_tex_head(head) for head in heads)]) + r" \\"
    body = "\n".join([rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\hline", head, r"\hline", *lines, r"\hline"])
    return f"% {note}\n{body}\n\\end{{tabular}}\n"


def scores_table(names: Sequence[str], columns: Sequence[str], table: Sequence[Sequence[Cell]]) -> Table:
    """The table alone, the best of a column in bold."""
    rows = [[name, *map(_markdown, row)] for name, row in zip(names, table, strict=True)]
    return Table(["what", *map(_head, columns)], rows)


def _head(column: str) -> str:
    if column.startswith("class:"):
        return f"IoU^D {column[6:]}"
    return f"{pretty(column)} {'↓' if lower_is_better(column) else '↑'}"


def _number(cell: Cell) -> str:
    if cell.mean is None:
        return "–"
    return f"{cell.mean:.3f}" + ("" if cell.spread is None else f" ± {cell.spread:.3f}")


def _markdown(cell: Cell) -> str:
    return {"best": f"**{_number(cell)}**", "tie": f"{_number(cell)} ="}.get(cell.standing, _number(cell))


def _latex(cell: Cell) -> str:
    number = _number(cell).replace("±", r"$\pm$").replace("–", "--")
    return {"best": rf"\textbf{{{number}}}", "tie": rf"{number}\,="}.get(cell.standing, number)


def _tex(words: str) -> str:
    for sign in ("_", "%", "&", "#"):
        words = words.replace(sign, "\\" + sign)
    return words


def _tex_head(head: str) -> str:
    """`mIoU^D ↑` with its signs in mathematics."""
    words = _tex(head).replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$").replace(">=", r"$\geq$")
    for average in "DIC":
        words = words.replace(f"^{average}", f"$^{{{average}}}$")
    return words
