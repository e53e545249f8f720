"""Paths with fields in braces: which files of a folder fit one, and what the fields of a path are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.data.card import Card
from segpipe.data.sample import SPLITS

_FIELD = re.compile(r"\{(\w+)\}")


def splits_of(card: Card) -> dict[str, str]:
    """What each split is called in the dataset."""
    return card.splits or {split: split for split in SPLITS}


def pattern(text: str) -> re.Pattern[str]:
    """A template as an expression: a field that comes again must be the same again, a star is any text."""
    found, end = "", 0
    for match in _FIELD.finditer(text):
        name = match.group(1)
        again = f"(?P<{name}>" in found
        found += re.escape(text[end : match.start()]).replace(r"\*", "[^/]*")
        found += f"(?P={name})" if again else f"(?P<{name}>[^/]+?)"
        end = match.end()
    return re.compile(found + re.escape(text[end:]).replace(r"\*", "[^/]*"))


def fields(text: str, path: str) -> dict[str, str] | None:
    """The fields of a path that fits a template, else None; the case of an ending says nothing."""
    last = Path(text).suffix
    same = last and path.lower().endswith(last.lower())
    match = pattern(text).fullmatch(path[: len(path) - len(last)] + last if same else path)
    return match.groupdict() if match else None


def walked(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What may fit a template, folder by folder; what is no folder is kept, also a link that leads nowhere."""
    first, *rest = parts
    if rest and not _FIELD.search(first) and "*" not in first:
        if (folder / first).is_dir():
            yield from walked(folder / first, rest)
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; change its mode or owner") from None
    for path in entries:
        inside = is_folder(path)
        if rest and inside:
            yield from walked(path, rest)
        elif not rest and not inside:
            yield path


def is_folder(path: Path) -> bool:
    """False also for links that go in circles."""
    try:
        return path.is_dir()
    except OSError:
        return False


def existing(root: Path, image: str) -> str:
    """The file of a template in which a star stands for whatever is there; the template itself where nothing is."""
    found = sorted(root.glob(image)) if "*" in image else []
    return found[0].relative_to(root).as_posix() if found else image


def root_of(source: Path, first: str, card: Card) -> Path:
    """The folder that the card's paths start from: `source`, or the only one below that has their first part."""
    if "{" in first or "*" in first or (source / first).exists():
        return source
    below = [path.parent for path in sorted(source.glob(f"*/{first}")) + sorted(source.glob(f"*/*/{first}"))]
    if len(below) != 1:
        found = "is missing" if not below else f"is in {', '.join(str(path) for path in below[:3])}"
        raise DataError(f"{source / first} {found}; {card.instructions or 'give the folder that holds it'}")
    return below[0]


def lines_of(listing: Path, card: Card) -> Iterator[tuple[str, str]]:
    """Place and text of the lines of a list that say something."""
    for number, line in enumerate(text_of(listing, card).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield f"{listing}:{number}", line


def text_of(listing: Path, card: Card) -> str:
    """The text of a list, in UTF-8 with or without a mark."""
    if not listing.is_file():
        raise DataError(f"{listing} is missing; {card.instructions or 'complete the dataset'}")
    try:
        text = listing.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{listing} is not UTF-8 text; save it as UTF-8") from None
    if "\0" in text:
        raise DataError(f"{listing} holds a byte 0, which text has not; replace it")
    return text


def reroot(path: str, root: Path) -> str:
    """A path of a list below `root`: of an absolute path of another machine the longest tail that is there.

    Where no tail is, its last two parts, which are missing; what leads out of `root` stays as it is, to be refused.
    """
    parts = [part for part in Path(path.strip().replace("\\", "/")).parts if part != "/"]
    if ".." in parts:
        return Path(*parts).as_posix()
    for start in range(len(parts)):
        tail = Path(*parts[start:])
        if os.path.isfile(root / tail):  # False also for names that are too long
            return tail.as_posix()
    return Path(*parts[-2:]).as_posix() if parts else path
