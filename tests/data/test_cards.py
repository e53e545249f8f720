"""Every card of the registry on a tiny archive in its exact layout: download, unpack, find, read."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from segpipe.core.errors import ConfigError, DataError
from segpipe.data import catalog, layouts
from segpipe.data.files import read_image
from segpipe.data.obtain import obtained

import tiny

CARDS = {name: card for name, card in catalog.cards().items() if card.layout != "generated"}
PACKED = [name for name, card in CARDS.items() if card.files]


def holds(card, root, expected):
    """Whether the samples of a folder are the expected ones, each with its labels."""
    found = catalog.found_in(card, root)
    samples = found.samples
    assert sorted(sample.id for sample in samples) == sorted(expected)
    if found.write is not None:
        with TemporaryDirectory() as drawn:
            for sample in samples:
                found.write(sample, Path(drawn))
            are(card, Path(drawn), samples, expected)
    else:
        are(card, root, samples, expected)
    return samples


def are(card, root, samples, expected):
    """Whether the files of samples say what is expected."""
    for sample in samples:
        split, labels = expected[sample.id]
        assert sample.split == split or (split is None and not (card.splits.get("train") is None and card.splits))
        for annotator in range(len(sample.labels)):
            np.testing.assert_array_equal(
                catalog.read_labels(root, sample, card, f"annotator {annotator + 1}"), labels, sample.id
            )
        assert read_image(root / sample.image).shape == (*labels.shape, 3)


@pytest.mark.parametrize("name", CARDS)
def test_a_folder_in_the_cards_layout_is_read(tmp_path, name):
    card = CARDS[name]
    samples = holds(card, tmp_path, tiny.build(card, tmp_path, 28 if name == "chase_db1" else 8))
    splits = {split: {s.group for s in samples if s.split == split} for split in catalog.SPLITS}
    if card.tests_alone:
        assert not splits["train"] | splits["val"]
    else:
        assert all(splits.values())
    if not card.group_block:  # whose groups are blocks of official splits
        assert sum(map(len, splits.values())) == len(set().union(*splits.values()))


@pytest.mark.parametrize("name", PACKED)
def test_its_archives_are_downloaded_and_unpacked(tmp_path, monkeypatch, name):
    expected = tiny.build(CARDS[name], tmp_path / "tree")
    card = tiny.pack(CARDS[name], tmp_path / "tree", tmp_path / "mirror" / name)
    monkeypatch.setenv("SEGPIPE_MIRROR", str(tmp_path / "mirror"))
    lines, store, pins = [], tmp_path / "store", tmp_path / "pins.json"
    if card.downloads:
        with obtained(card, None, store, pins=pins, log=lines.append) as (root, ours):
            assert ours
            holds(card, root, expected)
        assert not (store / "unpacked").exists()
        unpublished = {f"{name}/{remote.name}" for remote in CARDS[name].remotes if not remote.digests}
        assert set(json.loads(pins.read_text()) if unpublished else ()) == unpublished
        assert len(lines) == len(unpublished)
    else:
        with pytest.raises(ConfigError, match=r"needs its folder .* --source"), obtained(card, None, store):
            pass
    with obtained(card, tmp_path / "mirror" / name, store, pins=pins) as (root, ours):
        assert ours
        holds(card, root, expected)


def test_an_archive_that_changed_since_its_first_download_is_refused(tmp_path, monkeypatch):
    tiny.build(CARDS["stare"], tmp_path / "tree")
    card = tiny.pack(CARDS["stare"], tmp_path / "tree", tmp_path / "mirror")
    monkeypatch.setenv("SEGPIPE_MIRROR", str(tmp_path / "mirror"))
    pins = tmp_path / "pins.json"
    with obtained(card, None, tmp_path / "store", pins=pins, log=str):
        pass
    archive = tmp_path / "store/labels-ah.tar"
    archive.write_bytes(archive.read_bytes() + b"\0")
    with (
        pytest.raises(DataError, match=r"labels-ah.tar is another file: .* delete it"),
        obtained(card, None, tmp_path / "store", pins=pins),
    ):
        pass


def test_masks_of_sbd_never_replace_those_of_voc(tmp_path):
    card = CARDS["voc2012_aug"]
    tiny.build(card, tmp_path)
    samples = catalog.samples_of(card, tmp_path)
    of_sbd = {sample.id for sample in samples if sample.labels[0].endswith(".mat")}
    assert of_sbd == {f"2008_more{i}" for i in range(8)}
    assert not any(sample.id in of_sbd for sample in samples if sample.split == "test")
    assert catalog.samples_of(card, tmp_path) == samples


def test_every_card_says_what_a_user_asks_first():
    for name, card in CARDS.items():
        assert card.title, name
        assert card.licence, name
        assert card.source.startswith("http") or "repository" in card.source, name
        assert card.downloads or card.instructions, name
        assert len(set(card.classes)) == len(card.classes), name
        for remote in card.remotes:
            lengths = {"sha256": 64, "sha1": 40, "md5": 32}
            assert all(len(value) == lengths[kind] for kind, value in remote.digests.items()), name


@pytest.mark.parametrize(
    ("name", "break_it", "words"),
    [
        ("voc2012", "SegmentationClass/train_0003.png", "train_0003.png is missing, the mask of"),
        ("voc2012", "JPEGImages/train_0003.jpg", "train_0003.jpg is missing, an image"),
        ("voc2012", "ImageSets/Segmentation/val.txt", "val.txt is missing"),
        ("ade20k", "annotations/training/training_0001.png", "is missing, the mask of"),
    ],
)
def test_a_tree_with_a_hole_names_it(tmp_path, name, break_it, words):
    card = CARDS[name]
    tiny.build(card, tmp_path)
    (tmp_path / tiny.PREFIX[name] / break_it).unlink()
    with pytest.raises(DataError, match=words):
        catalog.samples_of(card, tmp_path)


def test_a_wrong_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match="leftImg8bit is missing; log in there"):
        catalog.samples_of(CARDS["cityscapes"], tmp_path)
    for sub in ("a", "b"):
        (tmp_path / sub / "leftImg8bit").mkdir(parents=True)
    with pytest.raises(DataError, match=r"leftImg8bit is in .*a, .*b"):
        catalog.samples_of(CARDS["cityscapes"], tmp_path)


def test_an_unknown_colour_names_its_neighbour(tmp_path):
    card = CARDS["deepglobe_land"]
    tiny.build(card, tmp_path)
    mask = tmp_path / "train/train_0000_mask.png"
    pixels = np.array(tiny.Image.open(mask))
    pixels[3, 4:6] = (0, 250, 250)
    tiny.Image.fromarray(pixels).save(mask)
    sample = next(s for s in catalog.samples_of(card, tmp_path) if s.id == "train_0000")
    with pytest.raises(DataError, match=r"\(0, 250, 250\) in 2 pixels, nearest to \(0, 255, 255\) of '"):
        catalog.read_labels(tmp_path, sample, card, "majority")


def test_a_full_disk_or_a_wrong_tree_costs_no_archive(tmp_path, monkeypatch):
    tiny.build(CARDS["stare"], tmp_path / "tree")
    card = tiny.pack(CARDS["stare"], tmp_path / "tree", tmp_path / "mirror")
    monkeypatch.setenv("SEGPIPE_MIRROR", str(tmp_path / "mirror"))
    store, pins = tmp_path / "store", tmp_path / "pins.json"

    def full(*arguments):
        raise DataError("cannot be unpacked: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("segpipe.data.archives.unpack", full)
        with pytest.raises(DataError, match="No space"), obtained(card, None, store, pins=pins, log=str):
            pass
    assert (store / "stare-images.tar").is_file()
    with pytest.raises(DataError, match="no such tree"), obtained(card, None, store, pins=pins, log=str):
        raise DataError("no such tree")
    assert not pins.exists()  # what is not known to hold the dataset is not demanded again
    with obtained(card, None, store, pins=pins, log=str):
        pass
    changed = tmp_path / "mirror/labels-ah.tar"
    changed.write_bytes(changed.read_bytes() + bytes(512))
    with (
        pytest.raises(DataError, match=r"labels-ah\.tar is another file"),
        obtained(card, tmp_path / "mirror", store, pins=pins),
    ):
        pass


def test_a_list_leads_nowhere_else(tmp_path):
    card = CARDS["voc2012"]
    tiny.build(card, tmp_path / "data")
    root = tmp_path / "data" / tiny.PREFIX["voc2012"]
    for path in ("JPEGImages/train_0001.jpg", "SegmentationClass/train_0001.png"):
        (root / path).rename(tmp_path / Path(path).name)
    listing = root / "ImageSets/Segmentation/train.txt"
    up = "../" * 4 + "train_0001"
    listing.write_text(listing.read_text().replace("train_0001", up))
    with pytest.raises(DataError, match="leads out of the dataset"):
        catalog.samples_of(card, tmp_path / "data")


def test_no_image_vanishes_silently(tmp_path):
    card = CARDS["ade20k"]
    tiny.build(card, tmp_path)
    folder = tmp_path / tiny.PREFIX["ade20k"] / "images/training"
    before = len(catalog.samples_of(card, tmp_path))
    (folder / "training_0001.jpg").rename(folder / "training_0001.JPG")
    found = catalog.samples_of(card, tmp_path)
    assert len(found) == before
    assert any(sample.image.endswith("training_0001.JPG") for sample in found)
    (folder / "training_0002.jpg").unlink()
    (folder / "training_0002.jpg").symlink_to("not fetched")
    (folder / "training_0003.jpg").unlink()
    (folder / "training_0003.jpg").symlink_to("training_0003.jpg")
    with pytest.raises(DataError, match=r"training_0002.jpg is missing, an image \(and 1 more: .*training_0003.jpg\)"):
        catalog.samples_of(card, tmp_path)


def test_one_large_group_does_not_take_most():
    names = [f"large_{i}" for i in range(90)] + [f"a_{i}" for i in range(5)] + [f"b_{i}" for i in range(5)]
    samples = [catalog.Sample(name, "train", name[0], "", ()) for name in names]
    for into in ("val", "test", "other"):
        moved = [sample for sample in layouts.cut(samples, into, 0.1) if sample.split == into]
        assert len(moved) == 10  # both small groups are a tenth
