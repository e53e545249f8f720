"""Masks with -1 for void, in signed TIFF and in arrays of NumPy."""

import cv2
import numpy as np
import pytest
from PIL import Image
from test_own import card_of, labels, photo

from segpipe.core.errors import DataError
from segpipe.data import catalog
from segpipe.data.files import read_ids


def signed(i):
    ids = labels(i).astype(np.int64)
    ids[:3] = -1
    return ids


WRITERS = {
    "int32.tif": lambda path, ids: Image.fromarray(ids.astype(np.int32)).save(path),
    "int16.tif": lambda path, ids: cv2.imwrite(str(path), ids.astype(np.int16)),
    "int64.npy": np.save,
    "int8.npy": lambda path, ids: np.save(path, ids.astype(np.int8)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_minus_one_is_void_without_an_option(tmp_path, kind):
    ending = kind.split(".")[1]
    (tmp_path / "msk").mkdir()
    for i in range(8):
        photo(tmp_path / f"img/p{i}.png", i)
        WRITERS[kind](tmp_path / f"msk/p{i}.{ending}", signed(i))
    card, root = card_of(tmp_path, tmp_path / "img", tmp_path / "msk")
    assert (card.void, card.num_classes) == ([-1], 3)
    for sample in catalog.samples_of(card, root):
        found = catalog.read_labels(root, sample, card, "annotator 1")
        ids = read_ids(root / sample.labels[0])
        np.testing.assert_array_equal(found, np.where(ids < 0, 255, ids))
        assert (found[:3] == 255).all()


def test_codes_up_to_255_beside_minus_one_are_classes(tmp_path):
    (tmp_path / "msk").mkdir()
    for i in range(8):
        photo(tmp_path / f"img/p{i}.png", i)
        codes = np.where(signed(i) < 0, -1, np.where(labels(i) > 0, 250, 0))
        codes[10:20:3] = 120  # thin, as a smoothed edge would be
        np.save(tmp_path / f"msk/p{i}.npy", codes)
    card, _ = card_of(tmp_path, tmp_path / "img", tmp_path / "msk")
    assert (card.void, card.values) == ([-1], [[0], [120], [250]])


def test_values_that_no_file_of_ids_has_are_refused(tmp_path):
    np.save(tmp_path / "soft.npy", np.zeros((4, 4), np.float32))
    np.save(tmp_path / "three.npy", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "broken.npy").write_bytes(b"no array")
    for name, words in (("soft", "float32"), ("three", r"\(4, 4, 3\)"), ("broken", "not a readable array")):
        with pytest.raises(DataError, match=words):
            read_ids(tmp_path / f"{name}.npy")


def test_a_negative_value_that_is_not_void_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, -2]]))
    card = catalog.card("scenes")
    with pytest.raises(DataError, match=r"holds label -2 \(1 px\)"):
        card.label_of(read_ids(tmp_path / "a.npy"), tmp_path / "a.npy")
