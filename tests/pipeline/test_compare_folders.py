"""`segpipe compare --labels DIR A=DIR B=DIR`: predictions of any framework, from folders alone."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from segpipe.metrics.counts import count
from segpipe.metrics.scores import summarize

from conftest import segpipe_here

CLASSES, NUMBER, SEEDS = 3, 12, 3


def save(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint8)).save(path)


def spoilt(true, share, seed):
    """The labels, of which a share of pixels is drawn anew."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, CLASSES, true.shape)
    return np.where(random.random(true.shape) < share, drawn, true)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Labels, a good and a bad method with three seeds each, as pictures, arrays and probabilities."""
    folder = tmp_path_factory.mktemp("theirs")
    for i in range(NUMBER):
        true = np.random.default_rng(i).integers(0, CLASSES, (20, 24))
        true[:2] = 255
        save(folder / f"gt/p{i // 2}_{i}.png", true)
        inside = np.where(true == 255, 0, true)
        for seed in range(SEEDS):
            save(folder / f"good/seed{seed}/p{i // 2}_{i}.png", spoilt(inside, 0.1, [i, seed, 0]))
            bad = spoilt(inside, 0.6, [i, seed, 1])
            path = folder / f"bad/seed{seed}/p{i // 2}_{i}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.moveaxis(np.eye(CLASSES, dtype=np.float32)[bad], -1, 0))
            (folder / "packed").mkdir(exist_ok=True)
            np.savez_compressed(folder / f"packed/pred_p{i // 2}_{i}.npz", labels=bad)
    return folder


def test_verdict_and_scores_follow_from_folders_alone(folders, tmp_path):
    counts = tmp_path / "counts.csv"
    named = [f"good={folders / 'good'}", f"bad={folders / 'bad'}"]
    given = ["--labels", folders / "gt", *named, "--metric", "miou_dataset"]
    done = segpipe_here("compare", *given, "--json", "--counts", counts, cwd=tmp_path)
    found = json.loads(done.stdout)
    expected = []
    for seed in range(SEEDS):
        pairs = []
        for i in range(NUMBER):
            true = np.array(Image.open(folders / f"gt/p{i // 2}_{i}.png"))
            pairs.append((np.array(Image.open(folders / f"good/seed{seed}/p{i // 2}_{i}.png")), true))
        predicted, true = (np.stack(part) for part in zip(*pairs, strict=True))
        expected.append(summarize(count(predicted, true, CLASSES))["miou_dataset"])
    assert found["scores"]["good"]["miou_dataset"] == pytest.approx(np.mean(expected))
    assert found["differences"][0]["word"] == "better"
    assert "guessed: 3 classes" in done.stderr
    assert "guessed: 6 groups that belong together" in done.stderr
    again = json.loads(
        segpipe_here(
            "compare", "--csv", counts, "--equivalence", "1", "--metric", "miou_dataset", "--json", cwd=tmp_path
        ).stdout
    )
    assert again["differences"] == found["differences"]
    said = segpipe_here("compare", *given, cwd=tmp_path).stdout
    assert "good is better than bad" in said
    assert "6 groups of the label maps" in said


def test_arrays_and_names_with_a_text_before_them_are_read(folders, tmp_path):
    named = [f"packed={folders / 'packed'}", f"bad={folders / 'bad/seed2'}"]
    done = segpipe_here("compare", "--labels", folders / "gt", *named, "--json", "--group", r"^(p\d)_", cwd=tmp_path)
    scores = json.loads(done.stdout)["scores"]
    assert scores["packed"] == scores["bad"]


def test_evaluate_warns_of_masks_of_0_and_255(folders, tmp_path):
    save(tmp_path / "gt/a.png", 255 * (np.arange(480).reshape(20, 24) % 2))
    given = ("--labels", tmp_path / "gt", "--predictions", tmp_path / "gt", "--classes", "2")
    assert "labels hold only 0 and void (255)" in segpipe_here("evaluate", *given, cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--labels", "gt", "good"], 2, "'good': with --labels, give predictions as NAME=FOLDER"),
        (["--labels", "gt", "a=good/seed0"], 2, "found 1 method(s), wanted at least two"),
        (["--labels", "gt", "a=good", "a=bad"], 2, "two runs are called 'a'"),
        (["--labels", "gt", "a=good", "b=nowhere"], 2, "nowhere is not a folder"),
        (["--labels", "two", "a=good/seed0", "b=good/seed1"], 3, "holds only 0 and 255, which is void"),
        (["--labels", "nowhere", "a=good", "b=bad"], 3, "nowhere is not a folder"),
        (["--labels", "gt", "a=good/seed0", "b=few"], 3, "few lacks 11 of the other folder's files: p0_1, p1_2"),
        (["--labels", "gt", "a=good", "b=bad", "--classes", "2"], 3, "holds [2], wanted 0..1"),
        (["--labels", "gt", "a=good", "b=bad", "--classes", "4"], 3, "float32 (3, 20, 24), wanted whole numbers"),
        (["--labels", "gt", "a=good", "b=broken"], 3, "is not a readable array; write it with numpy.save"),
        (["--labels", "gt", "a=good", "b=bad", "--group", "p"], 2, "wanted a pair of brackets"),
        (["--labels", "gt", "a=good", "b=bad", "--csv", "x.csv"], 2, "--labels goes with NAME=FOLDER"),
        (["a=good", "--classes", "3"], 2, "--page and --jobs go with --labels FOLDER"),
        (["--labels", "gt", "a=good", "b=bad", "--page", "x.txt"], 2, "wanted a name that ends with .html"),
        (["--labels", "gt", "a=good", "b=bad", "--images", "gt"], 2, "--images goes with --page FILE.html"),
        (["a=good", "--jobs", "3"], 2, "--page and --jobs go with --labels FOLDER"),
        (
            ["--labels", "gt", "a=good", "b=bad", "--group", "(zzz)"],
            2,
            "--group (zzz) matches no image; they are called p0_0",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(folders, arguments, code, words):
    if not (folders / "few").exists():
        save(folders / "few/p0_0.png", np.zeros((20, 24)))
        for i in range(NUMBER):
            save(folders / f"two/p{i // 2}_{i}.png", 255 * (np.arange(480).reshape(20, 24) % 2))
            (folders / "broken").mkdir(exist_ok=True)
            (folders / f"broken/p{i // 2}_{i}.npy").write_bytes(b"no")
    done = segpipe_here("compare", *arguments, cwd=folders, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_has_verdicts_scores_of_classes_and_failures_with_pictures(folders, tmp_path):
    for i in range(NUMBER):
        save(tmp_path / f"images/p{i // 2}_{i}.jpg", np.full((20, 24, 3), 200, np.uint8))
    named = [f"good={folders / 'good'}", f"bad={folders / 'bad'}"]
    given = ["compare", "--labels", folders / "gt", *named, "--page", tmp_path / "page.html"]
    plain = segpipe_here(*given, cwd=tmp_path)
    page = (tmp_path / "page.html").read_text()
    assert f"{NUMBER} images, {CLASSES} classes, {SEEDS} seeds per run" in page
    for words in (
        "good is better than",
        "IoU of each class",
        "Worst images of good",
        "Images on which every run fails",
    ):
        assert words in page
    assert "Give the folder of the images with" in page
    assert segpipe_here(*given, "--images", tmp_path / "images", cwd=tmp_path).stdout == plain.stdout
    assert "Give the folder of the images with" not in (tmp_path / "page.html").read_text()
    (tmp_path / "images/p0_0.jpg").unlink()
    refused = segpipe_here(*given, "--images", tmp_path / "images", cwd=tmp_path, check=False)
    assert (refused.returncode, "has no image for 1 of 12 label maps, such as p0_0" in refused.stderr) == (3, True)


def test_the_page_pairs_runs_whose_names_have_other_texts_around_them(tmp_path):
    for i in range(6):
        true = np.random.default_rng(i).integers(0, 3, (20, 24))
        save(tmp_path / f"gt/s{i}_gt.png", true)
        save(tmp_path / f"a/s{i}_pred.png", spoilt(true, 0.2, i))
        save(tmp_path / f"b/s{i}_gt.png", spoilt(true, 0.4, i))
        save(tmp_path / f"small/s{i}.jpg", np.zeros((10, 12, 3)))
    given = ["compare", "--labels", tmp_path / "gt", f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}"]
    segpipe_here(*given, "--page", tmp_path / "page.html", cwd=tmp_path)
    options = ["--page", tmp_path / "page.html", "--images", tmp_path / "small"]
    done = segpipe_here(*given, *options, cwd=tmp_path, check=False)
    assert done.returncode == 3
    assert "is 12 x 10, its label map 24 x 20; give the images that were labelled" in done.stderr


def test_seeds_of_other_names_are_paired_by_order_and_fewer_seeds_are_judged_as_these_networks(folders, tmp_path):
    for i, name in enumerate("xyz"):
        shutil.copytree(folders / f"bad/seed{i}", tmp_path / f"other/{name}")
    (tmp_path / "few").mkdir()
    shutil.copytree(folders / "bad/seed0", tmp_path / "few/seed0")
    shutil.copytree(folders / "bad/seed1", tmp_path / "few/seed1")
    labels = ["--labels", folders / "gt", f"good={folders / 'good'}"]
    for folder, claim in (("other", "methods"), ("few", "networks")):
        found = json.loads(segpipe_here("compare", *labels, f"b={tmp_path / folder}", "--json", cwd=tmp_path).stdout)
        assert {one["claim"] for one in found["differences"]} == {claim}
        assert found["notes"] == []
