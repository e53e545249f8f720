"""Layouts in which images and masks are files of their own, taken as they are."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.core.registry import register
from segpipe.data.card import Card
from segpipe.data.layouts.found import IMAGES, Found, finished
from segpipe.data.layouts.templates import existing, fields, lines_of, reroot, root_of, splits_of, text_of, walked
from segpipe.data.sample import SPLITS, Sample


@register("lists", source="train.txt, val.txt and test.txt of SegNet's CamVid and of mmsegmentation's custom folders")
def lists(card: Card, source: Path) -> Found:
    """The samples named by `train.txt`, `val.txt`, `test.txt`: lines of `image mask`.

    Absolute paths of another machine are re-rooted: the longest tail that exists below `source`.
    """
    root = root_of(source, "train.txt", card)
    samples: list[Sample] = []
    for split in SPLITS:
        for where, line in lines_of(root / f"{split}.txt", card):
            parts = line.split()
            if len(parts) != 2:
                raise DataError(f"{where} has {len(parts)} fields, wanted 'image mask'")
            image, mask = (reroot(part, root) for part in parts)
            samples.append(Sample(Path(image).stem, split, "", image, (mask,)))
    if not samples:
        raise DataError(f"{root} lists no image; fill train.txt, val.txt and test.txt")
    return _found(_told_apart(samples), {}, card, source, root)


@register("csv", source="Kaggle's tables of images and masks, such as DeepGlobe's metadata.csv")
def csv_table(
    card: Card,
    source: Path,
    *,
    image: str = "image",
    mask: str = "mask",
    split: str = "",
    group: str = "",
    images: str = "",
    masks: str = "",
) -> Found:
    """The samples named by the rows of the card's `lists`, a .csv; rows without a mask are left out.

    Args:
        card: names the table, and what splits are called in it.
        source: the folder that paths in the table start from, or a tail of them.
        image: the column of paths of images.
        mask: the column of paths of masks.
        split: the column of splits; without one val and test are cut out.
        group: the column of what stays in one split.
        images: the folder of the images, where the table has names alone.
        masks: that of the masks.
    """
    root = root_of(source, Path(card.lists).parts[0], card)
    table = root / card.lists
    rows = rows_of(text_of(table, card))
    header = [name for name in rows.fieldnames or () if name]
    absent = [name for name in (image, mask, split, group) if name and name not in header]
    if absent:
        raise DataError(f"{table} has no column '{absent[0]}', it has {', '.join(header)}; name columns in [options]")
    split_of = {called: ours for ours, called in splits_of(card).items()}
    samples, left_out = [], {}
    for row in rows:
        at = reroot((Path(images) / row[image].strip()).as_posix(), root)
        if not row[image].strip():
            raise DataError(f"{table}:{rows.line_num} names no image; complete or remove the line")
        if split and row[split] not in split_of:
            left_out[at] = f"its {split} '{row[split]}' is no split of the card"
        elif not row[mask].strip():
            left_out[at] = f"{card.lists} gives it no mask"
        else:
            ours = split_of[row[split]] if split else "train"
            of_group = row[group] if group else ""
            of_mask = reroot((Path(masks) / row[mask].strip()).as_posix(), root)
            samples.append(Sample(Path(at).stem, ours, of_group, at, (of_mask,)))
    if not samples:
        raise DataError(f"{table} lists no image with a mask; complete it")
    return _found(_told_apart(samples), left_out, card, source, root)


@register("template", source="every tree whose paths say which mask belongs to which image")
def template(card: Card, source: Path) -> Found:
    """Images whose paths fit `image`; the fields of a path fill the masks' templates.

    With `lists` only what these files name is taken: each line's first word is the field {name}.
    """
    root = root_of(source, Path(card.lists or card.image).parts[0], card)
    left_out: dict[str, str] = {}
    samples = list(_listed(card, root) if card.lists else matched(card, root, left_out))
    masks = {mask for sample in samples for mask in sample.labels}
    samples = [sample for sample in samples if sample.image not in masks]  # where masks lie among images of one type
    if card.unlabelled:
        alone = {s.image for s in samples if not all((root / mask).exists() for mask in s.labels)}
        left_out |= dict.fromkeys(sorted(alone), "it has no mask")
        samples = [sample for sample in samples if sample.image not in alone]
    if not samples:
        raise DataError(f"{source} holds no {card.image}; {card.instructions or 'complete the dataset'}")
    return _found(samples, left_out, card, source, root)


@register("voc_aug", source="DeepLab's trainaug: VOC 2012 with the masks of SBD, as mmsegmentation merges them")
def voc_aug(card: Card, source: Path) -> Found:
    """VOC's train and val with VOC's masks, and what SBD adds to train: what is in neither of VOC's lists."""
    root = root_of(source, "VOCdevkit", card)
    voc, sbd = Path("VOCdevkit/VOC2012"), Path("benchmark_RELEASE/dataset")
    samples, known = [], set[str]()
    for split, called in (("train", "train"), ("test", "val")):
        for _, line in lines_of(root / voc / f"ImageSets/Segmentation/{called}.txt", card):
            name = line.split()[0]
            known.add(name)
            image, mask = voc / f"JPEGImages/{name}.jpg", voc / f"SegmentationClass/{name}.png"
            samples.append(Sample(name, split, "", image.as_posix(), (mask.as_posix(),)))
    more = {line.split()[0] for called in ("train", "val") for _, line in lines_of(root / sbd / f"{called}.txt", card)}
    for name in sorted(more - known):
        image, mask = sbd / f"img/{name}.jpg", sbd / f"cls/{name}.mat"
        samples.append(Sample(name, "train", "", image.as_posix(), (mask.as_posix(),)))
    return _found(samples, {}, card, source, root)


def matched(
    card: Card, root: Path, left_out: dict[str, str], suffixes: tuple[str, ...] = (*IMAGES, ".gz")
) -> Iterator[Sample]:
    """The samples whose images are there, in the order of their paths; `left_out` takes those that do not fit."""
    split_of = {called: split for split, called in splits_of(card).items()}
    for path in sorted(walked(root, Path(card.image).parts)):
        image = path.relative_to(root).as_posix()
        if path.suffix.lower() not in suffixes:
            continue
        found = fields(card.image, image)
        if found is None:
            left_out[image] = f"its name does not fit {card.image}"
        elif "split" in found and found["split"] not in split_of:
            left_out[image] = f"'{found['split']}' is no split of the card"
        else:
            yield _sample(card, split_of[found["split"]] if "split" in found else "train", image, found)


def _listed(card: Card, root: Path) -> Iterator[Sample]:
    """The samples that list files name, one file a split."""
    for split, called in splits_of(card).items():
        for _, line in lines_of(root / card.lists.format(split=called), card):
            known = {"split": called, "name": line.split()[0].removesuffix(Path(card.image).suffix or "/")}
            yield _sample(card, split, existing(root, card.image.format(**known)), known)


def _sample(card: Card, split: str, image: str, known: dict[str, str]) -> Sample:
    return Sample(card.id.format(**known), split, "", image, tuple(mask.format(**known) for mask in card.masks))


def rows_of(text: str) -> csv.DictReader[str]:
    """The rows of a table whose columns are separated by what its first line has most of: comma, semicolon or tab."""
    lines = text.splitlines()
    separator = max(",;\t", key=lambda sign: lines[0].count(sign)) if lines else ","
    return csv.DictReader(lines, delimiter=separator, skipinitialspace=True, restval="")


def _told_apart(samples: list[Sample]) -> list[Sample]:
    """Samples named by their paths where two images of different folders have one name."""
    by_name: dict[str, set[str]] = {}
    for sample in samples:
        by_name.setdefault(sample.id, set()).add(sample.image)
    clash = any(len(images) > 1 for images in by_name.values())
    named = [replace(s, id=Path(s.image).with_suffix("").as_posix().replace("/", "_")) for s in samples]
    return named if clash else samples


def _found(samples: list[Sample], left_out: dict[str, str], card: Card, source: Path, root: Path) -> Found:
    """The samples finished, and what lies beside them and belongs to none."""
    left_out = _unused(samples, card, root) | left_out
    used = {path for sample in samples for path in (sample.image, *sample.labels)}
    left_out = {path: why for path, why in left_out.items() if path not in used}
    if root != source:
        at = root.relative_to(source)
        left_out = {(at / path).as_posix(): why for path, why in left_out.items()}
        samples = [
            replace(s, image=(at / s.image).as_posix(), labels=tuple((at / mask).as_posix() for mask in s.labels))
            for s in samples
        ]
    return Found(finished(samples, card, source), None, dict(sorted(left_out.items())))


def _unused(samples: list[Sample], card: Card, root: Path) -> dict[str, str]:
    """Images that no list names, masks that no image has: files beside those of the samples."""
    used = {path for sample in samples for path in (sample.image, *sample.labels)}
    of_images = {Path(sample.image).parent for sample in samples}
    of_masks = {Path(mask).parent for sample in samples for mask in sample.labels}
    found = {}
    for folder in sorted(of_images | of_masks):
        for name in _names(root, folder):
            if name in used or Path(name).suffix.lower() not in (*IMAGES, ".mat"):
                continue
            if folder in of_images and (card.lists or card.layout != "template"):
                found[name] = "no list names it"
            elif folder not in of_images and (
                card.layout != "template" or any(fields(mask, name) is not None for mask in card.masks)
            ):
                found[name] = "a mask without an image"
    return found


def _names(root: Path, folder: Path) -> list[str]:
    try:
        return sorted((folder / path.name).as_posix() for path in (root / folder).iterdir())
    except FileNotFoundError:
        return []  # the samples that name it are missing
    except OSError as error:
        raise DataError(f"{root / folder} cannot be read: {error.strerror}; change its mode or owner") from None
