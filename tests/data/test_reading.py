"""Depth, pages, missing rows and memory of image files: read right, or refused by name."""

import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from segpipe.core.errors import DataError
from segpipe.data import masks, reading
from segpipe.data.card import Card
from segpipe.data.decode import MAX_PIXELS
from segpipe.data.files import read_colors, read_grey, read_ids, read_image, read_image_and_facts
from segpipe.data.geotiff import read_bands
from segpipe.data.reading import Reading, to_8_bits

from conftest import segpipe_here

DEEP = np.random.default_rng(0).integers(0, 2**16, (5, 7, 3)).astype(np.uint16)


def plain_window(values, low, high):
    """The formula in loops: 0 at low, 255 at high, to the nearest level (half to even)."""
    found = np.zeros(values.shape, np.uint8)
    for at in np.ndindex(values.shape):
        found[at] = round(min(max((int(values[at]) - low) / (high - low) * 255, 0), 255))
    return found


@pytest.mark.parametrize("name", ["colour.png", "colour.tif"])
def test_16_bits_a_channel_are_refused_unless_a_choice_is_made(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), DEEP[..., ::-1])
    with pytest.raises(DataError, match="has 16 bits per channel, wanted 8; set depth in the card") as refused:
        read_image(tmp_path / name)
    assert "--depth" in str(refused.value)
    assert (read_image(tmp_path / name, Reading("full")) == plain_window(DEEP, 0, 65535)).all()
    assert (read_image(tmp_path / name, Reading("window 100 4095")) == plain_window(DEEP, 100, 4095)).all()
    for read in (read_colors, read_grey):
        with pytest.raises(DataError, match="wanted a mask of 8 bits per channel"):
            read(tmp_path / name)


def test_16_bits_with_alpha_and_of_grey_keep_what_they_show(tmp_path):
    alpha = np.dstack([DEEP[..., ::-1], np.full(DEEP.shape[:2], 65535, np.uint16)])
    cv2.imwrite(str(tmp_path / "alpha.png"), alpha)
    assert (read_image(tmp_path / "alpha.png", Reading("full")) == plain_window(DEEP, 0, 65535)).all()
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "grey.png")
    found = read_image(tmp_path / "grey.png", Reading("full"))
    assert (found == plain_window(DEEP[..., :1], 0, 65535).repeat(3, -1)).all()
    assert (read_ids(tmp_path / "grey.png") == DEEP[..., 0]).all()


def test_grey_of_16_bits_with_alpha_is_read_right(tmp_path):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.dstack([DEEP[..., :1], DEEP[..., 1:2] | 1]))
    (tmp_path / "x.png").write_bytes(png(7, 5, 16, 4, rows))
    found = read_image(tmp_path / "x.png", Reading("full"))
    assert (found == plain_window(DEEP[..., :1], 0, 65535).repeat(3, -1)).all()


def test_percentiles_leave_out_pixels_without_data():
    bands = DEEP.copy()
    bands[0] = 0
    found = to_8_bits(bands, "percentile")
    for band in range(3):
        low, high = np.percentile(bands[1:, :, band], (2, 98))
        assert (found[1:, :, band] == plain_window(bands[1:, :, band], low, high)).all()
    assert not found[0].any()


def test_floating_point_and_32_bits_are_refused(tmp_path):
    for name, values in (("f.tif", np.full((4, 4), 0.5, np.float32)), ("i.tif", np.full((4, 4), 70_000, np.int32))):
        Image.fromarray(values).save(tmp_path / name)
        with pytest.raises(DataError, match="wanted 8 or 16 bits per channel"):
            read_image(tmp_path / name, Reading("full"))


@pytest.mark.parametrize("text", ["window 5 5", "window 9 2", "window 0 70000", "Full", "full ", "window 1", "1 2"])
def test_a_depth_that_is_no_choice_is_told(text):
    assert "wanted 'full'" in reading.problem(text)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_of_several_pages_the_card_names_one(tmp_path, kind):
    pages = [Image.fromarray(np.full((6, 8), 10 * (k + 1), np.uint8)) for k in range(3)]
    pages = [page.convert("RGB") for page in pages] if kind == "WEBP" else pages
    path = tmp_path / f"x.{kind.lower()}"
    pages[0].save(path, kind, save_all=True, append_images=pages[1:], **({"lossless": True} if kind == "WEBP" else {}))
    for read in (read_image, read_grey, read_colors):
        with pytest.raises(DataError, match="holds 3 pages or frames, wanted one"):
            read(path)
        for page in (1, 2, 3):
            assert np.unique(read(path, Reading(page=page))).tolist() == [10 * page], (kind, page)
        with pytest.raises(DataError, match="holds 3 pages, the card asks for page 4"):
            read(path, Reading(page=4))
    Image.fromarray(np.full((6, 8), 3, np.uint8)).save(tmp_path / "one.png")
    assert (read_ids(tmp_path / "one.png", Reading(page=2)) == 3).all()  # a file of one page is that page


def test_thumbnails_in_a_tiff_are_no_pages(tmp_path):
    whole, small = Image.fromarray(np.full((6, 8), 7, np.uint8)), Image.fromarray(np.full((3, 4), 9, np.uint8))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    whole.save(tmp_path / "x.tif", save_all=True, append_images=[small])
    assert (read_ids(tmp_path / "x.tif") == 7).all()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, kind, rows, *, interlaced=0, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("depth", "kind", "bands"), [(1, 0, 1), (8, 0, 1), (16, 0, 1), (8, 2, 3), (8, 3, 1), (8, 6, 4)]
)
@pytest.mark.parametrize("fill", [0, 1, 173, 255])
def test_a_png_with_missing_rows_is_refused_and_a_whole_one_read(tmp_path, depth, kind, bands, fill):
    width, height = 9, 5
    row = b"\0" + bytes([fill]) * ((width * depth * bands + 7) // 8)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if kind == 3 else b""
    path = tmp_path / "x.png"
    path.write_bytes(png(width, height, depth, kind, row * height, extra=palette))
    found = read_image(path, Reading("full"))
    assert found.shape == (height, width, 3)
    for missing in (1, 3):
        path.write_bytes(png(width, height, depth, kind, row * (height - missing), extra=palette))
        with pytest.raises(DataError, match=r"its last rows are missing|truncated"):
            read_image(path, Reading("full"))


def test_an_interlaced_png_with_missing_rows_is_refused(tmp_path):
    whole = [1 * (1 + 2), 1 * (1 + 1), 1 * (1 + 3), 2 * (1 + 2), 2 * (1 + 5), 3 * (1 + 4), 2 * (1 + 9)]  # 9 x 5, grey
    path = tmp_path / "x.png"
    path.write_bytes(png(9, 5, 8, 0, bytes(sum(whole)), interlaced=1))
    assert not read_ids(path).any()
    path.write_bytes(png(9, 5, 8, 0, bytes(sum(whole) - 10), interlaced=1))
    with pytest.raises(DataError, match=r"missing|truncated"):
        read_ids(path)


def test_the_largest_picture_that_is_read_takes_a_bounded_memory(tmp_path):
    side = int(MAX_PIXELS**0.5)
    rows = zlib.compressobj(1)
    body = b"".join(rows.compress(bytes(1 + (side + 7) // 8)) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    code = (
        "import resource, sys; from pathlib import Path; from segpipe.data.files import read_image;"
        "read_image(Path(sys.argv[1])); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) * (1024 if sys.platform == "linux" else 1) < 1.3 * 2**30
    with pytest.raises(DataError, match="cut it into tiles"):
        path.write_bytes(png(side + 1, side + 1, 1, 0, b""))
        read_image(path)


def test_a_workspace_of_deep_images_says_how_they_become_8(tmp_path):
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for k in range(8):
        cv2.imwrite(str(tmp_path / f"images/a{k}.png"), random.integers(0, 4096, (40, 48, 3)).astype(np.uint16))
        Image.fromarray(random.integers(0, 2, (40, 48)).astype(np.uint8)).save(tmp_path / f"masks/a{k}.png")
    given = ("init", "deep", "--images", tmp_path / "images", "--masks", tmp_path / "masks")
    refused = segpipe_here(*given, cwd=tmp_path, check=False)
    assert refused.returncode == 3
    assert "has 16 bits per channel" in refused.stderr
    wrong = segpipe_here(*given, "--depth", "all", cwd=tmp_path, check=False)
    assert (wrong.returncode, "--depth is 'all', wanted 'full'" in wrong.stderr) == (2, True)
    known = segpipe_here("init", "scenes", "--depth", "full", cwd=tmp_path, check=False)
    assert (known.returncode, "--depth, --page, --masks-are and --unlabelled go with --images" in known.stderr) == (
        2,
        True,
    )
    done = segpipe_here(*given, "--depth", "window 0 4095", cwd=tmp_path)
    assert "guessed: 16 bits become 8 by 'window 0 4095'" in done.stdout
    segpipe_here("download", cwd=tmp_path / "deep")
    segpipe_here("prepare", cwd=tmp_path / "deep")
    prepared = np.load(tmp_path / "deep/data/prepare/train_images.npy")
    assert 100 < prepared[prepared > 0].mean() < 160  # 12 bits read as 16 would be nearly black


def test_geotiff_bands_of_16_bits_are_stretched(tmp_path):
    cv2.imwrite(str(tmp_path / "x.tif"), DEEP[..., ::-1])
    assert (read_bands(tmp_path / "x.tif") == to_8_bits(DEEP, "percentile")).all()


def test_a_matlab_file_that_would_unpack_without_end_is_refused(tmp_path):
    from scipy import io as matlab

    card = Card("x", "x", "x", "x", "template", ["a", "b"], [[0, 0, 0], [1, 1, 1]], [], key="s.map")
    ids = np.random.default_rng(0).integers(0, 2, (6, 7)).astype(np.uint8)
    path = tmp_path / "x.mat"
    matlab.savemat(path, {"s": {"map": ids}}, do_compression=True)
    assert (masks.ids(path, card) == ids).all()
    bomb = zlib.compress(bytes(2**29), 9)
    path.write_bytes(path.read_bytes()[:128] + struct.pack("<II", 15, len(bomb)) + bomb)
    with pytest.raises(DataError, match="unpacks to more than"):
        masks.ids(path, card)
    path.write_bytes(b"MATLAB 4" + bytes(400))
    with pytest.raises(DataError, match="no MATLAB file of version 5"):
        masks.ids(path, card)


@pytest.mark.parametrize("content", [b"garbage!", b"II*\0", b"MM\0*\xff\xff\xff\xff", b""])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF"])
def test_exif_that_cannot_be_read_is_no_orientation(tmp_path, kind, content):
    path = tmp_path / "x"
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(path, kind)
    if kind in ("PNG", "WEBP"):
        Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(path, kind, exif=content)
    image, facts = read_image_and_facts(path)
    assert facts.orientation == 0
    assert image.shape == (8, 8, 3)


def test_a_transparent_colour_is_transparent(tmp_path):
    palette = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    for name, mark in (("all.png", None), ("some.png", 0), ("unused.png", 5)):
        palette.save(tmp_path / name, **({} if mark is None else {"transparency": mark}))
        used = mark == 0
        assert read_image_and_facts(tmp_path / name)[1].transparent is used
        assert (read_ids(tmp_path / name) == [[0, 1], [1, 1]]).all()
        if used:
            with pytest.raises(DataError, match="partly transparent"):
                read_colors(tmp_path / name)
        else:
            assert read_colors(tmp_path / name)[0].tolist() == [[255, 0, 0], [0, 255, 0]]


def test_colours_of_16_bits_in_a_ppm_and_white_that_is_zero_are_not_cut(tmp_path):
    (tmp_path / "x.ppm").write_bytes(b"P6 7 5 65535\n" + DEEP.astype(">u2").tobytes())
    with pytest.raises(DataError, match="16 bits per channel"):
        read_image(tmp_path / "x.ppm")
    assert (read_image(tmp_path / "x.ppm", Reading("full")) == plain_window(DEEP, 0, 65535)).all()
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "x.tif", tiffinfo={262: 0})
    for read in (read_ids, read_image):
        with pytest.raises(DataError, match="0 is white"):
            read(tmp_path / "x.tif")


def test_a_png_that_unpacks_without_end_is_read_in_the_time_of_its_size(tmp_path):
    (tmp_path / "x.png").write_bytes(png(8, 8, 16, 0, bytes(8 * 17 + 2**29)))
    start = time.process_time()
    read_image(tmp_path / "x.png", Reading("full"))
    assert time.process_time() - start < 1
