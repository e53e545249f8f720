"""What is wrong with a dataset, found before the first epoch: each finding names files, value and remedy.

Errors poison training: a mask that does not fit, a label that no class has, a test image in train. Warnings should
be known: frames of one sequence in two splits, a class that a split lacks.
"""

from __future__ import annotations

import unicodedata
import zlib
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import DataError
from segpipe.core.opencv import cv2
from segpipe.core.void import VOID
from segpipe.data import catalog
from segpipe.data.catalog import Card, Sample
from segpipe.data.duplicates import MOST, SIDE, across, thumbnails
from segpipe.data.files import Facts, is_jpeg, read_image_and_facts

NEARLY_SAME = "nearly the same image"  # a kind of finding
ALIKE = 0.995  # correlation of thumbnails from which two splits are said to share a picture
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: of which kind, where, and what to do."""

    kind: str
    severity: str  # "error" or "warning"
    what: str
    fix: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checked:
    """What is kept of an image that was looked at; the arrays are None where they cannot be read."""

    sample: Sample
    findings: list[Finding] = field(default_factory=list)
    image: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint8] | None = None
    annotators: tuple[NDArray[np.uint8], ...] = ()
    pixels: NDArray[Any] | None = None  # (256,) by label
    content: str = ""
    thumbnail: NDArray[np.float32] | None = None

    def record(self) -> dict[str, Any]:
        """All but the sample and its maps, as JSON holds it."""
        findings = [vars(finding) for finding in self.findings]
        return {
            "findings": findings, "content": self.content, "pixels": _text(self.pixels),
            "thumbnail": _text(self.thumbnail),
        }  # fmt: skip

    @staticmethod
    def restored(sample: Sample, record: dict[str, Any]) -> Checked:
        """What `record` gave.

        Raises:
            ValueError, TypeError, KeyError: it is no such record.
        """
        findings = [Finding(**{**finding, "files": tuple(finding["files"])}) for finding in record["findings"]]
        pixels, thumbnail = _array(record["pixels"], 256), _array(record["thumbnail"], SIDE**2)
        return Checked(sample, findings, pixels=pixels, content=str(record["content"]), thumbnail=thumbnail)


def _text(array: NDArray[Any] | None) -> str | None:
    return None if array is None else b64encode(np.asarray(array, np.float32).tobytes()).decode()


def _array(text: str | None, size: int) -> NDArray[np.float32] | None:
    if text is None:
        return None
    found = np.frombuffer(b64decode(text, validate=True), np.float32)
    if found.shape != (size,):
        raise ValueError(f"holds {found.shape} numbers, wanted {size}")
    return found


def check_image(root: Path, sample: Sample, card: Card, choice: str) -> Checked:
    """One image and its masks, read as stage prepare reads them.

    choice: which annotator's labels, see `catalog.read_labels`.
    """
    found: list[Finding] = []
    image = labels = None
    annotators: tuple[NDArray[np.uint8], ...] = ()
    absent = [path for path in (sample.image, *sample.labels) if not (root / path).exists()]
    for path in absent:
        of = "an image" if path == sample.image else f"the mask of {sample.image}"
        found.append(Finding("missing file", "error", f"{path} is missing, {of}", "complete the dataset", (path,)))
    if absent:
        return Checked(sample, found)
    try:
        image, known = read_image_and_facts(root / sample.image, card.reading)
        found += _of_image(sample, known)
    except DataError as error:
        found.append(of_error("unreadable image", error, sample.image))
    try:
        annotators = catalog.read_annotators(root, sample, card)
        labels = catalog.chosen(annotators, sample, choice)
        lossy = [mask for mask in sample.labels if is_jpeg(root / mask)]
        if lossy:
            what = f"{lossy[0]} is a JPEG, which changes labels at borders"
            found.append(Finding("lossy mask", "warning", what, "save masks as PNG", tuple(lossy)))
    except DataError as error:
        found.append(of_error("bad mask", error, *sample.labels))
    if image is not None and labels is not None and image.shape[:2] != labels.shape:
        found.append(_of_sizes(root, sample, image.shape[:2], labels.shape, known.orientation))
        labels = None
    pixels = None if labels is None else cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
    if pixels is not None and not pixels[:VOID].any():
        what = f"all of {sample.labels[0]} is void"
        found.append(Finding("all void", "warning", what, "correct it or leave the image out", sample.labels))
    return Checked(
        sample,
        found,
        image,
        labels,
        annotators,
        pixels,
        "" if image is None else _content(image),
        None if image is None else thumbnails([image])[0],
    )


def _content(image: NDArray[np.uint8]) -> str:
    """What two images share only when their pixels are equal: every fourth row, where thumbnails are of all pixels."""
    return f"{image.shape} {zlib.crc32(np.ascontiguousarray(image[::4]).data)}"


def together(checked: Sequence[Checked], card: Card) -> list[Finding]:
    """What only shows when all images are known; `checked` may have been stripped of its arrays."""
    splits = {split: [s for s in checked if s.sample.split == split] for split in catalog.SPLITS}
    empty = [] if card.tests_alone else [split for split in catalog.SPLITS if not splits[split]]
    without = [
        Finding("empty split", "error", f"{split} holds no image", "every split needs one: split anew")
        for split in empty
    ]
    return [*without, *_names(checked), *_copies(checked), *_alike(splits), *_groups(splits), *_classes(splits, card)]


def report(findings: Sequence[Finding], left_out: dict[str, str]) -> dict[str, Any]:
    """The findings as JSON holds them, errors and warnings apart, and the files that are left out, with reasons."""
    rows: dict[str, Any] = {"errors": [], "warnings": [], "left_out": left_out}
    for f in findings:
        rows[f"{f.severity}s"].append({"kind": f.kind, "what": f.what, "fix": f.fix, "files": list(f.files)})
    return rows


def refuse(findings: Sequence[Finding]) -> None:
    """DataError when there is an error among the findings."""
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more errors: run `segpipe check`)" if len(errors) > 1 else ""
        raise DataError(f"{errors[0].what}; {errors[0].fix}{more}")


def of_error(kind: str, error: DataError, *files: str) -> Finding:
    """What an error says, as a finding."""
    return Finding(kind, "error", error.found, error.remedy or str(error), files)


def _of_image(sample: Sample, known: Facts) -> list[Finding]:
    found = []
    if known.orientation not in (0, 1):
        what = f"{sample.image} carries EXIF orientation {known.orientation}; its pixels are used as they are stored"
        fix = "drop the tag if the mask fits the stored pixels"
        found.append(Finding("EXIF orientation", "warning", what, fix, (sample.image,)))
    if known.transparent:
        what = f"{sample.image} is partly transparent; the alpha channel is dropped"
        found.append(Finding("alpha channel", "warning", what, "save the image as RGB", (sample.image,)))
    return found


def _of_sizes(
    root: Path, sample: Sample, image: tuple[int, ...], mask: tuple[int, ...], orientation: int
) -> Finding:  # fmt: skip
    what = (
        f"{root / sample.image} is {image[0]} x {image[1]}, but its mask is {mask[0]} x {mask[1]}"
        "; they must match pixel by pixel"
    )
    fix = "make the two one size"
    if orientation in _SIDEWAYS and image == mask[::-1]:
        fix = f"the image carries EXIF orientation {orientation}: turn its pixels and drop the tag"
    return Finding("size mismatch", "error", what, fix, (sample.image, *sample.labels))


def _names(checked: Sequence[Checked]) -> list[Finding]:
    """Names that some file systems take for one."""
    same: dict[str, list[str]] = defaultdict(list)
    for s in checked:
        same[unicodedata.normalize("NFC", s.sample.id).casefold()].append(s.sample.id)
    return [
        Finding(
            "names clash", "error", f"{' and '.join(map(repr, ids))} differ in case or Unicode form alone",
            "rename one: some file systems take them for one file", tuple(ids),
        )
        for ids in same.values()
        if len(ids) > 1
    ]  # fmt: skip


def _copies(checked: Sequence[Checked]) -> list[Finding]:
    """Images whose pixels are equal."""
    same: dict[str, list[Sample]] = defaultdict(list)
    for s in checked:
        if s.content:
            same[s.content + str(np.asarray(s.thumbnail)[:8].tobytes())].append(s.sample)
    found = []
    for samples in same.values():
        if len(samples) > 1:
            splits = sorted({sample.split for sample in samples})
            names = ", ".join(f"{s.id} ({s.split})" for s in samples[:4])
            severity = "error" if len(splits) > 1 else "warning"
            fix = "keep it in one split" if len(splits) > 1 else "remove the copies: they count several times"
            files = tuple(sample.image for sample in samples)
            found.append(Finding("same image", severity, f"{names} are one image", fix, files))
    return found


def _alike(splits: dict[str, list[Checked]]) -> list[Finding]:
    """Pictures of two splits that are nearly one, without the exact copies; one finding for each pair of splits."""
    rows = {split: [s for s in of_split if s.thumbnail is not None] for split, of_split in splits.items()}
    known: dict[str, tuple[Sequence[int], NDArray[Any]]] = {
        split: (range(len(of)), np.stack([np.asarray(s.thumbnail) for s in of])) for split, of in rows.items() if of
    }
    pairs: dict[tuple[str, str], list[tuple[Checked, Checked, float]]] = defaultdict(list)
    for first, a, second, b, likeness in across(known, ALIKE):
        one, other = rows[first][int(a)], rows[second][int(b)]
        if one.content != other.content:
            pairs[first, second].append((one, other, likeness))
    findings = []
    for (first, second), found in pairs.items():
        one, other, likeness = found[0]
        number = f"{len(found)}{' or more' if len(found) >= MOST else ''}"
        what = (
            f"{number} pairs of {first} and {second} are nearly one picture, most of all {one.sample.id} and "
            f"{other.sample.id} (correlation {likeness:.4f})"
        )
        fix = "split by sequence, patient or place, or expect scores that flatter"
        files = tuple(s.sample.image for pair in found[:5] for s in pair[:2])
        findings.append(Finding(NEARLY_SAME, "warning", what, fix, files))
    return findings


def _groups(splits: dict[str, list[Checked]]) -> list[Finding]:
    """Groups that lie in two splits."""
    groups = {split: {s.sample.group for s in rows} for split, rows in splits.items()}
    found = []
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = sorted(groups[first] & groups[second])
        if shared:
            what = f"{first} and {second} share groups {', '.join(shared[:3])}: scores may flatter"
            found.append(Finding("group in two splits", "warning", what, "split by group"))
    return found


def _classes(splits: dict[str, list[Checked]], card: Card) -> list[Finding]:
    """Classes that a split lacks."""
    found = []
    for split, rows in splits.items():
        counted = [s.pixels for s in rows if s.pixels is not None]
        if not counted:
            continue
        total = np.sum(counted, 0)
        absent = [name for k, name in enumerate(card.classes) if not total[k]]
        if absent:
            shown = ", ".join(absent[:6]) + (f", ... ({len(absent)})" if len(absent) > 6 else "")
            why = "it cannot be learned" if split == "train" else "it is left out of averages there"
            what = f"no label of {split} holds {shown}: {why}"
            found.append(Finding("absent class", "warning", what, "split anew or merge the class with another"))
    return found
