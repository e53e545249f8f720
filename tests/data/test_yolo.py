"""`segpipe init` and stage download on YOLO's text files of polygons."""

import numpy as np
import pytest
from PIL import Image
from test_own import SIZE, card_of, photo

from segpipe.core.errors import DataError
from segpipe.data import catalog
from segpipe.data.guess import pairs as own


def yolo(folder, tree, names, number=8):
    """Images of which every third shows nothing; a box of class 0 with a smaller one of class 1 in it."""
    for i in range(number):
        split = "train" if i < number // 2 else "val"
        photo(folder / tree.format(split=split, kind="images") / f"p{i}.jpg", i)
        if i % 3 == 2:
            continue
        path = folder / tree.format(split=split, kind="labels") / f"p{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1 .25 .2 .5 .2 .5 .6 .25 .6\n0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n")
    if names:
        (folder / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")


@pytest.mark.parametrize(
    ("tree", "images", "masks"),
    [("{kind}/{split}", "images", "labels"), ("{split}/{kind}", ".", "."), ("{split}", ".", ".")],
)
def test_polygons_of_yolo_are_drawn(tmp_path, tree, images, masks):
    yolo(tmp_path, tree, "[car, wheel]")
    card, root = card_of(tmp_path, tmp_path / images, tmp_path / masks)
    assert (card.layout, card.classes) == ("yolo", ["background", "car", "wheel"])
    found = catalog.found_in(card, root)
    assert len(found.samples) == 8
    for sample in found.samples:
        found.write(sample, tmp_path / "drawn")
        drawn = np.array(Image.open(tmp_path / "drawn" / sample.labels[0]))
        expected = np.zeros(SIZE, np.uint8)
        if int(sample.id[-1]) % 3 != 2:
            expected[3:27, 4:36] = 1
            expected[6:18, 10:20] = 2
        np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 .5 .5 .2 .2", "is a box, not a polygon; export segmentation"),
        ("0 .1 .1 .2", "wanted pairs x y of at least three points"),
        ("car .1 .1 .2 .2 .3 .3", "is no line 'class x y x y ...'"),
        ("0 10 10 20 20 30 30", "points outside 0..1"),
        ("0 nan .1 .2 .2 .3 .3", "points outside 0..1"),
        ("7 .1 .1 .2 .2 .3 .4", "2 names of classes in .*, but lines begin with up to 7"),
    ],
)
def test_wrong_lines_of_yolo_are_named(tmp_path, line, words):
    yolo(tmp_path, "{kind}/{split}", "{0: car, 1: wheel}")
    (tmp_path / "labels/train/p0.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=words):
        own.guess(tmp_path / "images", tmp_path / "labels")


@pytest.mark.parametrize(
    "names",
    [
        "[car, 'big wheel']",
        "{0: car, 1: big wheel}",
        '\n  0: car\n  1: "big wheel"',
        "\n- car\n- big wheel",
        "\n- car\n  - big wheel\nnc: 2",
    ],
)
def test_names_of_yolo_are_read_in_every_form(tmp_path, names):
    yolo(tmp_path, "{kind}/{split}", names)
    card, _ = card_of(tmp_path, tmp_path / "images", tmp_path / "labels")
    assert card.classes == ["background", "car", "big wheel"]
