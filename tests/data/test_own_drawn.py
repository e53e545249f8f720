"""`segpipe init --images --masks` on labels that are no mask for each image: JSON, tables, a mask a class, lists."""

import json

import numpy as np
import pytest
from PIL import Image

from segpipe.core.errors import ConfigError, DataError
from segpipe.data import catalog
from segpipe.data.guess import pairs as own
from segpipe.data.guess.card import toml

from conftest import segpipe

SIZE = (20, 30)


def photo(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, len(path.name)]).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def box(i):
    """Where image i has something: rows 2 to 9, columns i to i + 5."""
    labels = np.zeros(SIZE, bool)
    labels[2:9, i : i + 5] = True
    return labels


def corners(i):
    return [[i, 2], [i + 5, 2], [i + 5, 9], [i, 9]]


def read(folder, images, masks, **options):
    """The card that is guessed, and the labels of every sample as they are read."""
    root, found = own.guess(images, masks, **options)
    path = folder / "mine.toml"
    path.write_text(toml(found, "mine", root))
    card = catalog.read_card(path)
    in_it, out = catalog.found_in(card, root), folder / "out"
    for sample in in_it.samples if in_it.write else ():
        in_it.write(sample, out)
    at = out if in_it.write else root
    labels = {s.id: (s.split, catalog.read_labels(at, s, card, "annotator 1")) for s in in_it.samples}
    return card, labels


def document(numbers, name="im_{}.png"):
    size = {"height": SIZE[0], "width": SIZE[1]}
    return {
        "images": [{"id": i, "file_name": name.format(i), **size} for i in numbers],
        "categories": [{"id": 5, "name": "boat"}, {"id": 2, "name": "car"}],
        "annotations": [
            {"image_id": i, "category_id": 5, "area": 35, "segmentation": [np.ravel(corners(i)).tolist()]}
            for i in numbers
        ],
    }


def test_one_json_of_coco(tmp_path):
    for i in range(8):
        photo(tmp_path / f"images/im_{i}.png", i)
    (tmp_path / "labels.json").write_text(json.dumps(document(range(8))))
    card, labels = read(tmp_path, tmp_path / "images", tmp_path / "labels.json")
    assert (card.layout, card.classes, card.image) == ("coco", ["background", "car", "boat"], "images/{name}")
    assert {split for split, _ in labels.values()} == {"train", "val", "test"}
    for i in range(8):
        np.testing.assert_array_equal(labels[f"im_{i}"][1], 2 * box(i))


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("images/{}2017/im_{{}}.png", "annotations/instances_{}2017.json"),
        ("{}/im_{{}}.png", "{}/_annotations.coco.json"),
    ],
)
def test_a_json_of_coco_for_each_split(tmp_path, images, annotations):
    for k, split in enumerate(("train", "valid", "test")):
        numbers = range(4 * k, 4 * k + 4)
        for i in numbers:
            photo(tmp_path / images.format(split).format(i), i)
        path = tmp_path / annotations.format(split)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document(numbers)))
    apart = images.startswith("images")
    folders = (tmp_path / "images", tmp_path / "annotations") if apart else (tmp_path, tmp_path)
    card, labels = read(tmp_path, *folders)
    assert card.splits == {"train": "train", "val": "valid", "test": "test"}
    assert [labels[f"im_{i}"][0] for i in (0, 4, 8)] == ["train", "val", "test"]
    np.testing.assert_array_equal(labels["im_9"][1], 2 * box(9))


@pytest.mark.parametrize("folder", ["in", "json"])
def test_files_of_labelme_beside_images_or_apart(tmp_path, folder):
    (tmp_path / folder).mkdir()
    for i in range(8):
        photo(tmp_path / f"in/im_{i}.jpg", i)
        shapes = [{"label": "tree" if i % 2 else "car", "points": corners(i), "shape_type": "polygon"}]
        (tmp_path / folder / f"im_{i}.json").write_text(json.dumps({"shapes": shapes}))
    card, labels = read(tmp_path, tmp_path / "in", tmp_path / folder)
    assert (card.layout, card.classes) == ("labelme", ["background", "car", "tree"])
    for i in range(8):
        np.testing.assert_array_equal(
            labels[f"im_{i}" if "im_{name}" not in card.image else str(i)][1], (1 + i % 2) * box(i)
        )


@pytest.mark.parametrize("pattern", ["{c}/photo{i}.png", "photo{i}_{c}.png", "photo{i}.{c}.png"])
def test_a_mask_for_each_class(tmp_path, pattern):
    for i in range(8):
        photo(tmp_path / f"images/photo{i}.jpg", i)
        mask(tmp_path / "masks" / pattern.format(c="road", i=i), 255 * box(i))
        mask(tmp_path / "masks" / pattern.format(c="sky", i=i), 255 * box(i + 10))
    card, labels = read(tmp_path, tmp_path / "images", tmp_path / "masks")
    assert (card.layout, card.classes) == ("per_class", ["background", "road", "sky"])
    for i in range(8):
        np.testing.assert_array_equal(labels[f"photo{i}"][1], box(i) + 2 * box(i + 10))


def test_a_table_with_paths_splits_and_patients(tmp_path):
    rows = ["id,patient,subset,image_file,mask_file"]
    for i in range(9):
        photo(tmp_path / f"pictures/p{i}.jpg", i)
        mask(tmp_path / f"truth/p{i}_m.png", box(i))
        rows.append(f"{i},{i // 2},{('training', 'validation', 'testing')[i % 3]},p{i}.jpg,p{i}_m.png")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    card, labels = read(tmp_path, tmp_path / "pictures", tmp_path / "list.csv")
    assert card.options == {
        "image": "image_file", "mask": "mask_file", "images": "pictures", "masks": "truth", "split": "subset",
        "group": "patient",
    }  # fmt: skip
    assert [labels[f"p{i}"][0] for i in range(3)] == ["train", "val", "test"]
    np.testing.assert_array_equal(labels["p4"][1], box(4))


def test_lists_as_pascal_voc_has_them(tmp_path):
    for i in range(9):
        photo(tmp_path / f"JPEGImages/2007_{i}.jpg", i)
        mask(tmp_path / f"SegmentationClass/2007_{i}.png", box(i))
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"2007_{i}\n" for i in range(6)))
    (lists / "val.txt").write_text("2007_6\n2007_7\n")
    card, labels = read(tmp_path, tmp_path / "JPEGImages", tmp_path / "SegmentationClass")
    assert card.lists == "ImageSets/Segmentation/{split}.txt"
    assert card.splits == {"train": "train", "test": "val"}
    assert {name: split for name, (split, _) in labels.items() if split == "test"} == {
        "2007_6": "test",
        "2007_7": "test",
    }
    assert "2007_8" not in labels


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.json", "[1, 2]", "holds no shapes that are known"),
        ("m.json", "{", "is not valid JSON"),
        ("m.json", '{"shapes": []}', "holds the shapes of one image; give the folder"),
        ("m.json", '{"images": [], "annotations": []}', "is no JSON of COCO's kind"),
        ("m.csv", "a,b\n1,2\n", r"has no two columns that name files below .* \(columns: a, b\)"),
        ("m.csv", "", "has no two columns"),
        ("m.csv", "image,mask\nim_0.png,m/im_0.png\n", "is too few|are too few"),
    ],
)
def test_labels_that_cannot_be_read_are_one_line(tmp_path, name, text, words):
    for i in range(8):
        photo(tmp_path / f"images/im_{i}.png", i)
        mask(tmp_path / f"m/im_{i}.png", box(i))
    (tmp_path / name).write_text(text)
    with pytest.raises((DataError, ConfigError), match=words):
        own.guess(tmp_path / "images", tmp_path / name)


def test_the_workspace_of_a_json_runs(tmp_path):
    for i in range(12):
        photo(tmp_path / f"images/im_{i}.png", i)
    (tmp_path / "labels.json").write_text(json.dumps(document(range(12))))
    done = segpipe("init", "mine", "--images", "images", "--masks", "labels.json", "--profile", "tiny", cwd=tmp_path)
    assert "3 classes: background, car, boat" in done.stdout
    for command in ("download", "check", "prepare", "stats"):
        segpipe(command, cwd=tmp_path / "mine")
    index = json.loads((tmp_path / "mine/data/prepare/index.json").read_text())
    assert index["classes"] == ["background", "car", "boat"]
    assert not (tmp_path / "images/masks").exists()
