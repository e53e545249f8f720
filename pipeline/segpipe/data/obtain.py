"""From a card to a folder that holds the dataset: the user's own, or archives got and unpacked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpipe.core import files
from segpipe.core.errors import ConfigError, DataError
from segpipe.data import archives, fetch
from segpipe.data.card import LOCAL, Card, Remote

PINS = LOCAL / "pins.json"  # of a workspace: what archives were when they first came, where no publisher says it


@contextmanager
def obtained(
    card: Card, source: Path | None, store: Path, *, pins: Path = PINS, log: Callable[[str], None] = print
) -> Iterator[tuple[Path, bool]]:
    """The folder of a dataset, and whether its files may be moved away.

    Args:
        card: of the dataset.
        source: the user's folder: the dataset itself, or its archives by name; None to download them.
        store: keeps the archives, so that no later call downloads them again; unpacked files live there meanwhile.
        pins: the file of digests on first use.
        log: takes warnings.

    Raises:
        ConfigError: the user has to get the dataset and gave no folder.
        DataError: what `fetch` and `unpack` raise, or a file that differs from its pin.
    """
    if source is not None and not _held(card, source):
        yield source, False
        return
    if source is None and not card.downloads:
        wanted = ", ".join(remote.name for remote in card.remotes)
        archives_ = f" (or {wanted} in one folder)" if wanted else ""
        raise ConfigError(
            f"dataset '{card.name}' needs its folder{archives_}: get it from {card.source}"
            f"{'; ' + card.instructions if card.instructions else ''} and give the folder with --source, "
            "or as download.source in params.yaml"
        )
    for remote in card.remotes:
        for text in (remote.name, remote.into):
            if Path(text).is_absolute() or ".." in Path(text).parts:
                raise ConfigError(f"card {card.name}: '{text}' leads out of the dataset's folder")
    store.mkdir(parents=True, exist_ok=True)
    tree = store / "unpacked"
    with files.lock(store / "lock", str(store)):
        shutil.rmtree(tree, ignore_errors=True)
        try:
            came = [(remote, _unpacked(card, remote, source, store, tree, pins, log)) for remote in card.remotes]
            yield tree, True
            for remote, found in came:  # now that it is known to hold the dataset
                _pin(card, remote, found, pins, log)
        finally:
            shutil.rmtree(tree, ignore_errors=True)


def _unpacked(
    card: Card, remote: Remote, source: Path | None, store: Path, tree: Path, pins: Path, log: Callable[[str], None]
) -> fetch.Fetched:
    """Get an archive, or check the user's, and unpack it."""
    known = _pinned(card, remote, pins)
    if source is None:
        found = fetch.fetch(known, store, dataset=card.name, log=log)
    else:
        found = fetch.checked(known, source / remote.name)
    try:
        archives.unpack(found.path, tree / remote.into)
    except archives.DamagedError:
        if source is None and not known.digests:
            found.path.unlink(missing_ok=True)  # a page that asks for a login, say: the next call asks again
        raise
    return found


def _held(card: Card, source: Path) -> bool:
    """Whether a folder holds the archives of a dataset."""
    return bool(card.files) and all((source / remote.name).is_file() for remote in card.remotes)


def _known(pins: Path) -> dict[str, Any]:
    if not pins.is_file():
        return {}
    try:
        found = json.loads(pins.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{pins} is not valid JSON; restore it or delete it") from None
    return found if isinstance(found, dict) else {}


def _pinned(card: Card, remote: Remote, pins: Path) -> Remote:
    """With the digest of its first download, where the publisher gives none."""
    pin = _known(pins).get(f"{card.name}/{remote.name}")
    if remote.digests or not pin:
        return remote
    if not isinstance(pin, dict) or not pin.keys() >= {"bytes", "sha256"}:
        raise DataError(f"{pins}: the pin of {remote.name} has no bytes or sha256; restore it or delete it")
    return replace(remote, bytes=pin["bytes"], digests={"sha256": pin["sha256"]})


def _pin(card: Card, remote: Remote, found: fetch.Fetched, pins: Path, log: Callable[[str], None]) -> None:
    """Remember what came, so that another file is noticed."""
    known = _known(pins)
    key = f"{card.name}/{remote.name}"
    if remote.digests or key in known:
        return
    known[key] = {"sha256": found.sha256, "bytes": found.bytes, "origin": found.origin}
    files.write_json(pins, dict(sorted(known.items())))
    log(f"warning: no digest of {remote.name} is published; pinned sha256 {found.sha256[:12]}... in {pins}: commit it")
