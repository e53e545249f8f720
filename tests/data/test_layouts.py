"""Layouts whose masks are drawn, and tables that name files: what is read is what was labelled."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from PIL import Image

from segpipe.core.errors import ConfigError, DataError
from segpipe.data import catalog, fill
from segpipe.data.card import Card

SIZE = (20, 30)


def card(**keys):
    known = {
        "name": "mine", "title": "", "licence": "", "source": "", "layout": "template", "void": [255],
        "classes": ["background", "cat", "dog"], "palette": [[0, 0, 0]] * 3, "cut_val": 0.0,
    }  # fmt: skip
    return Card(**{**known, **keys})


def photo(path, seed=0, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def drawn(card, root, out):
    """The labels of each sample, as they are read after the conversion."""
    found = catalog.found_in(card, root)
    for sample in found.samples:
        found.write(sample, out)
    return {sample.id: catalog.read_labels(out, sample, card, "annotator 1") for sample in found.samples}, found


def box(x, y, x_end, y_end):
    mask = np.zeros(SIZE, bool)
    mask[y:y_end, x:x_end] = True
    return mask


def inside(ring, x, y):
    """Even-odd rule for one point, edge by edge."""
    odd = False
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (y0 <= y) != (y1 <= y) and x >= x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            odd = not odd
    return odd


points = st.tuples(st.floats(-5, 35, width=32), st.floats(-5, 25, width=32))


@given(st.lists(st.lists(points, min_size=3, max_size=7), min_size=1, max_size=3))
def test_a_polygon_covers_the_pixels_whose_centres_it_holds(rings):
    expected = np.zeros(SIZE, bool)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            expected[y, x] = sum(inside(ring, x + 0.5, y + 0.5) for ring in rings) % 2
    np.testing.assert_array_equal(fill.polygon(rings, SIZE), expected)


def test_a_polygon_agrees_with_matplotlib():
    ring = [(3.2, 1.7), (27.9, 4.1), (18.3, 17.6), (12.1, 9.4), (5.5, 16.2)]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    peer = Outline([*ring, ring[0]]).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(SIZE)
    np.testing.assert_array_equal(fill.polygon([ring], SIZE), peer)


def test_run_lengths_go_down_the_columns():
    # 3 x 2: two outside, three inside, one outside; the first column is 0 0 1, the second 1 1 0.
    np.testing.assert_array_equal(fill.runs([2, 3, 1], (3, 2)), [[0, 1], [0, 1], [1, 0]])
    with pytest.raises(ValueError, match="runs of 5 pixels"):
        fill.runs([2, 3], (3, 2))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_packed_run_lengths_are_unpacked(counts):
    text = ""
    for k, count in enumerate(counts):
        value = count - (counts[k - 2] if k > 2 else 0)
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = not (value == 0 and not bits & 16) and not (value == -1 and bits & 16)
            text += chr(48 + (bits | (32 if more else 0)))
    assert fill.packed_runs(text) == counts


def coco_of(folder, split="train", names=("a.jpg", "sub/b.jpg")):
    for i, name in enumerate(names):
        photo(folder / split / name, i)
    size = {"height": SIZE[0], "width": SIZE[1]}
    counts = [5 * 20, 2 * 20, 600 - 7 * 20]  # columns 5 and 6
    document = {
        "images": [{"id": 7 + i, "file_name": name, **size} for i, name in enumerate(names)],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]], "area": 16},
            {"image_id": 7, "category_id": 18, "segmentation": [[0, 0, 20, 0, 20, 10, 0, 10]], "area": 200},
            {"image_id": 8, "category_id": 18, "segmentation": {"size": SIZE, "counts": counts}, "iscrowd": 1},
        ],
    }
    path = folder / f"annotations/instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return document, path


COCO = {"layout": "coco", "image": "{split}/{name}", "options": {"annotations": "annotations/instances_{split}.json"}}


def test_coco_draws_small_areas_above_large_ones(tmp_path):
    for split in ("train", "val", "test"):
        coco_of(tmp_path / "in", split, (f"{split}.jpg", f"sub/{split}.jpg"))
    labels, found = drawn(card(**COCO), tmp_path / "in", tmp_path / "out")
    assert [(s.id, s.split) for s in found.samples][:3] == [("train", "train"), ("sub_train", "train"), ("val", "val")]
    expected = np.where(box(2, 2, 6, 6), 1, np.where(box(0, 0, 20, 10), 2, 0))
    np.testing.assert_array_equal(labels["train"], expected)
    np.testing.assert_array_equal(labels["sub_test"], np.where(box(5, 0, 7, 20), 2, 0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["images"][0].update(width=31), "20 x 30, but its annotation is for 20 x 31"),
        (lambda d: d["categories"][1].update(name="cow"), "annotated with 'cow', which is no class"),
        (lambda d: d["annotations"][0].update(image_id=99), "annotates image 99, which it does not list"),
        (lambda d: d["annotations"][0].update(category_id=5), "no JSON of COCO's kind"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3]]), "cannot be drawn"),
        (lambda d: d["annotations"][2]["segmentation"].update(counts=[1]), "runs of 1 pixels"),
        (lambda d: d.pop("annotations"), "no JSON of COCO's kind"),
        (lambda d: d["images"][0].update(file_name="absent.jpg"), "absent.jpg is missing"),
    ],
)
def test_a_coco_file_that_does_not_fit_is_one_line(tmp_path, change, words):
    for split in ("train", "val", "test"):
        document, path = coco_of(tmp_path / "in", split, (f"{split}.jpg", f"sub/{split}.jpg"))
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=words):
        drawn(card(**COCO), tmp_path / "in", tmp_path / "out")


def labelme_of(folder, name, shapes):
    photo(folder / f"{name}.jpg")
    document = {"version": "5", "shapes": shapes, "imagePath": f"{name}.jpg", "imageHeight": 20, "imageWidth": 30}
    (folder / f"{name}.json").write_text(json.dumps(document))


def shape(label, points, kind="polygon"):
    return {"label": label, "points": points, "shape_type": kind}


LABELME = {"layout": "labelme", "image": "{name}.jpg", "masks": ["{name}.json"]}


def test_labelme_draws_in_the_order_of_its_shapes(tmp_path):
    shapes = [
        shape("dog", [[0, 0], [10, 10]], "rectangle"),
        shape("cat", [[4, 4], [8, 4], [8, 8], [4, 8]]),
        shape("_background_", [[0, 0], [2, 0], [2, 2], [0, 2]]),
        shape("__ignore__", [[25, 15], [25, 12]], "circle"),
    ]
    labelme_of(tmp_path, "one", shapes)
    labels, _ = drawn(card(**LABELME), tmp_path, tmp_path / "out")
    expected = np.zeros(SIZE, np.uint8)
    expected[:10, :10], expected[4:8, 4:8], expected[:2, :2] = 2, 1, 0
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected[(x - 25) ** 2 + (y - 15) ** 2 < 9] = 255
    np.testing.assert_array_equal(labels["one"], expected)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([shape("cow", [[0, 0], [9, 0], [9, 9]])], "annotated with 'cow'"),
        ([shape("cat", [[0, 0], [9, 9]], "line")], "a shape 'line' of 2 points called 'cat', which has no area"),
        ([shape("cat", [[0, 0], [9, float("nan")], [3, 3]])], "the number NaN"),
        ([{"label": "cat"}], "no JSON of labelme"),
        ("none", "no JSON of labelme"),
    ],
)
def test_a_labelme_file_that_does_not_fit_is_one_line(tmp_path, shapes, words):
    labelme_of(tmp_path, "one", shapes)
    with pytest.raises(DataError, match=words):
        drawn(card(**LABELME), tmp_path, tmp_path / "out")


def test_an_image_without_its_labelme_file_is_named(tmp_path):
    labelme_of(tmp_path, "one", [])
    photo(tmp_path / "two.jpg")
    with pytest.raises(DataError, match=r"two.json is missing, the shapes of an image"):
        catalog.found_in(card(**LABELME), tmp_path)


@pytest.mark.parametrize("on", [1, 255])
def test_masks_of_one_class_each_are_one_label_map(tmp_path, on):
    for name in ("x", "y"):
        photo(tmp_path / f"images/{name}.jpg")
    for path, mask in {"cat/x": box(1, 1, 9, 9), "dog/x": box(5, 5, 12, 12), "dog/y": box(0, 0, 3, 3)}.items():
        (tmp_path / "masks" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * on).save(tmp_path / "masks" / f"{path}.png")
    mine = card(layout="per_class", image="images/{name}.jpg", masks=["masks/{class}/{name}.png"])
    labels, _ = drawn(mine, tmp_path, tmp_path / "out")
    np.testing.assert_array_equal(labels["x"], np.where(box(5, 5, 12, 12), 2, box(1, 1, 9, 9)))
    np.testing.assert_array_equal(labels["y"], np.where(box(0, 0, 3, 3), 2, 0))
    photo(tmp_path / "images/z.jpg")
    with pytest.raises(DataError, match=r"z.jpg has no mask, such as .*masks/dog/z.png"):
        catalog.found_in(mine, tmp_path)
    with pytest.raises(ConfigError, match=r"masks need the field \{class\}"):
        catalog.found_in(replace(mine, masks=["masks/{name}.png"]), tmp_path)


def csv_of(folder, text):
    for name in ("a", "b", "c"):
        photo(folder / f"train/{name}_sat.jpg")
        Image.fromarray(box(0, 0, 5, 5).astype(np.uint8)).save(folder / f"train/{name}_mask.png")
    (folder / "metadata.csv").write_text(text)


CSV = {
    "layout": "csv", "lists": "metadata.csv", "splits": {"train": "train", "val": "valid", "test": "test"},
    "options": {"image": "sat_image_path", "mask": "mask_path", "split": "split", "group": "town"},
}  # fmt: skip
ROWS = """image_id,split,sat_image_path,mask_path,town
1,train,train/a_sat.jpg,train/a_mask.png,x
2,valid,/elsewhere/deep/train/b_sat.jpg,train/b_mask.png,y
3,test,train/c_sat.jpg,,z
"""


def test_a_table_names_images_masks_splits_and_groups(tmp_path):
    csv_of(tmp_path, ROWS)
    found = catalog.found_in(card(**CSV), tmp_path)
    assert [(s.image, s.labels, s.split, s.group) for s in found.samples] == [
        ("train/a_sat.jpg", ("train/a_mask.png",), "train", "x"),
        ("train/b_sat.jpg", ("train/b_mask.png",), "val", "y"),
    ]
    assert found.left_out == {
        "train/c_mask.png": "no list names it",
        "train/c_sat.jpg": "metadata.csv gives it no mask",
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("mask_path", "maske", r"has no column 'mask_path', it has image_id, split, sat_image_path, maske"),
        ("train/a_sat.jpg", "", "metadata.csv:2 names no image"),
        ("train/a_mask.png", "train/q_mask.png", "q_mask.png is missing, the mask of train/a_sat.jpg"),
        ("/elsewhere/deep/train/b_sat.jpg", "train/a_sat.jpg", "'a_sat' is listed twice"),
        (ROWS, "", "has no column"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(tmp_path, old, new, words):
    csv_of(tmp_path, ROWS.replace(old, new))
    with pytest.raises(DataError, match=words):
        catalog.samples_of(card(**CSV), tmp_path)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"layout": "csv"}, "needs lists"),
        ({"layout": "coco"}, "needs image"),
        ({**CSV, "options": {"imag": "x"}}, "layout 'csv' has no option 'imag'; did you mean"),
        ({"layout": "volumes", "image": "{a}.nii", "masks": ["{a}.nii"], "options": {"axis": "z"}}, "axis is 'z'"),
    ],
)
def test_a_card_with_a_wrong_option_of_its_layout_is_refused(tmp_path, keys, words):
    head = {"title": "", "licence": "", "source": "", "classes": ["a"], "palette": [[0, 0, 0]], "void": []}
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(f"{key} = {toml(value)}" for key, value in {**head, **keys}.items()))
    with pytest.raises(ConfigError, match=words):
        catalog.read_card(path)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
