"""Own images that are wrong: one clear line, exit code 3, nothing half-written."""

import os

import numpy as np
import pytest
from PIL import Image

from segpipe.core import files, outputs

from conftest import call, segpipe


def dataset(folder, number=4):
    """A little dataset in CamVid's layout."""
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        lines = []
        for i in range(number):
            (folder / split).mkdir(parents=True, exist_ok=True)
            (folder / f"{split}annot").mkdir(exist_ok=True)
            name = f"{split}{i}_{i}"
            image = random.integers(0, 255, (48, 64, 3)).astype(np.uint8)
            Image.fromarray(image).save(folder / split / f"{name}.jpg")
            Image.fromarray(random.integers(0, 12, (48, 64)).astype(np.uint8)).save(folder / f"{split}annot/{name}.png")
            lines.append(f"/SegNet/CamVid/{split}/{name}.jpg /SegNet/CamVid/{split}annot/{name}.png\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def made(tmp_path):
    """A workspace for the little dataset, and its source."""
    source = dataset(tmp_path / "source")
    segpipe(
        "init", "camvid", "--source", source, "--into", tmp_path / "w", "--profile", "tiny",
        "--set", "train.epochs=1", cwd=tmp_path,
    )  # fmt: skip
    return tmp_path / "w", source


def fails(workspace, command):
    """The one line with which a command refuses; nothing half-written stays."""
    done = segpipe(command, cwd=workspace, check=False)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 3, done.stderr
    assert line.startswith("segpipe: ")
    assert "Traceback" not in done.stderr
    assert not list((workspace / "data").rglob("*.partial"))
    return line


def test_the_little_dataset_runs(made):
    workspace, _ = made
    call("dvc", "repro", "evaluate@ce-0", cwd=workspace)
    assert (workspace / "results/runs/ce-0/metrics.json").exists()


CARD = """title = "Mine"
licence = "mine"
source = "my camera"
layout = "lists"
void = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
classes = ["ground", "thing"]
palette = [[0, 0, 0], [255, 0, 0]]
"""


def test_own_data_needs_one_card_and_no_clone(tmp_path):
    source, card = dataset(tmp_path / "source"), tmp_path / "mine.toml"
    card.write_text(CARD)
    segpipe("init", card, "--source", source, "--profile", "tiny", cwd=tmp_path)
    workspace = tmp_path / "mine"
    call("dvc", "repro", "stats", cwd=workspace)
    assert files.read_json(workspace / "data/stats.json")["classes"] == ["ground", "thing"]
    (workspace / "cards/mine.toml").write_text(CARD.replace('"thing"', '"object"'))
    assert "Running stage 'stats'" in call("dvc", "repro", "stats", cwd=workspace).stdout
    assert files.read_json(workspace / "data/stats.json")["classes"] == ["ground", "object"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("licence", "license", "unknown key 'license'; did you mean 'licence'?"),
        ('source = "my camera"\n', "", "missing source"),
        (", [255, 0, 0]", "", "2 classes and 1 colours"),
        ('"lists"', '"list"', "did you mean 'lists'"),
        ("title", "= title", "not valid TOML"),
    ],
)
def test_a_wrong_card_is_one_line(tmp_path, old, new, words):
    card = tmp_path / "mine.toml"
    card.write_text(CARD.replace(old, new))
    done = segpipe("init", card, "--source", tmp_path, cwd=tmp_path, check=False)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_sizes_that_differ(made):
    workspace, source = made
    Image.fromarray(np.zeros((48, 63), np.uint8)).save(source / "valannot/val1_1.png")
    segpipe("download", cwd=workspace)
    line = fails(workspace, "prepare")
    assert "val1_1.jpg is 48 x 64" in line
    assert "48 x 63" in line
    assert not (workspace / "data/prepare").exists()


def test_a_label_outside_the_classes(made):
    workspace, source = made
    Image.fromarray(np.full((48, 64), 77, np.uint8)).save(source / "trainannot/train2_2.png")
    segpipe("download", cwd=workspace)
    line = fails(workspace, "prepare")
    assert "train2_2.png holds label 77" in line
    assert "0..10" in line


def test_a_truncated_jpeg(made):
    workspace, source = made
    path = source / "test/test0_0.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    segpipe("download", cwd=workspace)
    line = fails(workspace, "prepare")
    assert "test0_0.jpg is not a readable image" in line
    assert "truncated" in line


def test_an_unreadable_mask(made):
    workspace, source = made
    (source / "trainannot/train0_0.png").write_bytes(b"")
    segpipe("download", cwd=workspace)
    assert "train0_0.png" in fails(workspace, "prepare")


def test_a_missing_image(made):
    workspace, source = made
    (source / "train/train3_3.jpg").unlink()
    line = fails(workspace, "download")
    assert "train/train3_3.jpg is missing, an image; complete the dataset" in line
    assert not (workspace / "data/download/camvid").exists()


def test_a_folder_without_images(made):
    workspace, source = made
    for split in ("train", "val", "test"):
        (source / f"{split}.txt").write_text("")
    assert "lists no image" in fails(workspace, "download")


def test_a_full_disk_leaves_the_old_download(made, monkeypatch):
    workspace, _ = made
    segpipe("download", cwd=workspace)
    before = outputs.description(workspace / "data/download/camvid")
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "sys.argv = ['segpipe', 'download']; from segpipe.cli.app import main; main()"
    )
    import sys

    done = call(sys.executable, "-c", script, cwd=workspace, check=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert outputs.description(workspace / "data/download/camvid") == before


def test_groups_that_straddle_splits_are_a_warning(made):
    workspace, source = made
    for split, others in (("val", "train0"),):
        lines = (
            (source / f"{split}.txt")
            .read_text()
            .replace("val0_0.jpg", f"{others}_9.jpg")
            .replace("val0_0.png", f"{others}_9.png")
        )
        os.rename(source / "val/val0_0.jpg", source / f"val/{others}_9.jpg")
        os.rename(source / "valannot/val0_0.png", source / f"valannot/{others}_9.png")
        (source / f"{split}.txt").write_text(lines)
    segpipe("download", cwd=workspace)
    assert "train and val share groups train0" in segpipe("prepare", cwd=workspace).stdout
