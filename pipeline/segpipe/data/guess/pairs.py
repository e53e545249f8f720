"""A card for a folder of images and a folder of masks: every guess has a reason, and an option that overrides it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from statistics import median

from segpipe.core.errors import ConfigError, DataError
from segpipe.data.files import read_image
from segpipe.data.guess import annotations as drawn
from segpipe.data.guess.card import Guess
from segpipe.data.guess.masks import SPLITS, keys_of
from segpipe.data.reading import PLAIN, Reading

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
MASKS = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".jpg", ".jpeg", ".mat")
_LOSSY = (".jpg", ".jpeg")  # a mask only where there is no other
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos")
_MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annots", "gt", "segmentations", "segmentation")
_SIDE = 256  # of the grid, at most


Affixes = tuple[tuple[str, str], tuple[str, str]]  # text before and after the names of images and of masks


def guess(
    images: Path,
    masks: Path,
    *,
    classes: Sequence[str] | None = None,
    void: Sequence[int] | None = None,
    group: str | None = None,
    shares: tuple[float, float] = (0.15, 0.15),
    reading: Reading = PLAIN,
) -> tuple[Path, Guess]:
    """The folder that holds both, and the card's content.

    Args:
        images: their folder.
        masks: their folder.
        classes: names, in the order of ids or colours.
        void: ids that count nowhere.
        group: an expression whose first group names what must stay together.
        shares: of val and test, where no folder says what they are.
        reading: how files of 16 bits or of several pages are read.

    Raises:
        DataError: no images, no masks, or nothing that pairs them.
        ConfigError: an option that does not fit.
    """
    images, masks = images.resolve(), masks.resolve()
    found = Guess(reading=reading)
    if reading.depth:
        found.keys["depth"] = reading.depth
        found.say(f"16 bits become 8 by '{reading.depth}'", "--depth says so", "the card's depth")
    if reading.page:
        found.keys["page"] = reading.page
        found.say(f"page {reading.page} of files with several", "--page says so", "the card's page")
    files = _files(images, IMAGES, "images")
    if masks.suffix.lower() == ".csv" and masks.is_file():
        root, files = drawn.table(masks, images, classes, void, found)
    elif masks.suffix.lower() == ".json" and masks.is_file():
        if drawn.kind_of(masks) == "labelme":
            raise ConfigError(f"{masks} holds the shapes of one image; give the folder of such files as --masks")
        _refuse_void(void)
        root = drawn.coco([masks], images, classes, found)
    else:
        root, files = _of_folder(files, images, masks, classes, void, found)
    _grouped(files, group, shares, found)
    _grid(files, found)
    return root, found


def _of_folder(
    files: list[Path],
    images: Path,
    masks: Path,
    classes: Sequence[str] | None,
    void: Sequence[int] | None,
    found: Guess,
) -> tuple[Path, list[Path]]:
    """The folder that holds both, and the images that have a label."""
    root = Path(os.path.commonpath([images, masks]))
    all_files = _files(masks, (*MASKS, ".json"), "masks")
    shapes = [path for path in all_files if path.suffix.lower() == ".json"]
    labels = [path for path in all_files if path not in set(shapes)]
    named = {path.stem for path in shapes}
    if shapes and (not labels or (images == masks and drawn.is_alone(shapes, files, named))):
        _refuse_void(void)
        if drawn.kind_of(shapes[0]) == "coco":
            return drawn.coco(shapes, images, classes, found), files
        pairs = _paired(files, shapes, images, masks, root, found)
        drawn.labelme([path for _, path in pairs], classes, found)
        return root, [image for image, _ in pairs]
    if images != masks and drawn.per_class(files, labels, images, masks, root, classes, found):
        _refuse_void(void)
        return root, files
    listed = drawn.lists(root, {path.stem for path in files})
    if listed is not None and images != masks:
        files = [path for path in files if path.stem in listed.names]
    between = ("", "")
    if images == masks:
        files, labels, between = _beside(files, labels)
    pairs = _paired(files, labels, images, masks, root, found, between)
    keys, said = keys_of([mask for _, mask in pairs], masks, classes, void, found.reading)
    found.keys |= keys
    found.say(*said)
    if listed is not None:
        drawn.use(listed, found)
    return root, [image for image, _ in pairs]


def _beside(files: list[Path], labels: list[Path]) -> tuple[list[Path], list[Path], tuple[str, str]]:
    """Images and masks of one folder, and what their own folders are called where these lie side by side in each split,
    as in train/images and train/masks.
    """
    names = {path.parent.name for path in (*files, *labels)}
    called = [[name for name in names if name.lower() in words] for words in (_IMAGE_FOLDERS, _MASK_FOLDERS)]
    if len(names) != 2 or any(len(found) != 1 for found in called):
        return files, labels, ("", "")
    (of_images,), (of_masks,) = called
    images = [path for path in files if path.parent.name == of_images]
    return images, [path for path in labels if path.parent.name == of_masks], (of_images, of_masks)


def _refuse_void(void: Sequence[int] | None) -> None:
    """ConfigError: names say what is void, not ids."""
    if void is not None:
        raise ConfigError("--void is for masks of ids; call such labels 'void' or '__ignore__'")


def _files(folder: Path, suffixes: Iterable[str], what: str) -> list[Path]:
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "is missing"
        raise DataError(f"{folder} {state}; give the folder of the {what} with --{what}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise DataError(f"{folder} holds no {what} ({', '.join(suffixes)}); give the right folder with --{what}")
    return found


def _paired(
    images: list[Path], masks: list[Path], of_images: Path, of_masks: Path, root: Path, found: Guess,
    between: tuple[str, str] = ("", ""),
) -> list[tuple[Path, Path]]:  # fmt: skip
    """Image and mask of one name, once what is before and after it is taken away.

    between: folders of images and of masks inside those of the splits.
    """
    masks = [path for path in masks if path.suffix.lower() not in _LOSSY] or masks
    best = _affixes(
        [path.stem for path in images],
        [path.stem for path in masks],
        apart=of_images == of_masks and masks[0].suffix != ".json" and not any(between),
    )
    if best is None:
        raise DataError(
            f"no mask belongs to an image: images are called {images[0].stem}, ..., masks {masks[0].stem}, ...; "
            "rename them so that a mask has its image's name, with a fixed text before or after it"
        )
    (before_i, after_i), (before_m, after_m) = best
    key_of = {_key(path, before_m, after_m, of_masks, between[1]): path for path in masks}
    pairs = [
        (path, key_of[key])
        for path in images
        if (key := _key(path, before_i, after_i, of_images, between[0])) in key_of and path != key_of[key]
    ]
    paired = {path for pair in pairs for path in pair}
    alone = [path for path in images if path not in paired and _fits(path, before_i, after_i)]
    if alone:
        raise DataError(
            f"{alone[0]} has no mask, as {len(alone)} of {len(alone) + len(pairs)} images; add masks or move them away"
        )
    _templates(pairs, of_images, of_masks, root, best, found, between)
    return pairs


def _templates(
    pairs: list[tuple[Path, Path]], of_images: Path, of_masks: Path, root: Path, affixes: Affixes, found: Guess,
    between: tuple[str, str],
) -> None:  # fmt: skip
    """The templates of the card that name the pairs."""
    (before_i, after_i), (before_m, after_m) = affixes
    nested = {len(path.relative_to(of_images).parts) - bool(between[0]) for path, _ in pairs}
    if len(nested) > 1 or max(nested, default=1) > 2:
        raise DataError(
            f"{of_images} holds images in folders of several depths; move them into one, or into one per split"
        )
    suffixes = {path.suffix for _, path in pairs}
    if len(suffixes) > 1:
        raise DataError(f"{of_masks} holds masks of the types {', '.join(sorted(suffixes))}; convert them to one")
    folders = sorted({path.relative_to(of_images).parts[0] for path, _ in pairs}) if nested == {2} else []
    inside = _folders(folders, found)
    types = {path.suffix for path, _ in pairs}
    if len(types) > 1 and any("." in path.stem for path, _ in pairs):
        raise DataError(f"{of_images} holds images of the types {', '.join(sorted(types))}; convert them to one")
    ending = types.pop() if len(types) == 1 else ".{type}"
    if any(sign in str(path.relative_to(root)) for pair in pairs[:1] for path in pair for sign in "{}*"):
        raise DataError(f"{pairs[0][0]} or its mask has one of {{ }} * in its path, which templates use; rename it")
    at_images, at_masks = of_images.relative_to(root).as_posix(), of_masks.relative_to(root).as_posix()
    found.keys["image"] = _joined(at_images, inside, between[0], f"{before_i}{{name}}{after_i}{ending}")
    found.keys["masks"] = [_joined(at_masks, inside, between[1], f"{before_m}{{name}}{after_m}{suffixes.pop()}")]
    names = Counter(path.stem for path, _ in pairs)
    if "{folder}" in inside or ("{split}" in inside and len(names) < len(pairs)):
        found.keys["id"] = f"{inside}_{{name}}"
    found.say(
        f"{len(pairs)} pairs: {found.keys['image']} with {found.keys['masks'][0]}",
        "no other text before or after the names pairs more files, and every image has a mask",
        "edit image and masks in the card",
    )  # fmt: skip


def _fits(path: Path, before: str, after: str) -> bool:
    """Whether a name has the text before and after it."""
    stem = path.stem
    return stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after)


def _key(path: Path, before: str, after: str, folder: Path, between: str) -> str:
    """What an image and its mask share: the folder, and the name without what is around it."""
    stem = path.stem
    if not _fits(path, before, after):
        return f"/{path}"  # shared with nothing
    parent = path.relative_to(folder).parent
    parent = parent.parent if between else parent
    return (parent / stem[len(before) : len(stem) - len(after)]).as_posix()


def _affixes(images: list[str], masks: list[str], *, apart: bool) -> Affixes | None:
    """Text before and after the names of images and of masks that pairs most; of equals the shortest.

    apart: the two differ, since images and masks lie in one folder.
    """
    best, most = None, 0
    sides = [(list(product(_starts(stems), _ends(stems)))) for stems in (images, masks)]
    for first, second in sorted(
        product(*sides), key=lambda pair: (sum(map(len, pair[0])), _unlike(pair[1]), sum(map(len, pair[1])))
    ):
        names = [
            {
                s[len(b) : len(s) - len(a)]
                for s in stems
                if s.startswith(b) and s.endswith(a) and len(s) > len(b) + len(a)
            }
            for stems, (b, a) in ((images, first), (masks, second))
        ]
        shared = 0 if apart and first == second else len(names[0] & names[1])
        if shared > most:
            best, most = (first, second), shared
    return best


def _unlike(affixes: tuple[str, str]) -> bool:
    """Whether the text around a name does not say that this is a mask of classes."""
    text = " ".join(affixes).lower()
    other = any(word in text for word in ("color", "colour", "instance", "panoptic"))
    return other or not any(word in text for word in ("mask", "label", "seg", "gt", "annot", "truth"))


def _starts(stems: list[str]) -> list[str]:
    """Nothing, and what all stems begin with, up to each sign that is no letter."""
    low, high = min(stems), max(stems)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    common = low[:same]
    return ["", *(common[: match.end()] for match in re.finditer(r"[^A-Za-z0-9]", common))]


def _ends(stems: list[str]) -> list[str]:
    """Nothing, and what many stems end with, from each sign that is no letter or digit, or from a digit to a letter."""
    ends = Counter(stem[m.start() :] for stem in stems for m in re.finditer(r"[^A-Za-z0-9]|(?<=\d)[A-Za-z]", stem))
    return ["", *(end for end, number in ends.most_common(8) if number * 4 >= len(stems))]


def _folders(folders: list[str], found: Guess) -> str:
    """The field of the path between the folder and the name."""
    if not folders:
        return ""
    named = {split: [f for f in folders if f.lower() in words] for split, words in SPLITS.items()}
    if all(any(f in of for of in named.values()) for f in folders) and all(len(of) <= 1 for of in named.values()):
        found.tables["splits"] = {split: of[0] for split, of in named.items() if of}
        if "test" not in found.tables["splits"] and "val" in found.tables["splits"]:
            found.tables["splits"]["test"] = found.tables["splits"].pop("val")
        found.say(f"splits from the folders {', '.join(folders)}", "they are called so", "edit [splits] in the card")
        return "{split}"
    return "{folder}"


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part not in ("", "."))


def _grouped(images: list[Path], group: str | None, shares: tuple[float, float], found: Guess) -> None:
    """What must stay together, and how much val and test get."""
    if group is not None:
        try:
            if re.compile(group).groups < 1:
                raise ConfigError(f"--group {group}: wanted a pair of brackets around what names the group")
        except re.error as error:
            raise ConfigError(f"--group {group} is no expression: {error}") from None
        found.keys["group_pattern"] = group
    else:
        stems = [image.stem for image in images]
        prefixes = [match.group(1) if (match := re.match(r"^(.+?)[_-]\d+\D*$", stem)) else stem for stem in stems]
        number = len(set(prefixes))
        if 5 <= number <= len(stems) / 2 and "id" not in found.keys:
            found.keys["group_pattern"] = r"^(.+?)[_-]\d+\D*$"
            found.say(
                f"{number} groups that stay together", "names begin alike and end in a number, as frames do", "--group"
            )
    splits = found.tables.get("splits", {})
    drawn = [split for split in ("val", "test") if split not in splits]
    for split, share in zip(("val", "test"), shares, strict=True):
        if split in drawn:
            found.keys[f"cut_{split}"] = share
    if drawn:
        cut = ", ".join(f"{split} {found.keys[f'cut_{split}']:.0%}" for split in drawn)
        why = "no folder is called so; whole groups are taken, drawn by their names"
        found.say(f"cut out of train: {cut}", why, "--val, --test")
    if len(images) < 6:
        raise DataError(f"{len(images)} images are too few for train, val and test; wanted at least 6")


def _grid(images: list[Path], found: Guess) -> None:
    """The network's grid: the median aspect, the longer side at most 256, sides from 64 in steps of 16."""

    shapes = [read_image(path, found.reading).shape for path in images[:: max(1, len(images) // 16)][:16]]
    height, width = median(s[0] for s in shapes), median(s[1] for s in shapes)
    scale = min(1.0, _SIDE / max(height, width))
    sides = [max(64, round(side * scale / 16) * 16) for side in (height, width)]
    found.params = {"prepare.height": sides[0], "prepare.width": sides[1], "prepare.labels": "annotator 1"}
    found.params |= {"train.epochs": 30, "crf.runs": []}
    found.say(
        f"a grid of {sides[0]} x {sides[1]}", f"the median image is {height:.0f} x {width:.0f}",
        "--set prepare.height=..., --set prepare.width=...",
    )  # fmt: skip
