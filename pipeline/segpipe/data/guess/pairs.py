"""A card for a folder of images and a folder of masks: every guess has a reason, and an option that overrides it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from segpipe.core.errors import ConfigError, DataError
from segpipe.data.files import read_image
from segpipe.data.folders import files_below
from segpipe.data.guess import annotations as drawn
from segpipe.data.guess import documents, polygons
from segpipe.data.guess.affixes import Affixes, affixes, fits
from segpipe.data.guess.card import Guess
from segpipe.data.guess.groups import grouped, split_words
from segpipe.data.guess.masks import SPLITS, keys_of
from segpipe.data.guess.partners import SIGN, leave_out, refuse_seconds
from segpipe.data.guess.several import several
from segpipe.data.reading import PLAIN, Reading

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
MASKS = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".jpg", ".jpeg", ".mat", ".npy")
_LOSSY = (".jpg", ".jpeg")  # a mask only where there is no other
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos")
_MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annots", "gt", "segmentations", "segmentation")
_SIDE = 256  # of the grid, at most


def guess(
    images: Path,
    masks: Path,
    *,
    classes: Sequence[str] | None = None,
    void: Sequence[int] | None = None,
    group: str | None = None,
    shares: tuple[float, float] = (0.15, 0.15),
    reading: Reading = PLAIN,
    leave_out: bool = False,
    masks_are: str = "",
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
        leave_out: skip images without a mask, however many.
        masks_are: what several masks per image are, "classes" or "annotators"; empty: inferred.

    Raises:
        DataError: no images, no masks, or nothing that pairs them.
        ConfigError: an option that does not fit.
    """
    images, masks = images.resolve(), masks.resolve()
    found = Guess(reading=reading, leaves_out=leave_out, several=masks_are)
    if reading.depth:
        found.keys["depth"] = reading.depth
        found.say(f"16 bits become 8 by '{reading.depth}'", "--depth says so", "the card's depth")
    if reading.page:
        found.keys["page"] = reading.page
        found.say(f"page {reading.page} of files with several", "--page says so", "the card's page")
    files = _files(images, IMAGES, "images")
    if masks.suffix.lower() == ".csv" and masks.is_file():
        root, files = drawn.table(masks, images, classes, void, found)
    elif masks.suffix.lower() in documents.DOCUMENTS and masks.is_file():
        _refuse_void(void)
        root = _of_documents([masks], images, classes, found)
    else:
        root, files = _of_folder(files, images, masks, classes, void, found)
    grouped(files, group, shares, found)
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
    named = drawn.lists_of_pairs(root, images, masks, classes, void, found)
    if named is not None:
        return root, named
    texts = polygons.polygon_files(masks, {path.stem for path in files})
    if texts and set(files_below(masks, (*MASKS, *documents.DOCUMENTS))) <= set(files):
        return root, _with_polygons(files, texts, images, masks, root, classes, void, found)
    all_files = _files(masks, (*MASKS, *documents.DOCUMENTS), "masks")
    shapes = [path for path in all_files if path.suffix.lower() in documents.DOCUMENTS]
    labels = [path for path in all_files if path not in set(shapes)]
    drawn_of = {path.stem for path in shapes}
    if shapes and (not labels or (images == masks and documents.is_alone(shapes, files, drawn_of))):
        _refuse_void(void)
        kind = documents.kind_of(shapes[0])
        if not documents.is_of_one_image(kind):
            return _of_documents(shapes, images, classes, found), files
        pairs = _paired(files, shapes, images, masks, root, found)
        documents.of_each_image(kind, [path for _, path in pairs], classes, found)
        return root, [image for image, _ in pairs]
    between = ("", "")
    if images == masks:
        files, labels, between = _beside(files, labels)
    if not any(between):
        whole = several(files, labels, images, masks, root, classes, void, found)
        if whole is not None:
            return root, whole
    listed = drawn.lists(root, {path.stem for path in files})
    if listed is not None and images != masks:
        files = [path for path in files if path.stem in listed.names]
    pairs = _paired(files, labels, images, masks, root, found, between)
    keys, said = keys_of([mask for _, mask in pairs], masks, classes, void, found.reading)
    found.keys |= keys
    found.say(*said)
    if listed is not None:
        drawn.use(listed, found)
    elif (root / "train.txt").is_file():
        why = "its lines do not name these images"
        found.say(f"{root / 'train.txt'} is not used", why, "correct it, or write a card with `lists`")
    return root, [image for image, _ in pairs]


def _of_documents(paths: list[Path], images: Path, classes: Sequence[str] | None, found: Guess) -> Path:
    """Keys for documents that name the images; returns the folder that holds all."""
    kind = documents.kind_of(paths[0])
    if documents.is_of_one_image(kind):
        raise ConfigError(f"{paths[0]} holds the shapes of one image; give the folder of such files as --masks")
    if kind == "coco":
        return drawn.coco(paths, images, classes, found)
    if len(paths) > 1:
        raise DataError(f"{paths[0].parent} holds {len(paths)} documents; export one, and give it as --masks")
    return documents.of_many_images(kind, paths[0], images, classes, found)


def _with_polygons(
    files: list[Path], texts: list[Path], images: Path, masks: Path, root: Path,
    classes: Sequence[str] | None, void: Sequence[int] | None, found: Guess,
) -> list[Path]:  # fmt: skip
    """Keys for text files of polygons; an image without one shows nothing."""
    _refuse_void(void)
    between = ("", "")
    if images == masks:
        files, texts, between = _beside(files, texts)
    pairs = _paired(files, texts, images, masks, root, found, between, unlabelled=False)
    if len(pairs) < len(files):
        what = f"{len(files) - len(pairs)} images without a text file contain no object"
        found.say(what, "YOLO omits empty files", "move such images away")
    polygons.yolo(texts, root, classes, found)
    return files


def _beside(files: list[Path], labels: list[Path]) -> tuple[list[Path], list[Path], tuple[str, str]]:
    """Images and masks of one folder, and what their own folders are called where these lie side by side in each split,
    as in train/images and train/masks; else masks are what is called as an image with an ending.
    """
    names = {path.parent.name for path in (*files, *labels)}
    called = [[name for name in names if name.lower() in words] for words in (_IMAGE_FOLDERS, _MASK_FOLDERS)]
    if len(names) != 2 or any(len(found) != 1 for found in called):
        lossy = [path for path in files if path.suffix.lower() in _LOSSY]
        exact = [path for path in labels if path.suffix.lower() not in _LOSSY]
        if {path.with_suffix("") for path in lossy} == {path.with_suffix("") for path in exact}:
            return lossy, exact, ("", "")  # 0.jpg and 0.png
        stems = {path.stem for path in files}
        ends = {path for path in labels if any(path.stem[: m.start()] in stems for m in SIGN.finditer(path.stem))}
        masked = {path.stem[: m.start()] for path in ends for m in SIGN.finditer(path.stem)}
        rest = [path for path in files if path not in ends]
        whole = bool(rest) and all(path.stem in masked for path in rest)
        return (rest, sorted(ends), ("", "")) if whole else (files, labels, ("", ""))
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
    found = files_below(folder, suffixes)
    if not found:
        raise DataError(f"{folder} holds no {what} ({', '.join(suffixes)}); give the right folder with --{what}")
    return found


def _paired(
    images: list[Path], masks: list[Path], of_images: Path, of_masks: Path, root: Path, found: Guess,
    between: tuple[str, str] = ("", ""), *, unlabelled: bool = True,
) -> list[tuple[Path, Path]]:  # fmt: skip
    """Image and mask of one name, once what is before and after it is taken away.

    between: folders of images and of masks inside those of the splits. unlabelled: an image without a mask lacks one;
    otherwise it is an image without objects.
    """
    exact = [path for path in masks if path.suffix.lower() not in _LOSSY]
    known = {path.stem for path in exact}
    if exact and (of_images == of_masks or all(path.stem in known for path in masks)):
        masks = exact
    together = of_images == of_masks and not any(between) and not set(images).isdisjoint(masks)
    best, plain, called = _naming(images, masks, together=together)
    (before_i, after_i), (before_m, after_m) = best
    key_of = {_key(path, path.stem, before_m, after_m, of_masks, between[1]): path for path in masks}
    pairs = []
    for path in images:
        key = _key(path, plain.get(path.stem, path.stem), before_i, after_i, of_images, between[0])
        if key in key_of and path != key_of[key]:
            pairs.append((path, key_of[key]))
    paired = {path for pair in pairs for path in pair}
    refuse_seconds(masks, paired, {path.stem for path, _ in pairs})
    alone = [path for path in images if path not in paired and (not together or fits(path.stem, before_i, after_i))]
    leave_out(
        alone if unlabelled else [], [path for path in masks if path not in paired and not together], len(pairs), found
    )
    ending = "{name}_{split}"
    names = (ending if called else "{name}", ending if called and not plain else "{name}")
    around = (f"{before_i}{names[0]}{after_i}", f"{before_m}{names[1]}{after_m}")
    if called:
        found.tables["splits"] = dict(called)
        drawn.test_of_val(found)
        ends = ", ".join(f"_{word}" for word in called.values())
        found.say(f"splits from the ends of names: {ends}", "every image has one", "edit [splits] in the card")
    _templates(pairs, of_images, of_masks, root, around, found, between)
    return pairs


def _naming(images: list[Path], masks: list[Path], *, together: bool) -> tuple[Affixes, dict[str, str], dict[str, str]]:
    """The text around names that pairs most; names of images without a split's word, where masks lack it too; and what
    splits are called in names.
    """
    stems = [path.stem for path in images], [path.stem for path in masks]
    best, number = affixes(*stems, apart=together)
    plain, called = split_words(stems[0])
    shorter, more = affixes([plain[stem] for stem in stems[0]], stems[1], apart=together) if plain else (None, 0)
    if more > number:
        best = shorter
    else:
        plain = {}
        called = called if number == len(images) and best is not None and not best[0][1] else {}
    if best is None:
        raise DataError(
            f"no mask belongs to an image: images are called {images[0].stem}, ..., masks {masks[0].stem}, ...; "
            "rename them so that a mask has its image's name, with a fixed text before or after it"
        )
    return best, plain, called


def _templates(
    pairs: list[tuple[Path, Path]], of_images: Path, of_masks: Path, root: Path, around: tuple[str, str], found: Guess,
    between: tuple[str, str],
) -> None:  # fmt: skip
    """The templates of the card that name the pairs."""
    nested = {len(path.relative_to(of_images).parts) - bool(between[0]) for path, _ in pairs}
    if len(nested) > 1 or max(nested, default=1) > 2:
        deep = "folders of several depths" if len(nested) > 1 else "folders within folders"
        raise DataError(f"{of_images} holds images in {deep}; move them into one, or into one per split")
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
    found.keys["image"] = _joined(at_images, inside, between[0], f"{around[0]}{ending}")
    found.keys["masks"] = [_joined(at_masks, inside, between[1], f"{around[1]}{suffixes.pop()}")]
    names = Counter(path.stem for path, _ in pairs)
    if "{folder}" in inside or ("{split}" in inside and len(names) < len(pairs)):
        found.keys["id"] = f"{inside}_{{name}}"
    found.say(
        f"{len(pairs)} pairs: {found.keys['image']} with {found.keys['masks'][0]}",
        "no other text before or after the names pairs more files",
        "edit image and masks in the card",
    )  # fmt: skip


def _key(path: Path, stem: str, before: str, after: str, folder: Path, between: str) -> str:
    """What an image and its mask share: the folder, and the name without what is around it."""
    if not fits(stem, before, after):
        return f"/{path}"  # shared with nothing
    parent = path.relative_to(folder).parent
    parent = parent.parent if between else parent
    return (parent / stem[len(before) : len(stem) - len(after)]).as_posix()


def _folders(folders: list[str], found: Guess) -> str:
    """The field of the path between the folder and the name."""
    if not folders:
        return ""
    named = {split: [f for f in folders if f.lower() in words] for split, words in SPLITS.items()}
    if all(any(f in of for of in named.values()) for f in folders) and all(len(of) <= 1 for of in named.values()):
        found.tables["splits"] = {split: of[0] for split, of in named.items() if of}
        drawn.test_of_val(found)
        found.say(f"splits from the folders {', '.join(folders)}", "they are called so", "edit [splits] in the card")
        return "{split}"
    other = [f for f in folders if not any(f in of for of in named.values())]
    if named["train"] and other:
        raise DataError(f"folder '{other[0]}', next to '{named['train'][0]}', is not a split; move it away")
    return "{folder}"


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part not in ("", "."))


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
