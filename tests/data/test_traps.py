"""Labels as people have them: what would give wrong labels without a word is read right, or refused in one line."""

import json
import shutil

import nibabel
import numpy as np
import pytest
from test_layouts import COCO, LABELME, SIZE, box, card, coco_of, drawn, labelme_of, photo, shape
from test_own_drawn import mask, read

from segpipe.core.errors import ConfigError, DataError
from segpipe.data import catalog
from segpipe.data.files import read_image
from segpipe.data.guess import pairs as own

import tiny
import tiny_drawn
from conftest import segpipe


def per_class(folder, **keys):
    for i in range(8):
        photo(folder / f"images/im{i}.jpg", i)
        mask(folder / f"masks/car/im{i}.png", 255 * box(1, 1, 6, 6))
        mask(folder / f"masks/road/im{i}.png", 255 * box(8, 8, 20, 20))
    return card(
        layout="per_class", image="images/{name}.jpg", masks=["masks/{class}/{name}.png"],
        classes=["background", "car", "road"], **keys,
    )  # fmt: skip


def test_labels_drawn_with_another_card_are_stale(tmp_path):
    per_class(tmp_path)
    segpipe("init", "x", "--images", "images", "--masks", "masks", "--profile", "tiny", cwd=tmp_path)
    work = tmp_path / "x"
    segpipe("download", cwd=work)
    text = (work / "cards/x.toml").read_text()
    (work / "cards/x.toml").write_text(text.replace('"car", "road"', '"road", "car"'))
    done = segpipe("prepare", cwd=work, check=False)
    assert done.returncode == 3
    assert "was made with other parameters; run `segpipe download`" in done.stderr
    (work / "cards/x.toml").write_text(text.replace('title = "x"', 'title = "Mine"'))
    segpipe("prepare", cwd=work)


@pytest.mark.parametrize("on", [2, 100])
def test_a_mask_of_one_class_is_on_at_its_one_value(tmp_path, on):
    mine = per_class(tmp_path)
    for i in range(8):
        mask(tmp_path / f"masks/road/im{i}.png", on * box(8, 8, 20, 20))
    labels, _ = drawn(mine, tmp_path, tmp_path / "out")
    np.testing.assert_array_equal(labels["im3"], box(1, 1, 6, 6) + 2 * box(8, 8, 20, 20))


def test_void_among_masks_of_classes_is_void_and_an_unknown_class_an_error(tmp_path):
    mine = per_class(tmp_path)
    mask(tmp_path / "masks/void/im0.png", 255 * box(4, 4, 10, 10))
    mask(tmp_path / "masks/car/im9.png", 255 * box(4, 4, 10, 10))
    labels, found = drawn(mine, tmp_path, tmp_path / "out")
    assert (labels["im0"][4:10, 4:10] == 255).all()
    assert found.left_out == {"masks/car/im9.png": "a mask without an image"}
    mask(tmp_path / "masks/tree/im0.png", 255 * box(4, 4, 10, 10))
    with pytest.raises(DataError, match="a mask of 'tree', which is no class of the card"):
        catalog.found_in(mine, tmp_path)


@pytest.mark.parametrize("ends", [("mask", "mask_1"), ("color", "labelIds")])
def test_kinds_of_masks_are_not_taken_for_classes(tmp_path, ends):
    for i in range(8):
        photo(tmp_path / f"images/im{i}.jpg", i)
        for end in ends:
            mask(tmp_path / f"masks/im{i}_{end}.png", 255 * box(1, 1, 6, 6))
    with pytest.raises(DataError, match="is no class; keep one mask per image"):
        own.guess(tmp_path / "images", tmp_path / "masks")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: d["annotations"][0].update(segmentation=[], bbox=[1, 1, 5, 5]),
            "has no shape; export segmentation, not boxes",
        ),
        (lambda d: d["annotations"][2]["segmentation"].update(size=SIZE[::-1]), r"run lengths of \[30, 20\]"),
        (lambda d: d["annotations"][0].update(category_id=77), "has the unknown category 77"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 1, 10**400, 1, 5, 5]]), "cannot be drawn"),
        (lambda d: d["images"][0].update(height=float("1e308") * 10), "is not valid JSON"),
        (lambda d: [a.pop("area", None) for a in d["annotations"]] and d["annotations"][0].update(bbox=[1]), "no JSON"),
    ],
)
def test_coco_that_would_give_wrong_masks_is_refused(tmp_path, change, words):
    for split in ("train", "val", "test"):
        document, path = coco_of(tmp_path / "in", split, (f"{split}.jpg", f"sub/{split}.jpg"))
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=words):
        drawn(card(**COCO), tmp_path / "in", tmp_path / "out")


def test_void_has_several_names_in_any_case(tmp_path):
    corners = [[0, 0], [9, 0], [9, 9], [0, 9]]
    labelme_of(tmp_path, "one", [shape("Ignore", corners), shape("BG", [[0, 0], [2, 0], [2, 2], [0, 2]])])
    labels, _ = drawn(card(**LABELME), tmp_path, tmp_path / "out")
    np.testing.assert_array_equal(labels["one"], 255 * (box(0, 0, 9, 9) & ~box(0, 0, 2, 2)))


def test_images_and_shapes_of_no_sample_are_left_out(tmp_path):
    labelme_of(tmp_path, "one", [])
    (tmp_path / "two.json").write_text("{}")
    assert catalog.found_in(card(**LABELME), tmp_path).left_out == {"two.json": "shapes without an image"}
    for split in ("train", "val", "test"):
        coco_of(tmp_path / "in", split, (f"{split}.jpg",) * 2)
        document, path = coco_of(tmp_path / "in", split, (f"{split}.jpg", f"{split}2.jpg"))
        path.write_text(json.dumps(document))
    photo(tmp_path / "in/train/other.jpg")
    assert catalog.found_in(card(**COCO), tmp_path / "in").left_out == {"train/other.jpg": "no annotation names it"}


def test_footprints_that_miss_their_tile_are_refused(tmp_path):
    building = catalog.card("deepglobe_building")
    tiny_drawn.geojson(building, tmp_path, 6)
    found = catalog.found_in(building, tmp_path)
    path = next(tmp_path.rglob("*img1.geojson"))
    path.write_text(path.read_text().replace("36.", "46."))
    sample = next(s for s in found.samples if s.id.endswith("img1"))
    with pytest.raises(DataError, match="holds 2 polygons, none of them on its image"):
        found.write(sample, tmp_path / "out")


@pytest.mark.parametrize("trap", ["turned", "nan"])
def test_labels_of_a_volume_that_are_turned_or_nan_are_refused(tmp_path, trap):
    lits = catalog.card("lits")
    tiny_drawn.volumes(lits, tmp_path, 6)
    path = tmp_path / "segmentation-00000.nii"
    values = nibabel.load(path).get_fdata().astype(np.float32)
    values[0, 0, 1] = np.nan if trap == "nan" else values[0, 0, 1]
    turned = np.diag([-1, -1, 1, 1]) if trap == "turned" else np.eye(4)
    nibabel.save(nibabel.Nifti1Image(values, turned), path)
    with pytest.raises(DataError, match=r"labels would be turned|holds nan, wanted labels"):
        drawn(lits, tmp_path, tmp_path / "out")


def test_bytes_behind_a_png_are_no_part_of_it(tmp_path):
    photo(tmp_path / "a.png")
    expected = read_image(tmp_path / "a.png")
    with open(tmp_path / "a.png", "ab") as stream:
        stream.write(b"trailing bytes of a phone")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


@pytest.mark.parametrize(("image", "label"), [("{}.jpg", "{}_mask.png"), ("{}.png", "{}_mask.png")])
def test_images_and_masks_in_one_folder_are_paired(tmp_path, image, label):
    for i in range(8):
        photo(tmp_path / "d" / image.format(i + 10), i)
        mask(tmp_path / "d" / label.format(i + 10), box(i, 1, i + 5, 9))
    (tmp_path / "d/info.json").write_text('{"by": "me"}')
    _, labels = read(tmp_path, tmp_path / "d", tmp_path / "d")
    assert sorted(labels) == [str(i + 10) for i in range(8)]
    np.testing.assert_array_equal(labels["12"][1], box(2, 1, 7, 9))


def test_a_whole_voc_tree_is_read_by_its_lists_for_segmentation(tmp_path):
    for i in range(12):
        photo(tmp_path / f"JPEGImages/2007_{i}.jpg", i)
        if i < 9:
            mask(tmp_path / f"SegmentationClass/2007_{i}.png", box(i, 1, i + 5, 9))
            mask(tmp_path / f"SegmentationObject/2007_{i}.png", box(i, 1, i + 5, 9))
    for kind, parts in (("Main", (range(12), [9, 10])), ("Segmentation", (range(6), [6, 7]))):
        folder = tmp_path / "ImageSets" / kind
        folder.mkdir(parents=True)
        for name, numbers in zip(("train", "val"), parts, strict=True):
            (folder / f"{name}.txt").write_text("".join(f"2007_{i}\n" for i in numbers))
    found, labels = read(tmp_path, tmp_path / "JPEGImages", tmp_path / "SegmentationClass")
    assert found.lists == "ImageSets/Segmentation/{split}.txt"
    assert sorted(labels) == sorted(f"2007_{i}" for i in range(8))


def test_names_that_repeat_across_folders_are_told_apart(tmp_path):
    for split in ("train", "val"):
        for i in range(8):
            photo(tmp_path / f"img/{split}/{i}.jpg", i)
            mask(tmp_path / f"ann/{split}/{i}.png", box(i, 1, i + 5, 9))
    found, labels = read(tmp_path, tmp_path / "img", tmp_path / "ann")
    assert found.id == "{split}_{name}"
    assert {split for split, _ in labels.values()} == {"train", "val", "test"}
    rows = "image,mask\n" + "".join(f"img/{s}/{i}.jpg;ann/{s}/{i}.png\n" for s in ("train", "val") for i in range(8))
    (tmp_path / "list.csv").write_text(rows.replace("image,mask", "image;mask"))
    _, labels = read(tmp_path, tmp_path / "img", tmp_path / "list.csv")
    assert "img_train_0" in labels
    assert "img_val_0" in labels


def test_colours_are_named_by_class_dict(tmp_path):
    colors = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 192]], np.uint8)
    for i in range(8):
        photo(tmp_path / f"img/{i}.png", i)
        mask(tmp_path / f"lab/{i}_L.png", colors[box(1, 1, 9, 9).astype(int)])
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nRoad,128,64,128\nVoid,0,0,0\nSidewalk,0,0,192\n")
    found, labels = read(tmp_path, tmp_path / "img", tmp_path / "lab")
    assert found.classes == ["Road", "Void", "Sidewalk"]
    np.testing.assert_array_equal(labels["2"][1], np.where(box(1, 1, 9, 9), 0, 1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--images", "img {v}", "--masks", "msk"), "which templates use; rename it"),
        (("--images", "in", "--masks", "in", "--void", "3"), "--void is for masks of ids"),
        (("--images", "in", "--masks", "coco.json", "--void", "3"), "--void is for masks of ids"),
        (("--images", "in", "--masks", "nothing.json"), "nothing.json is missing; give the folder"),
    ],
)
def test_what_init_cannot_do_is_one_line(tmp_path, arguments, words):
    for i in range(8):
        photo(tmp_path / f"img {{v}}/{i}.png", i)
        mask(tmp_path / f"msk/{i}.png", box(1, 1, 9, 9))
    (tmp_path / "in").mkdir()
    for i in range(8):
        labelme_of(tmp_path / "in", f"a{i}", [shape("cat", [[0, 0], [9, 0], [9, 9]])])
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    with pytest.raises((ConfigError, DataError), match=words):
        own.guess(
            tmp_path / options["--images"],
            tmp_path / options["--masks"],
            void=[int(options["--void"])] if "--void" in options else None,
        )


def test_check_names_every_label_that_cannot_be_drawn(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(9):
        kind = "line" if i in (2, 5) else "polygon"
        labelme_of(tmp_path / "in", f"a{i}", [shape("cat", [[0, 0], [9, 0], [9, 9]], kind)])
    segpipe("init", "x", "--images", "in", "--masks", "in", "--profile", "tiny", cwd=tmp_path)
    done = segpipe("check", "--json", cwd=tmp_path / "x", check=False)
    assert done.returncode == 3
    found = [row["what"] for row in json.loads(done.stdout)["errors"] if row["kind"] == "bad label"]
    assert len(found) == 2
    assert all("a shape 'line' of 3 points called 'cat'" in what for what in found)


def test_names_that_matplotlib_would_read_as_mathematics_are_shown(tmp_path):
    tiny.build(catalog.card("camvid"), tmp_path / "in")
    root = tmp_path / "in" / tiny.PREFIX["camvid"]
    work = tmp_path / "x"
    segpipe("init", "camvid", "--source", root, "--profile", "tiny", "--into", work, cwd=tmp_path)
    for folder in ("train", "trainannot"):
        shutil.move(root / folder / "train_00000.png", root / folder / "a$x_$1.png")
    listing = root / "train.txt"
    listing.write_text(listing.read_text().replace("train_00000", "a$x_$1"))
    assert segpipe("show", cwd=work).stdout.startswith("runs/show")
