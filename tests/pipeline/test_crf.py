"""Stage crf on a finished tiny workspace: any number of jobs, killed at any moment, one image alone."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from segpipe import crf
from segpipe.config import yaml

from conftest import IMAGES, segpipe

# A network of half a minute gains next to nothing from a CRF; on one image, with low weights, this one is applied.
CHANGES = {
    "crf.tune.metric": "miou_dataset", "crf.tune.images": 1, "crf.tune.points": 20, "crf.tune.pos_w": [0.1, 1.0],
    "crf.tune.bi_w": [0.05, 0.5], "crf.tune.bi_rgb_std": [4.0, 13.0], "crf.tune.bi_xy_std": [2.0, 8.0],
    "crf.tune.unary_scale": [1.0],
}  # fmt: skip


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def prepared(workspace):
    path = workspace / "params.yaml"
    path.write_text(yaml.edit(path.read_text(), CHANGES))
    shutil.rmtree(workspace / "data/crf")
    return workspace


def refine(workspace, *arguments):
    segpipe("crf", "--run", "ce", *arguments, cwd=workspace)
    return content(workspace / "data/crf/ce-0")


def test_any_number_of_jobs_gives_the_same_bytes_and_a_verdict(prepared):
    one = refine(prepared, "--jobs", "1")
    assert refine(prepared, "--jobs", "3") == one
    found = json.loads(one["crf.json"])
    assert len(found["tuned_on"]) == 1
    assert 16 <= len(found["candidates"]) <= 20
    assert found["parameters"] is not None
    assert found["score"] > found["score_without"]
    for split, images in (("val", IMAGES), ("test", IMAGES)):
        effect = found["effect"][split]
        assert effect["verdict"] in ("helps", "hurts", "practically equal", "undecided")
        assert len(effect["before"]["iou_dataset"]) == len(effect["after"]["iou_dataset"]) == 8
        assert {"acc", "miou_image_q5", "miou_class_q5", "ece_dataset", "trimap_miou_dataset"} <= effect["after"].keys()
        assert effect["differences"]["miou_dataset"]["units"] <= images
    assert not list((prepared / ".segpipe/crf").rglob("*.npz"))


def test_scores_after_the_crf_are_those_that_evaluate_finds(prepared):
    found = json.loads(refine(prepared)["crf.json"])
    assert found["parameters"] is not None
    segpipe("evaluate", "--run", "ce", "--crf", cwd=prepared)
    for variant, side in (("runs", "before"), ("crf", "after")):
        scores = json.loads((prepared / f"results/{variant}/ce-0/metrics.json").read_text())["test"]
        told = found["effect"]["test"][side]
        for name in ("acc", "miou_dataset", "miou_image", "miou_class", "nll_dataset", "ece_dataset"):
            assert told[name] == pytest.approx(scores[name], abs=1e-6)  # kept in float16
        assert told["trimap_miou_dataset"] == pytest.approx(scores["borders"]["trimap_miou_dataset"])


def test_a_killed_stage_goes_on_where_it_was(prepared):
    whole = refine(prepared)
    shutil.rmtree(prepared / "data/crf")
    command = [sys.executable, "-m", "segpipe", "crf", "--run", "ce", "--jobs", "1"]
    process = subprocess.Popen(command, cwd=prepared, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((prepared / ".segpipe/crf").rglob("val-*.npz"))) < 3:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (prepared / ".segpipe/crf").rglob("*.npz")}
    assert kept, "the stage was done before it could be killed"
    assert not (prepared / "data/crf/ce-0").exists()
    process = subprocess.Popen(command, cwd=prepared, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        for path, when in kept.items():
            with contextlib.suppress(FileNotFoundError):  # the stage removes them when it is done
                assert path.stat().st_mtime_ns == when
        time.sleep(0.05)
    assert process.returncode == 0
    assert content(prepared / "data/crf/ce-0") == whole


def test_a_grid_beyond_its_budget_is_one_line(prepared):
    done = segpipe("crf", "--run", "ce", "--set", "crf.tune.points=3", cwd=prepared, check=False)
    assert done.returncode == 2
    assert "crf.tune" in done.stderr
    assert "16 points" in done.stderr


@pytest.fixture
def single(tmp_path):
    """An image and its probabilities as files."""
    random = np.random.default_rng(0)
    labels = np.arange(24)[None] // 12 + np.zeros((20, 24), int)
    image = np.clip(60 + 120 * labels[..., None] + random.normal(0, 10, (20, 24, 3)), 0, 255).astype(np.uint8)
    probs = np.where(labels[None] == np.arange(2)[:, None, None], 0.6, 0.4)
    noisy = np.clip(probs + random.normal(0, 0.15, (1, 20, 24)) * np.array([1, -1])[:, None, None], 0.01, 0.99)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", noisy)
    return tmp_path


def test_one_image_alone(single):
    words = (
        "crf",
        "--image",
        "a.png",
        "--probs",
        "a.npy",
        "--parameter",
        "bi_xy_std=10",
        "--parameter",
        "iterations=4",
    )
    done = segpipe(*words, "--out", "b.png", cwd=single)
    assert "not tuned" in done.stdout
    image, probs = np.asarray(Image.open(single / "a.png")), np.load(single / "a.npy")
    wanted = crf.dense_crf(image, probs, bi_xy_std=10, iterations=4)
    np.testing.assert_array_equal(np.asarray(Image.open(single / "b.png")), wanted.argmax(0))
    segpipe(*words, "--out", "b.npy", cwd=single)
    np.testing.assert_allclose(np.load(single / "b.npy"), wanted, atol=1e-6)
    exact = segpipe(
        *words, "--parameter", "engine=exact", "--parameter", "normalization=after", "--out", "d.npy", cwd=single
    )
    assert "engine exact" in exact.stdout
    options = {"bi_xy_std": 10, "iterations": 4, "engine": "exact", "normalization": "after"}
    np.testing.assert_allclose(np.load(single / "d.npy"), crf.dense_crf(image, probs, **options), atol=1e-6)
    dry = segpipe(*words, "--out", "e.npy", "--dry-run", cwd=single)
    assert "would read" in dry.stdout and not (single / "e.npy").exists()  # noqa: PT018
    found = json.loads(segpipe(*words, "--out", "c.png", "--json", cwd=single).stdout)
    assert found["changed"] == pytest.approx(float((wanted.argmax(0) != probs.argmax(0)).mean()))


def test_one_image_with_the_parameters_of_a_tuned_run(single):
    parameters = {
        "unary_scale": 0.5,
        "pos_w": 1.0,
        "pos_xy_std": 1.0,
        "bi_w": 2.0,
        "bi_xy_std": 9.0,
        "bi_rgb_std": 20.0,
    }
    (single / "crf.json").write_text(json.dumps({"parameters": parameters, "iterations": 3}))
    segpipe("crf", "--image", "a.png", "--probs", "a.npy", "--tuned", "crf.json", "--out", "b.npy", cwd=single)
    wanted = crf.dense_crf(
        np.asarray(Image.open(single / "a.png")), np.load(single / "a.npy"), iterations=3, **parameters
    )
    np.testing.assert_allclose(np.load(single / "b.npy"), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--image", "a.png"], 2, "takes all of"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.jpg"], 2, "wanted .png"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--run", "ce"], 2, "stand alone"),
        (["--image", "no.png", "--probs", "a.npy", "--out", "b.png"], 3, "no.png"),
        (["--image", "a.png", "--probs", "no.npy", "--out", "b.png"], 3, "no.npy"),
        (["--image", "a.png", "--probs", "a.png", "--out", "b.png"], 3, "a.png"),
        (["--image", "a.png", "--probs", "swapped.npy", "--out", "b.png"], 3, "swapped"),
        (["--image", "a.png", "--probs", "nan.npy", "--out", "b.png"], 3, "finite"),
        (["--image", "a.png", "--probs", "ids.npy", "--out", "b.png"], 3, "floats"),
        (["--image", "a.png", "--probs", "pickled.npy", "--out", "b.png"], 3, "pickled.npy"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--parameter", "bi_w=-1"], 3, "bi_w is -1"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--parameter", "bi_v=1"], 2, "did you mean 'bi_w'"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--parameter", "bi_w=x"], 2, "no number"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--tuned", "none.json"], 3, "no CRF"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--tuned", "other.json"], 3, "crf.json"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--tuned", "list.json"], 3, "numbers by name"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--tuned", "word.json"], 3, "numbers by name"),
        (["--image", "a.png", "--probs", "a.npz", "--out", "b.png"], 3, "a.npz holds arrays arr_0, arr_1, wanted one"),
        (["--image", "a.png", "--probs", "flat.npy", "--out", "b.png"], 3, "(C, H, W)"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "a.npy"], 2, "is an input"),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--jobs", "2"], 2, "stand alone"),
        (
            ["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--dry-run", "--parameter", "pos_w=-1"],
            3,
            "pos_w",
        ),
        (["--image", "a.png", "--probs", "a.npy", "--out", "b.png", "--parameter", "bi_w=1e39"], 3, "bi_w is 1e+39"),
    ],
)
def test_one_image_refuses_in_one_line(single, arguments, code, words):
    probs = np.load(single / "a.npy")
    np.save(single / "swapped.npy", probs.transpose(0, 2, 1))
    np.save(single / "nan.npy", np.full_like(probs, np.nan))
    np.save(single / "ids.npy", probs.round().astype(int))
    np.save(single / "pickled.npy", np.array([{}], object))
    (single / "none.json").write_text('{"parameters": null, "iterations": 5}')
    (single / "other.json").write_text("[1]")
    (single / "list.json").write_text('{"parameters": [1], "iterations": 5}')
    (single / "word.json").write_text('{"parameters": {"bi_w": "x"}, "iterations": 5}')
    np.savez(single / "a.npz", probs, probs)
    np.save(single / "flat.npy", probs[0])
    done = segpipe("crf", *arguments, cwd=single, check=False)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (single / "b.png").exists()
