"""`segpipe init mydata --images DIR --masks DIR`: what is guessed of folders as people have them."""

import shutil
import tomllib

import numpy as np
import pytest
from PIL import Image

from segpipe.core.errors import ConfigError, DataError
from segpipe.data import catalog, check
from segpipe.data.guess import pairs as own
from segpipe.data.guess.card import toml

from conftest import segpipe

SIZE = (30, 40)
COLORS = np.array([[0, 0, 0], [250, 0, 0], [0, 200, 50]], np.uint8)


def photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([seed, len(path.name)])
    Image.fromarray(random.integers(0, 256, (*SIZE, 3)).astype(np.uint8)).save(path)


def write(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def labels(i, number=3):
    return ((np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1])) + i) // 9 % number).astype(np.uint8)


def plain(folder, names, image="img/{}.jpg", mask="msk/{}.png", make=labels):
    for i, name in enumerate(names):
        photo(folder / image.format(name), i)
        write(folder / mask.format(name), make(i))
    return folder / image.split("/")[0], folder / mask.split("/")[0]


def card_of(folder, images, masks, **options):
    root, found = own.guess(images, masks, **options)
    path = folder / "mine.toml"
    path.write_text(toml(found, "mine", root))
    return catalog.read_card(path), root


def numbered(number, start=0):
    return [f"photo{i}" for i in range(start, start + number)]


def test_ids_with_one_name(tmp_path):
    card, root = card_of(tmp_path, *plain(tmp_path, numbered(20)))
    samples = catalog.samples_of(card, root)
    assert (card.classes, card.void, card.labels) == (["class_0", "class_1", "class_2"], [255], "ids")
    assert [sum(s.split == split for s in samples) for split in catalog.SPLITS] == [14, 3, 3]
    assert (card.params["prepare.height"], card.params["prepare.width"]) == (64, 64)
    np.testing.assert_array_equal(catalog.read_labels(root, samples[0], card, "majority"), labels(0))
    assert not [f for s in samples for f in check.check_image(root, s, card, "majority").findings]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("d/{}_sat.jpg", "d/{}_mask.png"),
        ("d/{}_sat.png", "d/{}_mask.png"),
        ("images/{}.png", "masks/{}_gt.png"),
        ("images/im_{}.tif", "masks/seg_{}.png"),
        ("a/{}.JPG", "b/{}.bmp"),
        ("a/{}_leftImg8bit.png", "b/{}_gtFine_labelIds.png"),
    ],
)
def test_names_with_text_around_them(tmp_path, image, mask):
    card, root = card_of(tmp_path, *plain(tmp_path, numbered(20, 5), image, mask))
    samples = catalog.samples_of(card, root)
    assert sorted(s.id for s in samples) == sorted(numbered(20, 5))
    for sample in samples:
        assert sample.image.split("/")[-1] == image.format(sample.id).split("/")[-1]


def test_two_values_are_binary(tmp_path):
    folders = plain(tmp_path, numbered(12), make=lambda i: labels(i, 2) * 255)
    card, root = card_of(tmp_path, *folders)
    assert (card.labels, card.classes) == ("binary", ["background", "foreground"])
    sample = catalog.samples_of(card, root)[0]
    assert set(np.unique(catalog.read_labels(root, sample, card, "majority"))) == {0, 1}


def test_void_of_255_and_other_void(tmp_path):
    def make(i):
        found = labels(i)
        found[0] = 255
        return found

    images, masks = plain(tmp_path, numbered(12), make=make)
    assert card_of(tmp_path, images, masks)[0].void == [255]
    card, _ = card_of(tmp_path, images, masks, void=[0, 255])
    assert (card.void, card.values, card.num_classes) == ([0, 255], [[1], [2]], 2)


def test_colours_are_exact(tmp_path):
    card, root = card_of(tmp_path, *plain(tmp_path, numbered(12), make=lambda i: COLORS[labels(i)]))
    assert card.labels == "colors"
    assert card.palette == [[0, 0, 0], [0, 200, 50], [250, 0, 0]]
    sample = next(s for s in catalog.samples_of(card, root) if s.id == "photo0")
    np.testing.assert_array_equal(catalog.read_labels(root, sample, card, "majority"), np.array([0, 2, 1])[labels(0)])


def test_folders_called_train_and_val(tmp_path):
    for split, called in (("train", "training"), ("val", "validation")):
        plain(
            tmp_path, [f"{split}{i}" for i in range(8)], f"images/{called}/{{}}.jpg", f"annotations/{called}/{{}}.png"
        )
    card, root = card_of(tmp_path, tmp_path / "images", tmp_path / "annotations")
    assert card.splits == {"train": "training", "test": "validation"}
    splits = {s.id: s.split for s in catalog.samples_of(card, root)}
    assert {splits[f"val{i}"] for i in range(8)} == {"test"}
    assert sum(split == "val" for split in splits.values()) == 1  # 15 % of 8 is nearest to 1


def test_frames_of_a_sequence_stay_together(tmp_path):
    names = [f"drive{k}_{i:04d}" for k in range(8) for i in range(4)]
    card, root = card_of(tmp_path, *plain(tmp_path, names))
    of_split = {}
    for sample in catalog.samples_of(card, root):
        of_split.setdefault(sample.split, set()).add(sample.group)
    # 15 % of 32 and of the 28 that are left are nearest to one group of 4.
    assert {split: len(groups) for split, groups in of_split.items()} == {"test": 1, "val": 1, "train": 6}
    assert len(set().union(*of_split.values())) == 8


def test_names_of_classes_from_a_file_or_an_option(tmp_path):
    images, masks = plain(tmp_path, numbered(12))
    (masks / "classes.txt").write_text("road\ncar\ntree\n")
    assert card_of(tmp_path, images, masks)[0].classes == ["road", "car", "tree"]
    assert card_of(tmp_path, images, masks, classes=["a", "b", "c"])[0].classes == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="2 names of classes for 3 values"):
        own.guess(images, masks, classes=["a", "b"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: shutil.rmtree(d / "img"), "img is missing"),
        (lambda d: [p.unlink() for p in (d / "msk").iterdir()], "holds no masks"),
        (
            lambda d: [p.rename(p.with_name(f"x{i * 7}y.png")) for i, p in enumerate(sorted((d / "msk").iterdir()))],
            "no mask",
        ),
        (lambda d: [photo(p, i) for i, p in enumerate((d / "msk").iterdir())], "they are photographs"),
        (lambda d: [p.unlink() for k in ("img", "msk") for p in sorted((d / k).iterdir())[3:]], "3 images are too few"),
        (
            lambda d: [(d / f"msk/photo{i}.png").unlink() for i in (3, 5)],
            "photo3.jpg has no mask, like 2 of 12 images; .* --unlabelled leave-out",
        ),
        (lambda d: (d / "msk/photo3.png").write_bytes(b"no"), "photo3.png is not a readable image"),
    ],
)
def test_what_cannot_be_guessed_is_one_line(tmp_path, spoil, words):
    images, masks = plain(tmp_path, numbered(12))
    spoil(tmp_path)
    with pytest.raises(DataError, match=words):
        own.guess(images, masks)


def test_the_workspace_runs(tmp_path):
    images, masks = plain(tmp_path / "my data", numbered(24))
    done = segpipe("init", "mine", "--images", images, "--masks", masks, "--classes", "a,b,c", cwd=tmp_path)
    assert done.stdout.count("guessed: ") == done.stdout.count("because ") == 5
    work = tmp_path / "mine"
    assert tomllib.loads((work / "cards/mine.toml").read_text())["classes"] == ["a", "b", "c"]
    for command in ("check", "download", "prepare", "stats"):
        segpipe(command, cwd=work)
    segpipe("train", "--loss", "ce", "--set", "train.epochs=1", "--set", "model.width=4", cwd=work)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["camvid", "--images", "i", "--masks", "m"], 2, "knows a dataset 'camvid'"),
        (["mine", "--images", "i"], 2, "--images DIR and --masks DIR together"),
        (["mine", "--images", "i", "--masks", "m", "--void", "x"], 2, "wanted ids"),
        (["mine", "--images", "i", "--masks", "m"], 3, "i is missing; give the folder"),
        (["My Data", "--images", "{i}", "--masks", "{m}"], 2, "must match"),
        (["mine", "--images", "{i}", "--masks", "{m}", "--group", "("], 2, "no expression"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path, arguments, code, words):
    images, masks = plain(tmp_path, numbered(12))
    filled = [word.format(i=images, m=masks) for word in arguments]
    done = segpipe("init", *filled, cwd=tmp_path, check=False)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize("folders", [("images", "masks"), ("JPEGImages", "Labels")])
def test_images_and_masks_beside_each_other_in_every_split(tmp_path, folders):
    for split, number in (("train", 8), ("val", 3), ("test", 4)):
        for i in range(number):
            photo(tmp_path / split / folders[0] / f"shot{i}.jpg", i)
            write(tmp_path / split / folders[1] / f"shot{i}.png", labels(i))
    card, root = card_of(tmp_path, tmp_path, tmp_path)
    samples = catalog.samples_of(card, root)
    assert card.image == f"{{split}}/{folders[0]}/{{name}}.jpg"
    assert [sum(s.split == split for s in samples) for split in catalog.SPLITS] == [8, 3, 4]
    assert len({s.id for s in samples}) == 15
    for sample in samples:
        i = int(sample.image.split("shot")[1].split(".")[0])
        np.testing.assert_array_equal(catalog.read_labels(root, sample, card, "majority"), labels(i))
