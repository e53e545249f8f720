"""Folders of strangers: names that hide splits, patients, clips and annotators, and files without a partner."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageFilter
from test_own import card_of, labels, numbered, photo, plain, write

from segpipe.core.errors import ConfigError, DataError
from segpipe.data import catalog
from segpipe.data.guess import pairs as own

SIZE = (30, 40)


def splits_of(card, root):
    return {s.id: s.split for s in catalog.samples_of(card, root)}


def binary(i, shift=0):
    area = np.zeros(SIZE, np.uint8)
    area[5 + shift : 20 + shift, 4 + i % 5 + shift : 25 + shift] = 255
    return area


def clip(folder, name, number, seed):
    """Pictures that follow each other: a scene that moves by a pixel an image."""
    scene = np.random.default_rng(seed).integers(0, 256, (8, 400 // 8, 3)).astype(np.uint8)
    wide = np.asarray(Image.fromarray(scene).resize((400, SIZE[0])))
    for i in range(number):
        (folder / "img").mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide[:, 3 * i : 3 * i + SIZE[1]]).save(folder / f"img/{name.format(i)}.png")
        write(folder / f"msk/{name.format(i)}.png", labels(i))
    return folder / "img", folder / "msk"


def test_splits_in_the_names_of_images_alone_are_read(tmp_path):
    for i in range(8):
        word = "training" if i < 5 else "test"
        photo(tmp_path / f"images/{i:02d}_{word}.jpg", i)
        write(tmp_path / f"masks/{i:02d}_manual1.png", labels(i))
    card, root = card_of(tmp_path, tmp_path / "images", tmp_path / "masks")
    assert (card.image, card.masks) == ("images/{name}_{split}.jpg", ["masks/{name}_manual1.png"])
    assert Counter(splits_of(card, root).values()) == {"train": 4, "val": 1, "test": 3}


def test_splits_in_the_names_of_images_and_masks_are_read(tmp_path):
    names = [f"{i}_{'train' if i < 6 else 'val'}" for i in range(9)]
    card, root = card_of(tmp_path, *plain(tmp_path, names, mask="msk/{}_mask.png"))
    assert card.masks == ["msk/{name}_{split}_mask.png"]
    assert Counter(splits_of(card, root).values()) == {"train": 5, "val": 1, "test": 3}


def test_one_image_without_a_mask_is_left_out_and_named(tmp_path):
    images, masks = plain(tmp_path, numbered(12))
    (masks / "photo3.png").unlink()
    write(masks / "photo99.png", labels(0))
    _, found = own.guess(images, masks)
    said = " ".join(what for what, _, _ in found.reasons)
    assert "1 of 12 images are left out: photo3.jpg" in said
    assert "1 of 12 masks are left out: photo99.png" in said
    card, root = card_of(tmp_path, images, masks)
    found = catalog.found_in(card, root)
    assert len(found.samples) == 11
    assert found.left_out == {"img/photo3.jpg": "it has no mask", "msk/photo99.png": "a mask without an image"}


def test_half_of_the_images_without_a_mask_is_an_error_unless_it_is_wanted(tmp_path):
    images, masks = plain(tmp_path, numbered(12))
    for i in range(6):
        (masks / f"photo{i}.png").unlink()
    with pytest.raises(DataError, match=r"photo0\.jpg has no mask, like 6 of 12 images"):
        own.guess(images, masks)
    card, root = card_of(tmp_path, images, masks, leave_out=True)
    assert len(catalog.samples_of(card, root)) == 6


def test_names_that_pair_in_part_are_an_error(tmp_path):
    images, masks = plain(tmp_path, [f"{kind}_{i}" for kind in ("day", "night") for i in range(6)])
    for path in masks.glob("night*"):
        path.rename(path.with_name(f"evening{path.name[5:]}"))
    with pytest.raises(DataError, match=r"night_0\.jpg has no mask, like 6 of 12 images"):
        own.guess(images, masks)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("ends", [("1stHO", "2ndHO"), ("rater1", "rater2", "rater3"), ("1", "2"), ("a", "b")])
def test_masks_that_overlap_are_annotators(tmp_path, ends, together):
    for i in range(8):
        photo(tmp_path / f"images/im{i}.jpg", i)
        for k, end in enumerate(ends):
            write(tmp_path / ("images" if together else "masks") / f"im{i}_{end}.png", binary(i, k))
    card, root = card_of(tmp_path, tmp_path / "images", tmp_path / ("images" if together else "masks"))
    assert (card.annotators, card.classes) == (len(ends), ["background", "foreground"])
    sample = catalog.samples_of(card, root)[0]
    read = catalog.read_annotators(root, sample, card)
    for k, one in enumerate(read):
        np.testing.assert_array_equal(one, binary(int(sample.id[2:]), k) // 255)


def test_masks_within_each_other_are_asked_about(tmp_path):
    for i in range(8):
        photo(tmp_path / f"images/im{i}.jpg", i)
        write(tmp_path / f"masks/im{i}_disc.png", binary(i))
        inner = binary(i)
        inner[:10] = 0
        write(tmp_path / f"masks/im{i}_cup.png", inner)
    folders = tmp_path / "images", tmp_path / "masks"
    with pytest.raises(ConfigError, match="use --masks-are classes or --masks-are annotators"):
        own.guess(*folders)
    assert card_of(tmp_path, *folders, masks_are="annotators")[0].annotators == 2
    assert card_of(tmp_path, *folders, masks_are="classes")[0].classes == ["background", "disc", "cup"]


def test_an_annotator_who_skipped_an_image_is_named(tmp_path):
    for i in range(8):
        photo(tmp_path / f"images/im{i}.jpg", i)
        for k in range(2):
            write(tmp_path / f"masks/im{i}_rater{k}.png", binary(i, k))
    (tmp_path / "masks/im5_rater1.png").unlink()
    with pytest.raises(DataError, match=r"im5\.jpg has masks of rater0, wanted rater0, rater1; 1 of 8"):
        own.guess(tmp_path / "images", tmp_path / "masks")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ([f"patient{k:02d}_slice{i}" for k in range(4) for i in range(5)], 4),
        ([f"slice{i}_patient{k}" for k in range(4) for i in range(5)], 4),
        ([f"{side}_{k:02d}" for k in range(8) for side in ("OD", "OS")], 8),
        ([f"Image_{k:02d}{side}" for k in range(8) for side in "LR"], 8),
        ([f"IMG_201905{k:02d}_12{i:02d}30" for k in range(1, 7) for i in range(4)], 6),
        ([f"P{k}_S{j}_F{i:03d}" for k in range(6) for j in range(2) for i in range(3)], 6),
        ([f"drive{k}_f{i:05d}" for k in range(7) for i in range(4)], 7),
        ([f"tile{k}-x{i}-y{j}" for k in range(5) for i in range(2) for j in range(2)], 5),
        ([f"2007_{i:06d}" for i in range(20)], 20),
        (numbered(20), 20),
    ],
)
def test_names_say_what_belongs_together(tmp_path, names, groups):
    card, root = card_of(tmp_path, *plain(tmp_path, names))
    samples = catalog.samples_of(card, root)
    assert len({s.group for s in samples}) == groups
    splits = {}
    for sample in samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert all(len(of) == 1 for of in splits.values())


@pytest.mark.parametrize("name", ["frame_{:04d}", "frame{}"])
def test_the_ends_of_a_clip_are_val_and_test(tmp_path, name):
    card, root = card_of(tmp_path, *clip(tmp_path, name, 40, 0))
    splits = splits_of(card, root)
    order = [splits[name.format(i)] for i in range(40)]
    assert order == ["train"] * 30 + ["val"] * 6 + ["test"] * 4  # blocks of 3, of which the last holds one


def test_few_clips_are_cut_at_their_ends_and_other_pictures_are_not(tmp_path):
    for k in range(3):
        clip(tmp_path / "clips", f"c{k}_{{:03d}}", 20, k)
    card, root = card_of(tmp_path, tmp_path / "clips/img", tmp_path / "clips/msk")
    splits = splits_of(card, root)
    for k in range(3):
        assert [splits[f"c{k}_{i:03d}"] for i in (13, 14, 16, 17, 19)] == ["train", "val", "val", "test", "test"]
    assert card_of(tmp_path, *plain(tmp_path / "apart", [f"c{i % 3}_{i:03d}" for i in range(60)]))[0].group_block == 0


def test_of_camvids_own_names_no_test_frame_is_beside_a_train_frame(real_data, tmp_path):
    card, root = card_of(tmp_path, real_data / "CamVid/train", real_data / "CamVid/trainannot")
    samples = sorted(catalog.samples_of(card, root), key=lambda s: s.id)
    beside = sum(
        {a.split, b.split} == {"train", "test"} and a.id[:6] == b.id[:6] for a, b in itertools.pairwise(samples)
    )
    number = Counter(s.split for s in samples)
    assert beside <= 1
    assert 45 <= number["test"] <= 60
    assert 45 <= number["val"] <= 60


def test_chase_db1_has_two_annotators_and_fourteen_children(real_data, tmp_path):
    card, root = card_of(tmp_path, real_data / "CHASE_DB1", real_data / "CHASE_DB1")
    samples = catalog.samples_of(card, root)
    assert (card.annotators, len(samples), len({s.group for s in samples})) == (2, 28, 14)


def test_lists_that_name_images_and_masks_are_read(tmp_path):
    for i in range(9):
        photo(tmp_path / f"x/p{i}.jpg", i)
        write(tmp_path / f"y/m{20 - i}.png", labels(i))
    for split, numbers in (("train", range(5)), ("val", (5, 6)), ("test", (7, 8))):
        rows = [f"/their/disk/x/p{i}.jpg /their/disk/y/m{20 - i}.png" for i in numbers]
        (tmp_path / f"{split}.txt").write_text("\n".join(rows) + "\n")
    card, root = card_of(tmp_path, tmp_path / "x", tmp_path / "y")
    assert card.layout == "lists"
    assert Counter(splits_of(card, root).values()) == {"train": 5, "val": 2, "test": 2}
    assert card_of(tmp_path, tmp_path, tmp_path)[0].layout == "lists"
    (tmp_path / "y/m13.png").unlink()
    with pytest.raises(DataError, match=r"m13\.png is missing, which a list in"):
        own.guess(tmp_path / "x", tmp_path / "y")


def test_four_images_are_enough(tmp_path):
    card, root = card_of(tmp_path, *plain(tmp_path, numbered(4)))
    assert Counter(splits_of(card, root).values()) == {"train": 2, "val": 1, "test": 1}


@pytest.mark.parametrize("how", ["blurred", "jpeg", "resized"])
def test_masks_whose_edges_were_smoothed_are_binary(tmp_path, how):
    for i in range(12):
        photo(tmp_path / f"img/p{i}.jpg", i)
        mask = Image.fromarray(binary(i))
        path = tmp_path / f"msk/p{i}.{'jpg' if how == 'jpeg' else 'png'}"
        path.parent.mkdir(exist_ok=True)
        if how == "blurred":
            mask = mask.filter(ImageFilter.GaussianBlur(0.7))
        elif how == "resized":
            mask = mask.resize((20, 15), Image.Resampling.BILINEAR).resize(SIZE[::-1], Image.Resampling.BILINEAR)
        mask.save(path)
    card, root = card_of(tmp_path, tmp_path / "img", tmp_path / "msk")
    assert (card.labels, card.classes) == ("binary", ["background", "foreground"])
    for sample in catalog.samples_of(card, root):
        read = catalog.read_labels(root, sample, card, "majority")
        assert (read != binary(int(sample.id[1:])) // 255).mean() < 0.03


@pytest.mark.parametrize(("codes", "void"), [((0, 128, 255), []), ((0, 85, 170, 255), []), ((0, 1, 255), [255])])
def test_evenly_spaced_greys_are_classes_and_255_beside_ids_is_void(tmp_path, codes, void):
    values = np.array(codes, np.uint8)
    images, masks = plain(tmp_path, numbered(12), make=lambda i: values[labels(i, len(codes))])
    card, _ = card_of(tmp_path, images, masks)
    assert (card.void, len(card.classes)) == (void, len(codes) - len(void))


def test_a_second_mask_of_an_image_is_never_dropped_in_silence(tmp_path):
    for i in range(12):
        split = ("train", "val", "test")[i % 3]
        photo(tmp_path / f"images/{split}/p{i}.jpg", i)
        for name in ("road", "sky"):
            write(tmp_path / f"masks/{split}/p{i}_{name}.png", binary(i))
    with pytest.raises(DataError, match="is one of several masks of an image"):
        own.guess(tmp_path / "images", tmp_path / "masks")


def test_masks_of_people_in_folders_that_hold_several_classes_are_asked_about(tmp_path):
    for i in range(8):
        photo(tmp_path / f"images/p{i}.jpg", i)
        for name in ("anna", "bob"):
            write(tmp_path / f"masks/{name}/p{i}.png", labels(i))
    with pytest.raises(ConfigError, match="hold several classes each; use --masks-are annotators"):
        own.guess(tmp_path / "images", tmp_path / "masks")
    card, _ = card_of(tmp_path, tmp_path / "images", tmp_path / "masks", masks_are="annotators")
    assert (card.annotators, len(card.classes)) == (2, 3)


def test_images_and_masks_of_one_name_and_folder_differ_in_type(tmp_path):
    images, masks = plain(tmp_path, numbered(8), "all/{}.jpg", "all/{}.png")
    card, root = card_of(tmp_path, images, masks)
    assert (card.image, card.masks) == ("{name}.jpg", ["{name}.png"])
    assert len(catalog.samples_of(card, root)) == 8


def test_masks_of_two_types_and_folders_that_are_no_split_are_refused(tmp_path):
    images, masks = plain(tmp_path, numbered(8))
    Image.open(masks / "photo3.png").save(masks / "photo3.jpg")
    (masks / "photo3.png").unlink()
    with pytest.raises(DataError, match=r"masks of the types \.jpg, \.png; convert them to one"):
        own.guess(images, masks)
    for folder in ("train", "val", "extra"):
        plain(tmp_path, numbered(4), f"i/{folder}/{{}}.jpg", f"m/{folder}/{{}}.png")
    with pytest.raises(DataError, match="folder 'extra', next to 'train', is not a split"):
        own.guess(tmp_path / "i", tmp_path / "m")


def test_thin_classes_between_black_and_white_are_no_smoothed_edges(tmp_path):
    def thin(i):
        area = binary(i)
        area[:, ::4] = np.where(area[:, ::4] > 0, 100, 0)
        return area

    images, masks = plain(tmp_path, numbered(12), make=thin)
    _, found = own.guess(images, masks)
    assert found.keys.get("labels", "ids") == "ids"
    assert found.keys["values"] == [[0], [100]]


@pytest.mark.parametrize("kind", ["classes", "annotators", "shapes"])
def test_few_images_without_any_label_are_left_out_whatever_the_labels_are(tmp_path, kind):
    for i in range(12):
        photo(tmp_path / f"images/p{i}.jpg", i)
        if i == 5:
            continue
        if kind == "shapes":
            shape = {"label": "car", "points": [[2, 2], [20, 2], [20, 12]]}
            (tmp_path / "labels").mkdir(exist_ok=True)
            (tmp_path / f"labels/p{i}.json").write_text(json.dumps({"shapes": [shape]}))
        for k, end in enumerate({"classes": ("road", "sky"), "annotators": ("rater1", "rater2")}.get(kind, ())):
            write(tmp_path / f"labels/p{i}_{end}.png", binary(i, k if kind == "annotators" else 0))
            if kind == "classes" and k:
                write(tmp_path / f"labels/p{i}_{end}.png", 255 - binary(i))
    options = {"leave_out": True} if kind == "annotators" else {}
    card, root = card_of(tmp_path, tmp_path / "images", tmp_path / "labels", **options)
    found = catalog.found_in(card, root)
    assert sorted(s.id for s in found.samples) == sorted(f"p{i}" for i in range(12) if i != 5)
    assert list(found.left_out) == ["images/p5.jpg"]


def test_what_notebooks_keep_hidden_is_no_image(tmp_path):
    images, masks = plain(tmp_path, numbered(8))
    for folder in (images, masks):
        hidden = folder / ".ipynb_checkpoints"
        hidden.mkdir()
        first = next(path for path in sorted(folder.iterdir()) if path.is_file())
        (hidden / f"{first.stem}-checkpoint{first.suffix}").write_bytes(first.read_bytes())
    card, root = card_of(tmp_path, images, masks)
    assert len(catalog.samples_of(card, root)) == 8


def test_frames_are_ordered_by_their_numbers_without_leading_zeros(tmp_path):
    card, root = card_of(tmp_path, *clip(tmp_path, "frame{}", 40, 0))
    blocks = {s.id: s.group for s in catalog.samples_of(card, root)}
    assert blocks["frame2"] == blocks["frame1"]
    assert blocks["frame10"] != blocks["frame1"]


def test_a_group_that_matches_no_image_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"--group \(zzz\) matches no image; they are called photo0, "):
        own.guess(*plain(tmp_path, numbered(8)), group="(zzz)")


def test_areas_between_black_and_white_are_classes(tmp_path):
    codes = np.array([0, 60, 100, 140, 250], np.uint8)
    images, masks = plain(tmp_path, numbered(12), make=lambda i: codes[labels(i, 5)])
    assert own.guess(images, masks)[1].keys["values"] == [[code] for code in codes.tolist()]


def test_images_without_one_of_the_annotators_are_left_out_on_request(tmp_path):
    for i in range(8):
        photo(tmp_path / f"images/p{i}.jpg", i)
        for k in range(2):
            write(tmp_path / f"masks/p{i}_rater{k}.png", binary(i, k))
    (tmp_path / "masks/p3_rater1.png").unlink()
    card, root = card_of(tmp_path, tmp_path / "images", tmp_path / "masks", leave_out=True)
    found = catalog.found_in(card, root)
    assert len(found.samples) == 7
    assert found.left_out["images/p3.jpg"] == "it has no mask"
