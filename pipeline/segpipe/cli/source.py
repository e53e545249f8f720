"""The dataset that a command looks at: what stage download wrote, or a folder of the user's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from segpipe.core.errors import DataError

if TYPE_CHECKING:
    from segpipe.config.context import Context
    from segpipe.data.card import Card
    from segpipe.data.sample import Sample

Source = Annotated[
    Path | None,
    typer.Option(help="The folder of the dataset; default: data/download, else download.source.", show_default=False),
]


@dataclass(frozen=True)
class Opened:
    """Samples whose files lie below `root`; `shown` is the folder's name for people.

    broken: samples whose labels could not be drawn, by id.
    """

    root: Path
    samples: Sequence[Sample]
    left_out: dict[str, str]
    shown: str
    broken: dict[str, DataError] = field(default_factory=dict)


@contextmanager
def opened(context: Context, card: Card, source: Path | None) -> Iterator[Opened]:
    """data/download when it is complete, else `source` or download.source, drawn aside where masks must be drawn.

    Raises:
        DataError: there is neither.
    """
    from tqdm import tqdm

    from segpipe.data import catalog
    from segpipe.data.dataset import read_left_out, read_samples

    own = context.path("download")
    given = source or (Path(context.params.download.source) if context.params.download.source else None)
    if source is None and context.is_fresh("download", own):
        yield Opened(own, read_samples(own), read_left_out(own), str(own))
        return
    if given is None:
        raise DataError(f"{own} is missing or stale; run `segpipe download`, or give --source DIR")
    root = given.expanduser()
    found = catalog.found_in(card, root)
    if found.write is None:
        yield Opened(root, found.samples, found.left_out, str(root))
        return
    with TemporaryDirectory() as drawn:
        broken = {}
        for sample in tqdm(found.samples, "convert", unit="image", disable=None):
            try:
                found.write(sample, Path(drawn))
            except DataError as error:
                broken[sample.id] = error
        yield Opened(Path(drawn), found.samples, found.left_out, str(root), broken)
