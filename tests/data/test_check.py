"""What `segpipe check` finds: every trap is planted in a good dataset, and found with its file."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from segpipe.core.errors import DataError
from segpipe.data import catalog, check

import tiny
from conftest import segpipe

CARD = catalog.card("oxford_pet")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    tiny.build(CARD, folder, 12)
    return folder


@pytest.fixture
def data(good, tmp_path):
    return shutil.copytree(good, tmp_path / "data")


def findings(folder, card=CARD):
    seen = [check.check_image(folder, sample, card, "majority") for sample in catalog.samples_of(card, folder)]
    return [f for one in seen for f in one.findings] + check.together(seen, card)


def mask_of(data, name):
    return data / f"annotations/trimaps/{name}.png"


def image_of(data, name):
    return data / f"images/{name}.jpg"


def test_a_good_dataset_has_no_finding(good):
    assert findings(good) == []


def truncated(data):
    path = image_of(data, "trainval_0001")
    path.write_bytes(path.read_bytes()[:-100])


def empty(data):
    mask_of(data, "trainval_0001").write_bytes(b"")


def unknown_label(data):
    ids = np.array(Image.open(mask_of(data, "trainval_0001")))
    ids[2:4, 5] = 77
    Image.fromarray(ids).save(mask_of(data, "trainval_0001"))


def deep(data):
    ids = np.array(Image.open(mask_of(data, "trainval_0001"))).astype(np.uint16) * 257
    Image.fromarray(ids).save(mask_of(data, "trainval_0001"))


def colour_mask(data):
    Image.open(mask_of(data, "trainval_0001")).convert("RGB").save(mask_of(data, "trainval_0001"))


def other_size(data):
    Image.open(mask_of(data, "trainval_0001")).crop((0, 0, 15, 12)).save(mask_of(data, "trainval_0001"))


def sideways(data):
    with Image.open(mask_of(data, "trainval_0001")) as mask:
        mask.transpose(Image.Transpose.ROTATE_90).save(mask_of(data, "trainval_0001"))
    with Image.open(image_of(data, "trainval_0001")) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(image_of(data, "trainval_0001"), exif=exif)


def exif(data):
    with Image.open(image_of(data, "trainval_0001")) as image:
        tag = image.getexif()
        tag[0x0112] = 3
        image.save(image_of(data, "trainval_0001"), exif=tag, quality=95)


def transparent(data):
    with Image.open(image_of(data, "trainval_0001")) as image:
        image.putalpha(200)
        image.save(image_of(data, "trainval_0001"), format="PNG")


def lossy(data):
    with Image.open(mask_of(data, "trainval_0001")) as mask:
        Image.new("L", mask.size, 1).save(mask_of(data, "trainval_0001"), format="JPEG")


def copied(data):
    shutil.copy(image_of(data, "trainval_0001"), image_of(data, "test_0003"))


def copied_within(data):
    shutil.copy(image_of(data, "test_0002"), image_of(data, "test_0003"))


def nearly(data):
    smooth = np.add.outer(np.arange(12) * 12, np.arange(16) * 6)[..., None].repeat(3, 2).astype(np.uint8)
    Image.fromarray(smooth).save(image_of(data, "trainval_0001"), quality=98)
    Image.fromarray(smooth + 3).save(image_of(data, "test_0003"), quality=98)


def clash(data):
    shutil.copy(mask_of(data, "test_0001"), mask_of(data, "Test_0001"))
    Image.fromarray(np.full((12, 16, 3), 9, np.uint8)).save(image_of(data, "Test_0001"))
    with open(data / "annotations/test.txt", "a") as listing:
        listing.write("Test_0001 1 1 1\n")


def absent(data):
    for path in (data / "annotations/trimaps").glob("test*"):
        Image.fromarray(np.full((12, 16), 1, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("plant", "severity", "kind", "words"),
    [
        (truncated, "error", "unreadable image", "trainval_0001.jpg is not a readable image"),
        (empty, "error", "bad mask", "trainval_0001.png"),
        (unknown_label, "error", "bad mask", "holds label 77 (2 px)"),
        (deep, "error", "bad mask", "holds label 257"),
        (colour_mask, "error", "bad mask", "is a RGB colour image"),
        (other_size, "error", "size mismatch", "is 12 x 16, but its mask is 12 x 15"),
        (sideways, "error", "size mismatch", "is 12 x 16, but its mask is 16 x 12"),
        (exif, "warning", "EXIF orientation", "carries EXIF orientation 3"),
        (transparent, "warning", "alpha channel", "partly transparent"),
        (lossy, "warning", "lossy mask", "is a JPEG"),
        (copied, "error", "same image", "are one image"),
        (copied_within, "warning", "same image", "test_0002 (test), test_0003 (test) are one image"),
        (nearly, "warning", "nearly the same image", "1 pairs of"),
        (clash, "error", "names clash", "differ in case or Unicode form alone"),
        (absent, "warning", "absent class", "no label of test holds background, border"),
    ],
)
def test_a_planted_trap_is_found(data, plant, severity, kind, words):
    plant(data)
    found = findings(data)
    assert [(f.severity, f.kind) for f in found if f.kind != "EXIF orientation" or kind == f.kind] == [(severity, kind)]
    finding = next(f for f in found if f.kind == kind)
    assert words in finding.what
    assert finding.fix


def test_a_turned_image_is_told_from_another(data):
    sideways(data)
    assert "turn its pixels and drop the tag" in next(f.fix for f in findings(data) if f.kind == "size mismatch")


def test_all_void_is_a_warning(tmp_path):
    card = catalog.card("ade20k")
    tiny.build(card, tmp_path)
    root = tmp_path / tiny.PREFIX["ade20k"]
    Image.fromarray(np.zeros((12, 16), np.uint8)).save(root / "annotations/training/training_0001.png")
    assert "all void" in [f.kind for f in findings(tmp_path, card)]


def test_a_group_in_two_splits_is_a_warning(data):
    card = catalog.Card(**{**vars(CARD), "group_pattern": "_(....)$"})
    assert "group in two splits" in [f.kind for f in findings(data, card)]


def test_errors_stop_and_warnings_do_not():
    warning = check.Finding("a", "warning", "this", "that")
    assert check.refuse([warning]) is None
    with pytest.raises(DataError, match=r"^one; do that \(and 1 more errors: run `segpipe check`\)$"):
        check.refuse([warning, check.Finding("b", "error", "one", "do that"), check.Finding("b", "error", "two", "x")])


def test_check_fails_on_pictures_of_two_splits_that_are_nearly_one_and_prepare_goes_on(data, tmp_path):
    nearly(data)
    own_card(tmp_path)
    segpipe("init", tmp_path / "pets.toml", "--source", data, "--into", tmp_path / "w", cwd=tmp_path)
    done = segpipe("check", "--json", cwd=tmp_path / "w", check=False)
    assert done.returncode == 3
    assert [row["kind"] for row in json.loads(done.stdout)["errors"]] == ["nearly the same image"]
    segpipe("download", cwd=tmp_path / "w")
    segpipe("prepare", cwd=tmp_path / "w")


def test_check_tells_all_and_prepare_stops(data, tmp_path):
    unknown_label(data)
    copied(data)
    own_card(tmp_path)
    segpipe("init", tmp_path / "pets.toml", "--source", data, "--into", tmp_path / "w", cwd=tmp_path)
    work = tmp_path / "w"
    before = segpipe("check", "--json", cwd=work, check=False)
    assert before.returncode == 3
    report = json.loads(before.stdout)
    assert [row["kind"] for row in report["errors"]] == ["bad mask", "same image"]
    assert report["images"] == 24
    segpipe("download", cwd=work)
    after = segpipe("check", cwd=work, check=False)
    assert after.returncode == 3
    assert "24 images, 2 errors" in after.stdout
    assert (work / "runs/check/check.json").is_file()
    assert [path.name for path in (work / "runs/check/pictures").iterdir()] == ["trainval_0001.png"]
    stopped = segpipe("prepare", cwd=work, check=False)
    assert stopped.returncode == 3
    assert "holds label 77" in stopped.stderr.splitlines()[-1]
    assert "and 1 more errors" in stopped.stderr.splitlines()[-1]
    assert not list((work / "data").rglob("*.partial"))


def catalog_file():
    from importlib import resources

    return (resources.files("segpipe.data.cards") / "oxford_pet.toml").read_text()


TAIL = """
[splits]
train = "trainval"
test = "test"
"""


def test_prepare_gives_the_same_bytes_for_any_number_of_jobs(good, tmp_path):
    own_card(tmp_path)
    segpipe("init", tmp_path / "pets.toml", "--source", good, "--into", tmp_path / "w", cwd=tmp_path)
    segpipe("download", cwd=tmp_path / "w")
    contents = []
    for jobs in (1, 3):
        segpipe("prepare", "--jobs", jobs, cwd=tmp_path / "w")
        folder = tmp_path / "w/data/prepare"
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]


def test_check_without_data_says_what_to_do(tmp_path):
    segpipe("init", "scenes", "--profile", "tiny", "--into", tmp_path / "w", cwd=tmp_path)
    done = segpipe("check", cwd=tmp_path / "w", check=False)
    assert done.returncode == 3
    assert "run `segpipe download`, or give --source DIR" in done.stderr


def test_the_masks_of_every_annotator_are_looked_at(tmp_path):
    card = catalog.card("chase_db1")
    tiny.build(card, tmp_path, 28)
    (tmp_path / "Image_12L_2ndHO.png").write_bytes(b"broken")
    seen = [check.check_image(tmp_path, s, card, "annotator 1") for s in catalog.samples_of(card, tmp_path)]
    assert [f.kind for one in seen for f in one.findings] == ["bad mask"]


def test_every_missing_file_is_a_finding_of_its_own(data, tmp_path):
    for path in (image_of(data, "trainval_0001"), mask_of(data, "trainval_0002"), mask_of(data, "test_0001")):
        path.unlink()
    own_card(tmp_path)
    out = tmp_path / "work"
    segpipe("init", "scenes", "--profile", "tiny", "--into", out, cwd=tmp_path)
    (out / "cards").mkdir()
    shutil.copy(tmp_path / "pets.toml", out / "cards")
    done = segpipe("check", "--source", data, "--set", "download.dataset=pets", "--json", cwd=out, check=False)
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert [(row["kind"], row["files"][0].split("/")[-1]) for row in report["errors"]] == [
        ("missing file", "trainval_0001.jpg"),
        ("missing file", "trainval_0002.png"),
        ("missing file", "test_0001.png"),
    ]


def test_what_is_left_out_is_listed_with_the_reason(data, tmp_path):
    extra = data / "images/extra_0001.jpg"
    shutil.copy(image_of(data, "test_0001"), extra)
    card = catalog.read_card(own_card(tmp_path))
    assert catalog.found_in(card, data).left_out == {"images/extra_0001.jpg": "no list names it"}
    segpipe("init", tmp_path / "pets.toml", "--source", data, "--into", tmp_path / "w", cwd=tmp_path)
    done = segpipe("download", cwd=tmp_path / "w")
    assert "1 files are left out, such as images/extra_0001.jpg: no list names it" in done.stderr + done.stdout
    segpipe("prepare", cwd=tmp_path / "w")
    recorded = json.loads((tmp_path / "w/data/prepare/check.json").read_text())
    assert recorded["left_out"] == {"images/extra_0001.jpg": "no list names it"}
    told = segpipe("check", cwd=tmp_path / "w").stdout
    assert "left out: no list names it (1)\n  images/extra_0001.jpg\n" in told


def own_card(folder):
    path = folder / "pets.toml"
    path.write_text(catalog_file().split("[[files]]")[0] + TAIL)
    return path


def test_a_split_without_an_image_is_an_error(data):
    card = catalog.card("oxford_pet")
    samples = [s for s in catalog.samples_of(card, data) if s.split != "val"]
    findings = check.together([check.check_image(data, sample, card, "majority") for sample in samples], card)
    assert [(f.kind, f.what) for f in findings if f.severity == "error"] == [("empty split", "val holds no image")]
