"""The layouts of datasets: how the samples of a folder are found."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.core.registry import register
from segpipe.data.card import Card
from segpipe.data.catalog import SPLITS, Sample

_FIELD = re.compile(r"\{(\w+)\}")
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")


@register("lists", source="train.txt, val.txt and test.txt of SegNet's CamVid and of mmsegmentation's custom folders")
def lists(card: Card, source: Path) -> list[Sample]:
    """The samples named by `train.txt`, `val.txt`, `test.txt`: lines of `image mask`.

    Absolute paths of another machine are re-rooted: the longest tail that exists below `source`.
    """
    root = _root(source, "train.txt", card)
    samples: list[Sample] = []
    for split in SPLITS:
        for where, line in _lines(root / f"{split}.txt", card):
            parts = line.split()
            if len(parts) != 2:
                raise DataError(f"{where} has {len(parts)} fields, wanted 'image mask'")
            image, mask = (_reroot(part, root, where) for part in parts)
            samples.append(Sample(Path(image).stem, split, "", image, (mask,)))
    if not samples:
        raise DataError(f"{root} lists no image; fill train.txt, val.txt and test.txt")
    return finished(_below(samples, source, root), card, source)


@register("template", source="every tree whose paths say which mask belongs to which image")
def template(card: Card, source: Path) -> list[Sample]:
    """Images whose paths fit `image`; the fields of a path fill the masks' templates.

    With `lists` only what these files name is taken: each line's first word is the field {name}.
    """
    root = _root(source, Path(card.lists or card.image).parts[0], card)
    samples = list(_listed(card, root) if card.lists else _globbed(card, root))
    if not samples:
        raise DataError(f"{source} holds no {card.image}; {card.instructions or 'complete the dataset'}")
    _refuse_missing(samples, root)
    return finished(_below(samples, source, root), card, source)


@register("voc_aug", source="DeepLab's trainaug: VOC 2012 with the masks of SBD, as mmsegmentation merges them")
def voc_aug(card: Card, source: Path) -> list[Sample]:
    """VOC's train and val with VOC's masks, and what SBD adds to train: what is in neither of VOC's lists."""
    root = _root(source, "VOCdevkit", card)
    voc, sbd = Path("VOCdevkit/VOC2012"), Path("benchmark_RELEASE/dataset")
    samples, known = [], set[str]()
    for split, called in (("train", "train"), ("test", "val")):
        for _, line in _lines(root / voc / f"ImageSets/Segmentation/{called}.txt", card):
            name = line.split()[0]
            known.add(name)
            image, mask = voc / f"JPEGImages/{name}.jpg", voc / f"SegmentationClass/{name}.png"
            samples.append(Sample(name, split, "", image.as_posix(), (mask.as_posix(),)))
    more = {line.split()[0] for called in ("train", "val") for _, line in _lines(root / sbd / f"{called}.txt", card)}
    for name in sorted(more - known):
        image, mask = sbd / f"img/{name}.jpg", sbd / f"cls/{name}.mat"
        samples.append(Sample(name, "train", "", image.as_posix(), (mask.as_posix(),)))
    _refuse_missing(samples, root)
    return finished(_below(samples, source, root), card, source)


def _refuse_missing(samples: list[Sample], root: Path) -> None:
    """DataError when files that samples name are not there."""
    missing = [
        (path, "an image" if path == sample.image else f"the mask of {sample.image}")
        for sample in samples
        for path in (sample.image, *sample.labels)
        if not os.path.isfile(root / path)
    ]
    if missing:
        path, what = missing[0]
        others = ", ".join(other for other, _ in missing[1:4])
        more = f" (and {len(missing) - 1} more: {others}{', ...' if len(missing) > 4 else ''})" if others else ""
        raise DataError(f"{root / path} is missing, {what}{more}; complete the dataset")


def _below(samples: list[Sample], source: Path, root: Path) -> list[Sample]:
    """Samples whose paths start from `source` instead of from a folder in it."""
    if root == source:
        return samples
    at = root.relative_to(source)
    return [
        replace(s, image=(at / s.image).as_posix(), labels=tuple((at / mask).as_posix() for mask in s.labels))
        for s in samples
    ]


def finished(samples: list[Sample], card: Card, source: Path) -> list[Sample]:
    """Samples with unique names, groups and splits, all of them below `source`."""
    seen: dict[str, Sample] = {}
    for sample in samples:
        if sample.id in seen:
            if seen[sample.id].image == sample.image:
                raise DataError(f"{source}: image '{sample.id}' is listed twice; remove one of the lines")
            raise DataError(
                f"{source}: {seen[sample.id].image} and {sample.image} are both called '{sample.id}'; give them names "
                "of their own with the card's `id`"
            )
        seen[sample.id] = sample
        for path in (sample.image, *sample.labels):
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise DataError(f"{source}: '{path}' leads out of the dataset; correct the list or the card")
    samples = _grouped(samples, card)
    if card.groups:
        split_of = {group: split for split, groups in card.groups.items() for group in groups}
        samples = [replace(sample, split=split_of.get(sample.group, sample.split)) for sample in samples]
    for split, share in (("test", card.cut_test), ("val", card.cut_val)):
        if not any(sample.split == split for sample in samples):
            samples = cut(samples, split, share)
    return samples


def cut(samples: list[Sample], into: str, share: float) -> list[Sample]:
    """Move whole groups of train into a split until it has about `share` of the images; drawn by the groups' names.

    A group that would overshoot by more than what is wanted is left, so that one large group cannot take most; where
    all are too large, the smallest is taken.
    """
    from segpipe.core.files import digest

    sizes: dict[str, int] = {}
    for sample in samples:
        if sample.split == "train":
            sizes[sample.group] = sizes.get(sample.group, 0) + 1
    wanted, moved = share * sum(sizes.values()), set[str]()
    drawn = sorted(sizes, key=lambda name: digest(f"{into}/{name}".encode()))
    for group in drawn:
        if 0 < sizes[group] - wanted <= wanted or sizes[group] <= wanted:
            moved.add(group)
            wanted -= sizes[group]
    if share and not moved and len(sizes) > 1:
        moved.add(min(drawn, key=sizes.__getitem__))
    return [replace(s, split=into) if s.split == "train" and s.group in moved else s for s in samples]


def _listed(card: Card, root: Path) -> Iterator[Sample]:
    """The samples that list files name, one file a split."""
    for split, called in _splits(card).items():
        listing = root / card.lists.format(split=called)
        for where, line in _lines(listing, card):
            fields = {"split": called, "name": line.split()[0]}
            image = _existing(root, card.image.format(**fields))
            if image is None:
                raise DataError(f"{where} names {fields['name']}, but {root / card.image.format(**fields)} is missing")
            yield _sample(card, split, image, fields)


def _globbed(card: Card, root: Path) -> Iterator[Sample]:
    """The samples whose images are there, in the order of their paths."""
    split_of = {called: split for split, called in _splits(card).items()}
    pattern, last = _pattern(card.image), Path(card.image).suffix
    for path in sorted(_walked(root, Path(card.image).parts)):
        image = path.relative_to(root).as_posix()
        # The case of an ending says nothing.
        same = path.suffix.lower() == last.lower()
        match = pattern.fullmatch(image[: len(image) - len(last)] + last if same else image)
        if not match:
            continue
        fields = match.groupdict()
        split = split_of.get(fields["split"]) if "split" in fields else "train"
        if split is not None and path.suffix.lower() in (*_IMAGES, ".gz"):
            yield _sample(card, split, image, fields)


def _walked(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What may fit a template, folder by folder; what is no folder is kept, also a link that leads nowhere."""
    first, *rest = parts
    if rest and not _FIELD.search(first) and "*" not in first:
        if (folder / first).is_dir():
            yield from _walked(folder / first, rest)
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; change its mode or owner") from None
    for path in entries:
        inside = _is_folder(path)
        if rest and inside:
            yield from _walked(path, rest)
        elif not rest and not inside:
            yield path


def _is_folder(path: Path) -> bool:
    """False also for links that go in circles."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _sample(card: Card, split: str, image: str, fields: dict[str, str]) -> Sample:
    return Sample(card.id.format(**fields), split, "", image, tuple(mask.format(**fields) for mask in card.masks))


def _splits(card: Card) -> dict[str, str]:
    return card.splits or {split: split for split in SPLITS}


def _pattern(text: str) -> re.Pattern[str]:
    """A template as an expression: a field that comes again must be the same again."""
    found, end = "", 0
    for match in _FIELD.finditer(text):
        name = match.group(1)
        again = f"(?P<{name}>" in found
        found += re.escape(text[end : match.start()]).replace(r"\*", "[^/]*")
        found += f"(?P={name})" if again else f"(?P<{name}>[^/]+?)"
        end = match.end()
    return re.compile(found + re.escape(text[end:]).replace(r"\*", "[^/]*"))


def _existing(root: Path, image: str) -> str | None:
    """The image of a template, in which a star stands for whatever is there."""
    found = sorted(root.glob(image)) if "*" in image else [root / image]
    return found[0].relative_to(root).as_posix() if found and found[0].is_file() else None


def _root(source: Path, first: str, card: Card) -> Path:
    """The folder that the card's paths start from: `source`, or the only one below that has their first part."""
    if "{" in first or "*" in first or (source / first).exists():
        return source
    below = [path.parent for path in sorted(source.glob(f"*/{first}")) + sorted(source.glob(f"*/*/{first}"))]
    if len(below) != 1:
        found = "is missing" if not below else f"is in {', '.join(str(path) for path in below[:3])}"
        raise DataError(f"{source / first} {found}; {card.instructions or 'give the folder that holds it'}")
    return below[0]


def _lines(listing: Path, card: Card) -> Iterator[tuple[str, str]]:
    """Place and text of the lines of a list that say something."""
    if not listing.is_file():
        raise DataError(f"{listing} is missing; {card.instructions or 'complete the dataset'}")
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{listing} is not UTF-8 text; save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            yield f"{listing}:{number}", line


def _reroot(path: str, source: Path, where: str) -> str:
    parts = Path(path.replace("\\", "/")).parts
    for start in range(len(parts)):
        tail = Path(*parts[start:])
        if ".." not in tail.parts and not tail.is_absolute() and (source / tail).is_file():
            return tail.as_posix()
    raise DataError(f"{where} names {path}, which is not below {source}; complete the dataset or its list")


def _grouped(samples: list[Sample], card: Card) -> list[Sample]:
    """Samples with their group: the sequence in their name, cut into blocks of consecutive frames."""
    counts: dict[str, int] = {}
    grouped = []
    for sample in samples:
        match = re.search(card.group_pattern, sample.id) if card.group_pattern else None
        group = match.group(1) if match else sample.id
        if card.group_block:
            key = f"{sample.split}/{group}"
            counts[key] = counts.get(key, -1) + 1
            group = f"{group}_{counts[key] // card.group_block:02d}"
        grouped.append(replace(sample, group=group))
    return grouped
