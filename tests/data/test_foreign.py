"""Predictions of other tools: found by the names of images, told apart, read as these tools write them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from segpipe.core.errors import DataError
from segpipe.data.dataset import Row
from segpipe.data.foreign.files import find
from segpipe.data.foreign.values import Meaning, labels_of, look, probs_of, read_values
from segpipe.data.geometry import Geometry

NAMES = ("road", "car", "sky")
PALETTE = [[128, 64, 128], [0, 0, 142], [70, 130, 180]]
SIZE = (6, 8)
IDS = np.random.default_rng(0).integers(0, 3, SIZE)


def row(image, labels=None):
    return Row(image.rpartition("/")[2].split(".")[0], "g", image, (labels or image,), Geometry.fit(SIZE, None))


ROWS = [row(f"images/street_{i}.jpg", f"masks/street_{i}_gt.png") for i in range(4)]
SPLITS = {"val": ROWS[:2], "test": ROWS[2:]}


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, **{options.get("key", "probabilities"): array})
    else:
        image = Image.fromarray(np.asarray(array))
        if "palette" in options:
            image.putpalette([value for color in options["palette"] for value in color])
        image.save(path)
    return path


def one(folder, classes=NAMES):
    """The files of the first image."""
    return find(folder, {"test": ROWS[:1]}, classes)[ROWS[0].id]


def soft(ids, classes=3, low=0.1):
    """Probabilities whose largest is that of the ids."""
    found = np.full((classes, *ids.shape), low, np.float32)
    np.put_along_axis(found, ids[None], 1 - low * (classes - 1), 0)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "street_{}.png", "street_{}.npy", "deep/er/street_{}.png", "pred_street_{}_mask.png", "street_{}_gt.npy",
        "images/street_{}.png",
    ],
)  # fmt: skip
def test_a_prediction_is_found_by_the_name_of_its_image_or_label_or_what_all_names_share(tmp_path, name):
    paths = [save(tmp_path / name.format(i), IDS.astype(np.uint8)) for i in range(4)]
    assert find(tmp_path, SPLITS, NAMES) == {r.id: (path,) for r, path in zip(ROWS, paths, strict=True)}


def test_nnunet_s_names_lack_the_channel_of_the_images_and_its_probabilities_go_before_its_label_maps(tmp_path):
    rows = [row(f"imagesTs/case_{i:03}_0000.png", f"labelsTs/case_{i:03}.png") for i in range(2)]
    for i in range(2):
        save(tmp_path / f"case_{i:03}.png", IDS.astype(np.uint8))
        save(tmp_path / f"case_{i:03}.npz", soft(IDS)[:, None])
        (tmp_path / f"case_{i:03}.pkl").write_bytes(b"never read")
    (tmp_path / "dataset.json").write_text("{}")
    found = find(tmp_path, {"test": rows}, NAMES)
    assert [paths[0].name for paths in found.values()] == ["case_000.npz", "case_001.npz"]
    values = read_values(found[rows[0].id], SIZE, 3, PALETTE)
    assert values.holds() == "probs"
    np.testing.assert_allclose(probs_of(values, "it", SIZE, 3, Meaning("probs")), soft(IDS), atol=1e-6)


def test_mmsegmentation_s_label_maps_are_ids_or_colours_and_may_begin_at_one(tmp_path):
    save(tmp_path / "ids/street_0.png", IDS.astype(np.uint8), palette=PALETTE)
    save(tmp_path / "colours/street_0.png", np.array(PALETTE, np.uint8)[IDS])
    save(tmp_path / "one/street_0.png", (IDS + 1).astype(np.uint8))
    strange = save(tmp_path / "strange.png", np.array([[[1, 2, 3]]], np.uint8))
    with pytest.raises(DataError, match=r"holds the colour \[1, 2, 3\], which is none of the dataset's"):
        read_values((strange,), SIZE, 3, PALETTE)
    for folder, meaning in (
        ("ids", Meaning("labels")),
        ("colours", Meaning("labels")),
        ("one", Meaning("labels", shift=-1)),
    ):
        values = read_values(one(tmp_path / folder), SIZE, 3, PALETTE)
        np.testing.assert_array_equal(labels_of(values, "it", SIZE, 3, meaning), IDS)
    seven = save(tmp_path / "seven/street_0.png", np.array([7, 26, 23], np.uint8)[IDS])  # Cityscapes' own ids
    values = read_values((seven,), SIZE, 3, PALETTE)
    with pytest.raises(DataError, match="holds 7, 23, 26, wanted 0 to 2"):
        labels_of(values, "it", SIZE, 3, Meaning("labels"))
    meaning = Meaning("labels", ids={7: 0, 26: 1, 23: 2})
    np.testing.assert_array_equal(labels_of(values, "it", SIZE, 3, meaning), IDS)


def test_ultralytics_polygons_are_painted_the_surest_on_top_and_a_missing_file_finds_nothing(tmp_path):
    left = "0 0 0 0.5 0 0.5 1 0 1 {}"
    upper = "1 0 0 1 0 1 0.5 0 0.5 {}"
    for name, sure in (("a", (0.9, 0.2)), ("b", (0.2, 0.9))):
        (tmp_path / f"{name}").mkdir()
        text = "\n".join((left.format(sure[0]), upper.format(sure[1])))
        (tmp_path / f"{name}/street_2.txt").write_text(text + "\n")
    plain = np.zeros(SIZE, int)
    plain[:3], plain[:, :4] = 2, 1
    turned = np.zeros(SIZE, int)
    turned[:, :4], turned[:3] = 1, 2
    for name, expected in (("a", plain), ("b", turned)):
        found = find(tmp_path / name, SPLITS, NAMES)
        assert found.keys() == {"street_2", "street_3"}, "of val there is nothing, so that val is not predicted"
        np.testing.assert_array_equal(read_values(found["street_2"], SIZE, 3, PALETTE).ids, expected)
        assert not read_values(found["street_3"], SIZE, 3, PALETTE).ids.any()


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("shape", ["HW", "1HW", "11HW", "2HW", "HW2"])
def test_of_two_classes_one_plane_or_both_are_read_as_smp_s_models_return_them(tmp_path, shape, logits):
    on = (IDS > 0).astype(int)
    both = soft(on, 2)
    scores = np.log(both / both[:1]) if logits else both
    planes = {
        "HW": scores[1],
        "1HW": scores[1:],
        "11HW": scores[1:][None],
        "2HW": scores,
        "HW2": np.moveaxis(scores, 0, -1),
    }
    path = save(tmp_path / "street_0.npy", planes[shape].astype(np.float32))
    values = read_values((path,), SIZE, 2, PALETTE[:2])
    assert values.holds() == ("logits" if logits else "probs")
    np.testing.assert_allclose(probs_of(values, "it", SIZE, 2, Meaning(values.holds())), both, atol=1e-6)


def test_a_stack_is_a_picture_of_each_class_by_name_or_number(tmp_path):
    grey = np.round(255 * soft(IDS)).astype(np.uint8)
    for k, name in enumerate(NAMES):
        save(tmp_path / f"folders/street_0/{name}.png", grey[k])
        save(tmp_path / f"files/street_0_{k}.png", grey[k])
        save(tmp_path / f"deep/street_0-{name}.png", np.round(65535 * soft(IDS)[k]).astype(np.uint16))
    for folder in ("folders", "files", "deep"):
        paths = one(tmp_path / folder)
        assert len(paths) == 3
        values = read_values(paths, SIZE, 3, PALETTE)
        assert values.holds() == "probs"
        np.testing.assert_allclose(probs_of(values, "it", SIZE, 3, Meaning("probs")), soft(IDS), atol=0.01)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((3, *SIZE), np.nan, np.float32), "not finite"),
        (np.full((3, *SIZE), 0.9, np.float32), "do not sum to 1 over classes, as sigmoids do"),
        (np.zeros((4, *SIZE), np.float32), r"wanted whole numbers \(H, W\)"),
        (np.zeros((2, 2, *SIZE), np.float32), r"is float32 \(2, 2, 6, 8\)"),
        (np.zeros(SIZE, np.float32), "wanted whole numbers"),
        (np.array([{"a": 1}], dtype=object), "not a readable array"),
    ],
)
def test_an_array_that_is_no_prediction_is_refused_by_name(tmp_path, array, message):
    path = tmp_path / "street_0.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(DataError, match=message) as error:
        look((path,), SIZE, 3, PALETTE)
    assert "street_0.npy" in str(error.value)


def test_another_size_is_refused_and_resized_by_option(tmp_path):
    half = IDS[::2, ::2]
    path = save(tmp_path / "street_0.png", half.astype(np.uint8))
    values = read_values((path,), SIZE, 3, PALETTE)
    with pytest.raises(DataError, match="is 4 x 3, but the labels of that image are 8 x 6"):
        labels_of(values, str(path), SIZE, 3, Meaning("labels"))
    found = labels_of(values, str(path), SIZE, 3, Meaning("labels", resize=True))
    np.testing.assert_array_equal(found, half.repeat(2, 0).repeat(2, 1))
    scores = read_values((save(tmp_path / "street_0.npy", soft(half)),), SIZE, 3, PALETTE)
    with pytest.raises(DataError, match="give --resize"):
        look((tmp_path / "street_0.npy",), SIZE, 3, PALETTE).check("it", SIZE, 3, Meaning("probs"))
    resized = probs_of(scores, "it", SIZE, 3, Meaning("probs", resize=True))
    assert resized.shape == (3, *SIZE)
    np.testing.assert_allclose(resized.sum(0), 1, atol=1e-6)


def test_nothing_two_of_one_image_and_a_folder_that_is_missing_are_refused(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        find(tmp_path / "nowhere", SPLITS, NAMES)
    save(tmp_path / "other/1.png", IDS.astype(np.uint8))
    with pytest.raises(DataError, match=r"holds no prediction of an image such as street_0\.jpg"):
        find(tmp_path / "other", SPLITS, NAMES)
    for folder in ("a", "b"):
        save(tmp_path / f"two/{folder}/street_0.png", IDS.astype(np.uint8))
    with pytest.raises(DataError, match="two predictions of street_0"):
        find(tmp_path / "two", SPLITS, NAMES)


def test_predictions_of_other_splits_are_never_taken_for_those_of_an_image_of_the_same_name(tmp_path):
    train, val, test = ([row(f"{split}/images/{i:04}.png") for i in range(3)] for split in ("train", "val", "test"))
    train, val, test = (
        [Row(f"{split}_{i}", *list(vars(r).values())[1:]) for i, r in enumerate(rows)]
        for split, rows in (("train", train), ("val", val), ("test", test))
    )
    for split in ("train", "test"):
        for i in range(3):
            save(tmp_path / f"{split}/images/{i:04}.png", IDS.astype(np.uint8))
    found = find(tmp_path, {"val": val, "test": test}, NAMES, train)
    assert {name: paths[0].parts[-3] for name, paths in found.items()} == {f"test_{i}": "test" for i in range(3)}


def test_what_the_values_are_is_guessed_only_where_it_is_not_given(tmp_path):
    path = save(tmp_path / "street_0.npy", np.full((3, *SIZE), 0.7, np.float32))
    with pytest.raises(DataError, match="as sigmoids do"):
        look((path,), SIZE, 3, PALETTE)
    assert look((path,), SIZE, 3, PALETTE, "logits").holds == "logits"
    values = read_values((path,), SIZE, 3, PALETTE)
    np.testing.assert_allclose(probs_of(values, "it", SIZE, 3, Meaning("logits")), 1 / 3, atol=1e-6)


@pytest.mark.parametrize("word", ["abc", "nan", "inf"])
def test_a_confidence_that_is_no_number_is_named_with_its_line(tmp_path, word):
    (tmp_path / "street_0.txt").write_text(f"0 0 0 1 0 1 1 {word}\n")
    with pytest.raises(DataError, match=f"street_0.txt:1 ends with '{word}', wanted a confidence"):
        look((tmp_path / "street_0.txt",), SIZE, 3, PALETTE)


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    rows = [row(f"images/{city}/000.png") for city in ("bonn", "ulm")]
    rows = [Row(f"{r.image.split('/')[1]}_000", *list(vars(r).values())[1:]) for r in rows]
    for city in ("bonn", "ulm"):
        save(tmp_path / f"{city}/000.png", IDS.astype(np.uint8))
    found = find(tmp_path, {"test": rows}, NAMES)
    assert {name: paths[0].parent.name for name, paths in found.items()} == {"bonn_000": "bonn", "ulm_000": "ulm"}


def test_several_files_of_an_image_are_refused_and_never_chosen_by_the_alphabet(tmp_path):
    for i in range(4):
        for kind in ("gt", "pred"):
            save(tmp_path / f"two/street_{i}_{kind}.png", IDS.astype(np.uint8))
        for name in ("street_{}.png", "street_{}_overlay.png"):
            save(tmp_path / "beside" / name.format(i), IDS.astype(np.uint8))
        for name in NAMES if i != 2 else NAMES[:2]:
            save(tmp_path / f"part/street_{i}_{name}.png", (IDS > 0).astype(np.uint8))
    for folder in ("two", "beside", "part"):
        with pytest.raises(DataError, match="several files of one image; give a folder with one prediction per image"):
            find(tmp_path / folder, SPLITS, NAMES)


def test_a_file_in_the_folder_of_another_split_is_no_prediction_of_an_image(tmp_path):
    for i in range(4):
        save(tmp_path / f"train/street_{i}.png", IDS.astype(np.uint8))
    with pytest.raises(DataError, match="holds no prediction"):
        find(tmp_path, {"test": ROWS}, NAMES)
    shutil.move(tmp_path / "train", tmp_path / "testing")
    assert len(find(tmp_path, {"test": ROWS}, NAMES)) == 4


def test_a_prediction_of_another_image_of_the_dataset_is_not_taken_for_one_of_its_name(tmp_path):
    val, train = ([row(f"pool_{pool}/{i:04}.png") for i in range(3)] for pool in "ab")
    val, train = (
        [Row(f"{pool}_{i}", *list(vars(r).values())[1:]) for i, r in enumerate(rows)]
        for pool, rows in (("a", val), ("b", train))
    )
    for i in range(3):
        save(tmp_path / f"pool_b/{i:04}.png", IDS.astype(np.uint8))
    with pytest.raises(DataError, match="holds no prediction"):
        find(tmp_path, {"val": val}, NAMES, train)


def test_equal_names_in_the_folders_of_two_splits_are_two_images(tmp_path):
    test = [row(f"test/{i:04}.png") for i in range(3)]
    for split in ("train", "test"):
        for i in range(3):
            save(tmp_path / f"{split}/{i:04}.png", IDS.astype(np.uint8))
    found = find(tmp_path, {"test": test}, NAMES)  # train's own images are called otherwise
    assert {paths[0].parent.name for paths in found.values()} == {"test"}


@pytest.mark.parametrize("kind", [np.uint8, np.int64, bool])
def test_classes_of_0_and_1_are_certain(tmp_path, kind):
    planes = (np.arange(3)[:, None, None] == IDS).astype(kind)
    values = read_values((save(tmp_path / "street_0.npy", planes),), SIZE, 3, PALETTE)
    np.testing.assert_array_equal(probs_of(values, "it", SIZE, 3, Meaning("probs")), planes.astype(np.float32))


def test_every_id_is_listed_or_none_and_a_range_is_said_as_the_files_have_it(tmp_path):
    values = read_values((save(tmp_path / "street_0.png", np.array([7, 1, 23], np.uint8)[IDS]),), SIZE, 3, PALETTE)
    with pytest.raises(DataError, match="it holds 1, 23, which --ids does not list; give the class of each"):
        labels_of(values, "it", SIZE, 3, Meaning("labels", ids={7: 0}))
    with pytest.raises(DataError, match="holds 7, 23, wanted 1 to 3 before --shift -1, or 255"):
        labels_of(values, "it", SIZE, 3, Meaning("labels", shift=-1))


def test_a_polygon_of_a_class_that_no_map_holds_is_named(tmp_path):
    (tmp_path / "street_0.txt").write_text("254 0 0 1 0 1 1\n")
    with pytest.raises(DataError, match=r"street_0\.txt:1 is of class 254, wanted 0 to 253"):
        look((tmp_path / "street_0.txt",), SIZE, 3, PALETTE)
