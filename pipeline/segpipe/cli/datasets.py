"""Command datasets: which datasets segpipe knows, and what it knows of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from segpipe.cli import options

if TYPE_CHECKING:
    from segpipe.data.card import Card

app = typer.Typer(help="The datasets that segpipe knows.", no_args_is_help=True)


@app.command("list")
def list_datasets(as_json: options.Json = False) -> None:
    """All datasets: classes, how they come, what they are."""
    from segpipe.data import catalog

    cards = catalog.cards()
    if as_json:
        print(
            json.dumps({name: {"classes": c.num_classes, "how": how(c), "title": c.title} for name, c in cards.items()})
        )
        return
    width = max(map(len, cards))
    print(f"{'name':<{width}}  classes  {'how':<9}  what")
    for name, card in cards.items():
        print(f"{name:<{width}}  {card.num_classes:>7}  {how(card):<9}  {card.title}")


@app.command("show")
def show_dataset(
    name: Annotated[str, typer.Argument(help="A dataset, e.g. camvid.")], as_json: options.Json = False
) -> None:
    """One dataset: archives, splits, classes, licence, and what to run."""
    from segpipe.data import catalog

    card = catalog.card(name)
    if as_json:
        print(json.dumps(vars(card)))
        return
    print(f"{card.name}: {card.title}\n")
    rows = {
        "licence": card.licence,
        "source": card.source,
        "get it": {"download": "downloaded by segpipe", "by hand": card.instructions}.get(how(card), how(card)),
        "images": ", ".join(f"{number} {split}" for split, number in card.images.items()),
        "splits": _splits(card),
        "notes": card.notes,
    }
    for title, text in rows.items():
        if text:
            print(f"{title:<8}  {text}")
    for remote in card.remotes:
        size = f"{remote.bytes / 1e6:.1f} MB, " if remote.bytes else ""
        kinds = ", ".join(remote.digests) or "no digest is published: pinned at its first download"
        print(f"file      {remote.name} ({size}{kinds})")
        for url in remote.urls:
            print(f"          {url}")
    print("\nid   colour       class")
    for number, (label, color) in enumerate(zip(card.classes, card.palette, strict=True)):
        print(f"{number:<3}  {', '.join(f'{c:>3}' for c in color)}  {label}")
    if not card.tests_alone:
        source = "" if card.downloads or card.layout == "generated" else " --source DIR"
        print(f"\nnext: segpipe init {card.name}{source}")


def how(card: Card) -> str:
    """How a dataset comes."""
    if card.layout == "generated":
        return "built in"
    return "download" if card.downloads else "by hand"


def _splits(card: Card) -> str:
    """In words where train, val and test come from."""
    if card.layout in ("generated", "lists"):
        return "as published"
    if card.groups:
        return "; ".join(f"{split}: groups {', '.join(names)}" for split, names in card.groups.items())
    named = [f"{split} is the official {called}" for split, called in card.splits.items()]
    drawn = [("test", card.cut_test), ("val", card.cut_val if not card.tests_alone else 0)]
    drawn = [(split, share) for split, share in drawn if share and split not in card.splits]
    return "; ".join(named + [f"{split} is {share:.0%} of train, cut by group" for split, share in drawn])
