"""Images at their own size, from a folder of mixed ones to a report: prepare, crops, windows, infer."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from segpipe.core.errors import ConfigError, DataError
from segpipe.data.augment import Augmentation
from segpipe.data.batches import TrainSet, epoch_loader
from segpipe.data.dataset import Index, read_samples
from segpipe.data.files import read_image
from segpipe.data.normalize import curve
from segpipe.data.prepared import Ragged, alike, gather, stored
from segpipe.metrics.counts import count
from segpipe.training import validation

from conftest import run_all, segpipe, segpipe_here

SIZES = ((40, 64), (72, 50), (33, 97), (64, 64), (90, 41), (48, 48))
OPTIONS = (
    "prepare.height=null", "prepare.width=null", "train.augment.crop=[32, 32]", "train.epochs=1", "seeds=[0]",
    "model.depth=3",
    "predict.window=[32, 48]", "evaluate.pictures=2", "runs={ce: {}, ce_jml: {loss: 0.25*ce + 0.75*jml}}",
    "crf.tune.pos_w=[1.0]", "crf.tune.bi_w=[1.0]", "crf.tune.bi_xy_std=[8.0]", "crf.tune.bi_rgb_std=[5.0]",
    "crf.tune.points=2", "crf.runs=[ce_jml]",
)  # fmt: skip


def draw(folder, number):
    """Images of every size and mode, squares of class 1 on class 0."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(number):
        size = SIZES[i % len(SIZES)]
        labels = np.zeros(size, np.uint8)
        labels[8:24, 10:30] = 1
        image = Image.fromarray((random.integers(0, 90, (*size, 3)) + 120 * labels[..., None]).astype(np.uint8))
        image.convert(("RGB", "L", "RGBA")[i % 3]).save(folder / f"images/photo{i:02d}.png")
        Image.fromarray(labels).save(folder / f"masks/photo{i:02d}.png")


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    top = tmp_path_factory.mktemp("native")
    draw(top / "own", 18)
    settings = [word for option in OPTIONS for word in ("--set", option)]
    segpipe("init", "mixed", "--images", top / "own/images", "--masks", top / "own/masks", "--into", top / "w",
            *settings, cwd=top)  # fmt: skip
    run_all(top / "w")
    return top / "w"


def test_every_image_is_kept_as_it_is(native):
    index, source = Index.read(native / "data/prepare"), native / "data/download/mixed"
    samples = {sample.id: sample for sample in read_samples(source)}
    seen = set()
    for split, rows in index.splits.items():
        images = stored(native / "data/prepare", index, split, "images")
        labels = stored(native / "data/prepare", index, split, "labels")
        for image, ids, row in zip(images, labels, rows, strict=True):
            np.testing.assert_array_equal(image, read_image(source / samples[row.id].image))
            np.testing.assert_array_equal(ids, np.array(Image.open(source / samples[row.id].labels[0])))
            seen.add(ids.shape)
    assert seen == set(SIZES)


def test_every_result_is_there_and_scored_at_its_own_size(native):
    headline = json.loads((native / "results/runs/ce-0/headline.json").read_text())
    assert 0 < headline["test"]["miou_dataset"] <= 1
    ensembles = {path.name for path in (native / "results/ensembles").iterdir()}
    assert {"average", "majority", "stacking"} <= ensembles
    assert (native / "results/crf/ce_jml-0/headline.json").is_file()
    assert (native / "results/report.html").stat().st_size > 10_000
    counted = (native / "results/runs/ce-0/counts.csv").read_text()
    index = Index.read(native / "data/prepare")
    for row in index.splits["test"]:
        lines = [line.split(",") for line in counted.splitlines() if line.split(",")[2:3] == [row.id]]
        size = row.geometry.original_height * row.geometry.original_width
        assert sum(int(line[5]) + int(line[7]) for line in lines) == size  # tp + fn over the classes


def test_new_images_are_seen_at_their_own_size(native, tmp_path):
    done = segpipe("infer", tmp_path / "none.png", "--model", "ce", cwd=native, check=False)
    assert done.returncode == 3
    draw(tmp_path / "own", 3)
    segpipe("infer", tmp_path / "own/images", "--model", "ce", "--out", tmp_path / "out", cwd=native)
    segpipe("infer", tmp_path / "own/images", "--model", "ce", "--window", "32x32", "--out", tmp_path / "cut",
            cwd=native)  # fmt: skip
    segpipe("infer", tmp_path / "own/images", "--ensemble", "average", "--out", tmp_path / "both", cwd=native)
    for folder in ("out", "cut", "both"):
        for i in range(3):
            assert np.array(Image.open(tmp_path / folder / f"photo{i:02d}.png")).shape == SIZES[i]


def test_folders_in_folders_keep_their_names(native, tmp_path):
    draw(tmp_path / "own", 2)
    for name, source in (("a/x.gif", 0), ("b/c/x.ppm", 1)):
        path = tmp_path / "nested" / name
        path.parent.mkdir(parents=True)
        Image.open(tmp_path / f"own/images/photo{source:02d}.png").convert("RGB").save(path)
    out = tmp_path / "nested/out"
    for _ in range(2):  # what was written is no image of the next call
        segpipe("infer", tmp_path / "nested", "--model", "ce", "--out", out, cwd=native)
        written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
        assert written == ["a/x.png", "a/x_overlay.png", "b/c/x.png", "b/c/x_overlay.png"]


def test_an_ensemble_sees_new_images_as_stage_predict_saw_them(native, tmp_path):
    index, source = Index.read(native / "data/prepare"), native / "data/download/mixed"
    row = index.splits["test"][0]
    segpipe("infer", source / row.image, "--ensemble", "average", "--probs", "--out", tmp_path, cwd=native)
    from segpipe.data.predictions import read_probs

    kept = read_probs(native / "data/ensemble/average", "test", row, 0)
    made = np.load(tmp_path / f"{row.image.rsplit('/')[-1].rsplit('.')[0]}_probs.npy").astype(float)
    assert np.abs(kept - made).max() < 0.02  # kept in 8 bits


def test_a_killed_prepare_goes_on_and_gives_the_same_bytes(native, tmp_path):
    work = tmp_path / "w"
    shutil.copytree(native, work, symlinks=True)
    before = {path.name: path.read_bytes() for path in (work / "data/prepare").iterdir()}
    shutil.rmtree(work / "data/prepare")
    process = subprocess.Popen([sys.executable, "-m", "segpipe", "prepare"], cwd=work, stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while process.poll() is None and time.time() < deadline:
        if sum(path.stat().st_size for path in (work / ".segpipe/checkpoints/prepare").glob("*.journal")) > 8000:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.001)
    process.wait()
    segpipe("prepare", cwd=work)
    assert {path.name: path.read_bytes() for path in (work / "data/prepare").iterdir()} == before


def test_a_batch_of_images_of_several_sizes_needs_a_crop(native):
    done = segpipe_here("train", "--run", "ce", "--set", "train.augment.crop=null", cwd=native, check=False)
    assert done.returncode == 2
    assert "differ in size, from [33, 48] to [72, 97]" in done.stderr
    done = segpipe_here("train", "--run", "ce", "--set", "train.augment.crop=[96, 32]", cwd=native, check=False)
    assert done.returncode == 2
    assert "[96, 32], the largest prepared image is [72, 97]" in done.stderr


def test_one_side_alone_cannot_be_native(native):
    done = segpipe_here("prepare", "--set", "prepare.height=64", cwd=native, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "one of height and width is null" in done.stderr


def test_an_image_smaller_than_the_crop_is_padded_with_void():
    sizes = [(20, 50), (40, 24)]
    images = Ragged(np.full(sum(3 * h * w for h, w in sizes), 9, np.uint8), [(*size, 3) for size in sizes])
    labels = Ragged(np.ones(sum(h * w for h, w in sizes), np.uint8), sizes)
    train_set = TrainSet(images, labels, Augmentation(crop=(32, 32)), 0)
    for batch in epoch_loader(train_set, [0, 1], 2, 0, 0):
        assert batch.labels.shape == (2, 1, 32, 32)
        for ids, (height, width) in zip(batch.labels[:, 0], sizes, strict=True):
            assert (ids == 1).sum() == min(32, height) * min(32, width)
            assert set(np.unique(ids)) == {1, 255}


def test_stacks_of_one_and_of_many_sizes_are_read_alike():
    random = np.random.default_rng(1)
    one = random.integers(0, 9, (5, 4, 6)).astype(np.uint8)
    many = Ragged(one.ravel(), [(4, 6)] * 5)
    for stack in (one, many):
        assert [list(rows) for rows in alike(stack, [0, 2, 3, 4], 3)] == [[0, 2, 3], [4]]
        np.testing.assert_array_equal(gather(stack, [3, 1]), one[[3, 1]])
    mixed = Ragged(one.ravel(), [(4, 6), (6, 4), (6, 4), (4, 12)])
    assert [list(rows) for rows in alike(mixed, range(4), 8)] == [[0], [1, 2], [3]]
    with pytest.raises(IndexError):
        mixed[4]
    with pytest.raises(DataError, match="run `segpipe prepare`"):
        Ragged(one.ravel(), [(4, 6)])


def test_the_check_of_crops_names_sizes():
    Augmentation(crop=(8, 8)).check([(8, 9), (4, 40)])
    with pytest.raises(ConfigError, match=r"differ in size, from \[4, 9\] to \[8, 40\]"):
        Augmentation().check([(8, 9), (4, 40)])


def test_large_images_are_scored_in_tiles_that_cover_them(monkeypatch):
    class Bright(torch.nn.Module):
        def forward(self, image):
            assert max(image.shape[-2:]) <= 16
            return torch.stack([0.5 - image[:, 0], image[:, 0] - 0.5], 1)

    monkeypatch.setattr(validation, "LARGE", 100)
    monkeypatch.setattr(validation, "TILE", 16)
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (2, 37, 50, 3)).astype(np.uint8)
    labels = random.integers(0, 2, (2, 37, 50)).astype(np.uint8)
    found = validation.validate(
        Bright(), images, labels, curve({"scheme": "minmax"}), size=2, num_classes=2, device=torch.device("cpu")
    )
    wanted = count((images[..., 0] > 127).astype(np.uint8), labels, 2)
    assert (found.tp == wanted.tp).all()
    assert (found.fp == wanted.fp).all()
    assert (found.fn == wanted.fn).all()


def test_a_run_on_images_at_their_own_size_is_exported(native, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    done = segpipe("export", "--model", "ce", "--size", "40x56", "--out", tmp_path / "m.onnx", "--json", cwd=native)
    assert json.loads(done.stdout)["difference"] < 1e-4
