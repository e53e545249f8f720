"""Guesses for labels that are no mask for each image: JSON of COCO's kind, tables, lists."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.core.errors import ConfigError, DataError
from segpipe.data.guess.card import Guess, below
from segpipe.data.guess.masks import SPLITS, check_names, keys_of, palette
from segpipe.data.layouts.names import is_ignored, is_nothing
from segpipe.data.layouts.templates import reroot
from segpipe.data.layouts.trees import rows_of

Names = Sequence[str] | None  # of classes, as the user gives them
_MASK_COLUMN = re.compile(r"mask|label|seg|annot|gt|target", re.IGNORECASE)
_SPLIT_COLUMN = re.compile(r"^(split|subset|set|fold)$", re.IGNORECASE)
_GROUP_COLUMN = re.compile(r"^(group|patient|subject|case|sequence|scene)(_?id)?$", re.IGNORECASE)


def coco(paths: list[Path], images: Path, names: Sequence[str] | None, found: Guess) -> Path:
    """Keys for JSON files of COCO's kind; returns the folder that holds all."""
    root = Path(os.path.commonpath([images, *(path.parent for path in paths)]))
    templates = {}
    for path in paths:
        template, split, called = _with_split(path.relative_to(root).as_posix())
        if len(paths) > 1 and (split is None or split in templates):
            raise DataError(
                f"{path} does not say train, val or test in its path, as {len(paths)} files must; merge them"
            )
        templates[split or "train"] = (template, called)
    if len({template for template, _ in templates.values()}) > 1:
        raise DataError(f"{paths[0]} and {paths[1]} are called differently beyond train, val or test; rename them")
    documents = [read_document(path) for path in paths]
    template = next(iter(templates.values()))[0] if len(paths) > 1 else paths[0].relative_to(root).as_posix()
    if len(paths) > 1:
        found.tables["splits"] = {split: called for split, (_, called) in templates.items()}
        test_of_val(found)
    try:
        categories = {c["id"]: str(c["name"]) for document in documents for c in document["categories"]}
        first = [document["images"][0]["file_name"] for document in documents]
    except (KeyError, TypeError, IndexError):
        raise DataError(f"{paths[0]} is no JSON of COCO's kind; wanted images, annotations and categories") from None
    calls = [called for _, called in templates.values()] if len(paths) > 1 else [""]
    found.keys |= {"layout": "coco", "image": where(images, root, first, calls)}
    found.tables["options"] = {"annotations": template}
    number = sum(len(document["images"]) for document in documents)
    found.say(f"{number} images in {template}", "it has images, annotations and categories, as COCO", "the card")
    classes_by_name([categories[key] for key in sorted(categories)], names, "its categories", found)
    return root


def table(path: Path, images: Path, names: Names, void: Sequence[int] | None, found: Guess) -> tuple[Path, list[Path]]:
    """Keys for a table of images and masks; returns the folder that holds all, and the images."""
    root = Path(os.path.commonpath([images, path.parent]))

    try:
        rows = list(rows_of(path.read_text(encoding="utf-8-sig")))
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{path} is no table in UTF-8; save it as .csv in UTF-8") from None
    columns = {
        name: (folder, files)
        for name in (rows[0] if rows else {})
        if name
        for folder, files in [_files_of([row[name] or "" for row in rows], root, images)]
        if files
    }
    of_masks = [name for name in columns if _MASK_COLUMN.search(name)] or list(columns)[1:]
    of_images = [name for name in columns if name not in of_masks[:1]]
    if not of_masks or not of_images:
        raise DataError(
            f"{path} has no two columns that name files below {root} (columns: {', '.join(rows[0] if rows else [])}); "
            "put it into the folder that its paths start from"
        )
    image, mask = of_images[0], of_masks[0]
    options = {"image": image, "mask": mask, "images": columns[image][0], "masks": columns[mask][0]}
    split = next((name for name in rows[0] if name and _SPLIT_COLUMN.match(name)), None)
    if split is not None:
        values = {row[split] for row in rows if row[mask]}
        called = {ours: v for v in sorted(values) for ours, words in SPLITS.items() if (v or "").lower() in words}
        if "train" in called:
            options["split"] = split
            found.tables["splits"] = called
            test_of_val(found)
    group = next((name for name in rows[0] if name and _GROUP_COLUMN.match(name)), None)
    if group is not None:
        options["group"] = group
    found.tables["options"] = {key: value for key, value in options.items() if value}
    found.keys |= {"layout": "csv", "lists": path.relative_to(root).as_posix()}
    said = ", ".join(f"{key} in '{options[key]}'" for key in ("image", "mask", "split", "group") if key in options)
    found.say(f"columns of {path.name}: {said}", "these name files, splits and groups", "edit [options] in the card")
    keys, guess = keys_of(columns[mask][1], columns[mask][1][0].parent, names, void)
    found.keys |= keys
    found.say(*guess)
    return root, columns[image][1]


@dataclass(frozen=True)
class Lists:
    """Files that name the images of each split: their template, what splits are called in it, and all names."""

    template: str
    splits: dict[str, str]
    names: set[str]


def lists(root: Path, stems: set[str]) -> Lists | None:
    """Lists of a split's names, such as PASCAL VOC's, where there are some; those for segmentation first."""
    places = {*root.glob("train.txt"), *root.glob("*/train.txt"), *root.glob("*/*/train.txt")}
    for listing in sorted(places, key=lambda path: ("segmentation" not in path.as_posix().lower(), path)):
        splits, names = {}, set[str]()
        for split, words in SPLITS.items():
            for word in words:
                path = listing.with_name(f"{word}.txt")
                if split not in splits and path.is_file():
                    lines = path.read_text(errors="replace").splitlines()
                    listed = {
                        line.split()[0].removesuffix(Path(line.split()[0]).suffix) for line in lines if line.strip()
                    }
                    if listed and listed <= stems:
                        splits[split] = word
                        names |= listed
        if {"train", "val"} <= splits.keys() or {"train", "test"} <= splits.keys():
            return Lists((listing.parent.relative_to(root) / "{split}.txt").as_posix(), splits, names)
    return None


def lists_of_pairs(
    root: Path, images: Path, masks: Path, names: Names, void: Sequence[int] | None, found: Guess
) -> list[Path] | None:
    """Keys for train.txt, val.txt and test.txt whose lines name an image and its mask, and the images.

    None where there are no such lists, or they name files out of the folders of images and masks.
    """
    rows = []
    for split in SPLITS:
        path = root / f"{split}.txt"
        if not path.is_file():
            return None
        rows += [line.split() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    if not rows or any(len(row) != 2 for row in rows):
        return None
    pairs = [(root / reroot(image, root), root / reroot(mask, root)) for image, mask in rows]
    inside = all(image.is_relative_to(images) and mask.is_relative_to(masks) for image, mask in pairs)
    if not inside or not all(path.is_file() for path in pairs[0]):
        return None
    missing = [path for pair in pairs for path in pair if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]} is missing, which a list in {root} names ({len(missing)} in all); add them")
    found.keys["layout"] = "lists"
    found.say(
        f"{len(pairs)} pairs, and their splits, from train.txt, val.txt and test.txt",
        "each line names an image and its mask",
        "edit the card",
    )
    found.tables["splits"] = {split: split for split in SPLITS}
    keys, guess = keys_of([mask for _, mask in pairs], pairs[0][1].parent, names, void, found.reading)
    found.keys |= keys
    found.say(*guess)
    return [image for image, _ in pairs]


def use(listed: Lists, found: Guess) -> None:
    """Splits from lists, unless folders say what they are."""
    template = Path(found.keys["image"])
    if "{folder}" in found.keys["image"] or "splits" in found.tables or template.stem != "{name}":
        found.say("the lists are not used", "folders or names of images say other splits", "lists in the card")
        return
    found.keys["lists"], found.tables["splits"] = listed.template, dict(listed.splits)
    test_of_val(found)
    found.say(f"splits from {listed.template}", "these lists name images", "remove lists from the card")


def test_of_val(found: Guess) -> None:
    """What is called val and not test is test: it is not looked at before the end."""
    splits = found.tables["splits"]
    if "test" not in splits and "val" in splits:
        splits["test"] = splits.pop("val")
        why = "there is no test, and final scores need images that nothing was tuned on"
        found.say(f"'{splits['test']}' is test, and val is cut out of train", why, "edit [splits] in the card")


def classes_by_name(known: Sequence[str], names: Sequence[str] | None, why: str, found: Guess) -> None:
    """The card's classes by their names, what is nothing first."""
    nothing = [name for name in known if is_nothing(name)]
    named = [nothing[0] if nothing and nothing[0] != "_background_" else "background"]
    named += [name for name in dict.fromkeys(known) if not is_nothing(name) and not is_ignored(name)]
    if names:
        if sorted(names) != sorted(named) or not is_nothing(names[0]):
            raise ConfigError(f"--classes {','.join(names)}: the labels are called {', '.join(named)}; edit the card")
        named = list(names)
    check_names(named, len(named), "labels")
    found.keys |= {"classes": named, "void": [255], "palette": palette(len(named), nothing=True)}
    found.say(f"{len(named)} classes: {', '.join(named[:6])}{', ...' if len(named) > 6 else ''}", why, "the card")


def read_document(path: Path) -> Any:
    """A JSON; DataError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        raise DataError(f"{path} is not valid JSON; replace it") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _with_split(path: str) -> tuple[str, str | None, str]:
    """A path with its split's word as a field, the split, and the word."""
    for split, words in SPLITS.items():
        for word in sorted(words, key=len, reverse=True):
            expression = rf"(?<![A-Za-z]){word}(?![A-Za-z])"
            match = re.search(expression, path, re.IGNORECASE)
            if match:
                return re.sub(expression, "{split}", path, flags=re.IGNORECASE), split, match.group()
    return path, None, ""


def where(images: Path, root: Path, first: list[str], calls: list[str]) -> str:
    """The template of the images: below their folder, or in one whose name holds the split's word."""

    base = images.relative_to(root).as_posix()
    if all((images / name).is_file() or (root / reroot(name, root)).is_file() for name in first):
        return below(base, "{name}")
    folders = sorted(path.name for path in images.iterdir() if path.is_dir())
    for folder in folders:
        template = folder.replace(calls[0], "{split}", 1) if calls[0] else folder
        if all((images / template.format(split=c) / name).is_file() for c, name in zip(calls, first, strict=True)):
            return below(base, f"{template}/{{name}}")
    raise DataError(
        f"{images / first[0]} is missing, the first image of the annotations; give their folder as --images"
    )


def _files_of(values: list[str], root: Path, images: Path) -> tuple[str, list[Path]]:
    """The files that a column names, and the folder they lie in; none where it names something else."""

    some = [value.strip() for value in values if value.strip()]
    if not some or not Path(some[0]).suffix:
        return "", []
    folders = ["", images.relative_to(root).as_posix()]
    folders += [path.relative_to(root).as_posix() for path in sorted(root.glob("*")) if path.is_dir()]
    for folder in folders:
        files = [root / reroot((Path(folder) / value).as_posix(), root) for value in some]
        if sum(file.is_file() for file in files) > 0.9 * len(files):
            return folder if folder != "." else "", [file for file in files if file.is_file()]
    return "", []
