"""Reading masks and images: ids survive every file type, corrupt files become one clear error."""

import io
import re
import struct
import zlib
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segpipe.core.errors import ConfigError, DataError
from segpipe.data import catalog, masks
from segpipe.data.card import Card
from segpipe.data.files import png_bytes, read_ids, read_image

IDS = np.array([[0, 1, 5], [15, 1, 255]], np.uint8)


def test_palette_masks_keep_their_indices(tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(png_bytes(IDS, [(k, 255 - k, k // 2) for k in range(256)]))
    assert Image.open(path).mode == "P"
    assert (read_ids(path) == IDS).all()


def test_grey_one_bit_and_16_bit_masks_keep_their_values(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "grey.png")
    Image.fromarray(IDS > 1).save(tmp_path / "bit.png")
    deep = IDS.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert (read_ids(tmp_path / "grey.png") == IDS).all()
    assert (read_ids(tmp_path / "bit.png") == (IDS > 1)).all()
    assert (read_ids(tmp_path / "deep.png") == deep).all()


def test_a_colour_mask_is_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match="colour image"):
        read_ids(tmp_path / "rgb.png")


def test_images_of_any_8_bit_mode_become_rgb(tmp_path):
    for mode in ("L", "RGB", "RGBA", "P", "1", "LA"):
        Image.new(mode, (4, 3)).save(tmp_path / "image.png")
        assert read_image(tmp_path / "image.png").shape == (3, 4, 3)


def picture(kind):
    stream = io.BytesIO()
    array = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_a_damaged_image_is_one_error_with_its_path(tmp_path, kind, damage):
    content = picture(kind)
    path = tmp_path / "image"
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "garbage": b"not an image"}[damage])
    with pytest.raises(DataError, match=str(path)):
        read_image(path)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match=r"20000 x 20000|400000000 pixels"):
        read_image(tmp_path / "bomb.png")


def test_missing_files_and_deep_images_are_refused(tmp_path):
    with pytest.raises(DataError, match="missing"):
        read_image(tmp_path / "none.png")
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="16 bits per channel, wanted 8"):
        read_image(tmp_path / "deep.png")


def test_a_label_outside_the_classes_names_file_and_value():
    card = catalog.card("camvid")
    with pytest.raises(DataError, match=r"mask\.png holds label 12 \(1 px\), wanted 0\.\.10 or void \[11\]"):
        card.label_of(np.array([[0, 11, 12]]), "mask.png")
    assert card.label_of(np.array([[0, 11, 10]]), "mask.png").tolist() == [[0, 255, 10]]


def lists(folder, train, val="b.png b_m.png\n", test="c.png c_m.png\n"):
    for name in ("a", "b", "c"):
        Image.fromarray(IDS).save(folder / f"{name}.png")
        Image.fromarray(IDS).save(folder / f"{name}_m.png")
    for split, text in (("train", train), ("val", val), ("test", test)):
        (folder / f"{split}.txt").write_text(text)
    return folder


def test_absolute_paths_of_another_machine_are_rerooted(tmp_path):
    samples = catalog.samples_of(catalog.card("camvid"), lists(tmp_path, "/far/away/a.png /far/away/a_m.png\n"))
    assert (samples[0].image, samples[0].labels, samples[0].split) == ("a.png", ("a_m.png",), "train")


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("a.png\n", "1 fields"),
        ("gone.png a_m.png\n", "gone.png"),
        ("../../etc/passwd a_m.png\n", "leads out of the dataset"),
        ("b.png b_m.png\n", "listed twice"),
    ],
)
def test_broken_lists_are_refused(tmp_path, train, words):
    with pytest.raises(DataError, match=words):
        catalog.samples_of(catalog.card("camvid"), lists(tmp_path, train))


def test_folders_without_lists_or_images_are_refused(tmp_path):
    with pytest.raises(DataError, match="is missing"):
        catalog.samples_of(catalog.card("camvid"), tmp_path)
    with pytest.raises(DataError, match="lists no image"):
        catalog.samples_of(catalog.card("camvid"), lists(tmp_path, "", "", ""))


def test_a_card_may_map_raw_values_to_classes(tmp_path):
    card = catalog.card("scenes_things")
    ids = np.array([[0, 4, 5], [7, 255, 3]])
    assert card.label_of(ids, "m.png").tolist() == [[0, 0, 1], [1, 255, 0]]
    with pytest.raises(DataError, match=r"holds label 8 \(1 px\), wanted one of \[\[0, 1"):
        card.label_of(np.minimum(ids + 1, 255), "m.png")
    text = (resources.files("segpipe.data.cards") / "scenes_things.toml").read_text()
    (tmp_path / "bad.toml").write_text(text.replace("[5, 6, 7]", "[4, 6, 7]"))
    with pytest.raises(ConfigError, match="each value once"):
        catalog.read_card(tmp_path / "bad.toml")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ids_of_fewer_than_8_bits_are_not_stretched(tmp_path, bits):
    """A 4-bit grey PNG, as optimisers write them: Pillow and OpenCV multiply its values by 17."""
    ids = np.arange(2**bits, dtype=np.uint8).reshape(1, -1).repeat(4, 0)
    path = tmp_path / "mask.png"
    path.write_bytes(png_of_bits(ids, bits))
    np.testing.assert_array_equal(read_ids(path), ids)


def png_of_bits(ids, bits):
    """A grey PNG of so many bits, written by hand: no library writes them."""
    height, width = ids.shape
    rows = b""
    for row in ids:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text = text.ljust(-(-len(text) // 8) * 8, "0")
        rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_pgm_whose_values_would_be_rescaled_is_refused(tmp_path):
    (tmp_path / "fine.pgm").write_bytes(b"P5 3 1 255\n" + bytes([0, 1, 20]))
    assert read_ids(tmp_path / "fine.pgm").tolist() == [[0, 1, 20]]
    (tmp_path / "odd.pgm").write_bytes(b"P5 3 1 20\n" + bytes([0, 1, 20]))
    with pytest.raises(DataError, match="rescale or invert"):
        read_ids(tmp_path / "odd.pgm")


def test_binary_masks_are_what_they_look_like(tmp_path):
    white_first = Image.fromarray(np.array([[0, 1, 1]], np.uint8), "P")
    white_first.putpalette([255, 255, 255, 0, 0, 0])
    white_first.save(tmp_path / "inverted.gif")
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "bit.png")
    Image.fromarray(np.array([[0, 1, 0]], np.uint8)).save(tmp_path / "ones.png")
    Image.fromarray(np.array([[0, 3, 255, 127, 128]], np.uint8)).save(tmp_path / "edges.png")
    Image.fromarray(np.array([[0, 3, 1]], np.uint8)).save(tmp_path / "dark.png")
    Image.fromarray(np.array([[0, 40000]], np.uint16)).save(tmp_path / "deep.png")
    card = catalog.card("scenes")
    assert masks.binary(tmp_path / "inverted.gif", card).tolist() == [[1, 0, 0]]
    assert masks.binary(tmp_path / "bit.png", card).tolist() == [[0, 1]]
    assert masks.binary(tmp_path / "ones.png", card).tolist() == [[0, 1, 0]]
    assert masks.binary(tmp_path / "edges.png", card).tolist() == [[0, 0, 1, 0, 1]]
    with pytest.raises(DataError, match=r"dark.png holds the values 0, 1, 3, wanted 0 and one more"):
        masks.binary(tmp_path / "dark.png", card)
    with pytest.raises(DataError, match="wanted a mask of 8 bits"):
        masks.binary(tmp_path / "deep.png", card)


GOOD = """
title = "t"
licence = "l"
source = "s"
layout = "template"
image = "img/{name}.jpg"
masks = ["lab/{name}.png"]
classes = ["a", "b"]
palette = [[0, 0, 0], [1, 1, 1]]
void = [255]
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("void = [255]", "void = [0]", "0 is void and a value of a class"),
        ("void = [255]", "void = [-40000]", "void from -32768"),
        ("void = [255]", "void = [255]\nvalues = [0, 1]", "values must list"),
        ("void = [255]", "void = [255]\nvalues = [[-1], [0]]", "whole numbers from 0"),
        ("void = [255]", "void = []\nvoid_colors = [[9, 9, 9]]", "void_colors need"),
        ("lab/{name}", "lab/{nmae}", "a field {nmae} that image has not"),
        ('masks = ["lab/{name}.png"]', "masks = []", "needs image and masks"),
        ("void = [255]", 'void = [255]\ngroup_pattern = "^."', "no brackets"),
        ("void = [255]", 'void = [255]\ngroup_pattern = "("', "no expression"),
        ("[1, 1, 1]", "[1, 1, 256]", "is no colour"),
        ('classes = ["a", "b"]', 'classes = "ab"', "classes is 'ab', wanted list"),
        ("void = [255]", 'void = [255]\n[[files]]\nname = "a"\nurls = "http://x"', "must be a list"),
        ("void = [255]", 'void = [255]\n[[files]]\nname = "a"\nmd5 = "12"', "wanted 32 hexadecimal digits"),
        ("void = [255]", 'void = [255]\n[[files]]\nfile = "a"', "a file has the keys file"),
    ],
)
def test_a_card_that_contradicts_itself_is_one_line(tmp_path, old, new, words):
    path = tmp_path / "card.toml"
    path.write_text(GOOD)
    assert catalog.read_card(path).num_classes == 2
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=re.escape(words)):
        catalog.read_card(path)


@given(st.data())
def test_value_maps_give_each_raw_value_its_class_and_refuse_others(data):
    number = data.draw(st.integers(1, 12))
    most = data.draw(st.sampled_from([255, 65535]))
    raw = data.draw(st.lists(st.integers(0, most), min_size=number + 2, max_size=3 * number + 2, unique=True))
    void, unknown, rest = raw[:1], raw[1], raw[2:]
    values = [[] for _ in range(number)]
    for k, value in enumerate(rest):
        values[k % number].append(value)
    card = Card("x", "", "", "", "template", ["c"] * number, [[0, 0, 0]] * number, void, values=values)
    ids = np.array(data.draw(st.lists(st.sampled_from([*rest, *void]), min_size=1, max_size=40)))
    ids = ids.reshape(1, -1).astype(np.uint8 if most == 255 else np.int64)
    expected = [next((k for k, group in enumerate(values) if value in group), 255) for value in ids[0].tolist()]
    np.testing.assert_array_equal(card.label_of(ids, "m.png")[0], expected)
    ids[0, -1] = unknown
    with pytest.raises(DataError, match=rf"m.png holds label {unknown} \(1 px\)"):
        card.label_of(ids, "m.png")


def test_254_classes_and_more_leave_no_value_for_what_is_unknown():
    for number in (253, 254, 255):
        card = Card("x", "", "", "", "template", ["c"] * number, [[0, 0, 0]] * number, [])
        ids = np.arange(number, dtype=np.uint8)[None]
        np.testing.assert_array_equal(card.label_of(ids, "m.png"), ids)
        with pytest.raises(DataError, match="holds label 255"):
            card.label_of(np.array([[255]], np.uint8), "m.png")
