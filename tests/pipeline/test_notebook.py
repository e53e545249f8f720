"""`import segpipe`: the functions of a notebook say what the command line says."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import segpipe as package
from segpipe.core.errors import ConfigError, DataError

from conftest import segpipe, segpipe_here


@pytest.fixture(scope="module")
def results(finished):
    return package.read_results(finished)


def test_importing_segpipe_loads_nothing_heavy():
    script = "import sys, segpipe; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    with pytest.raises(AttributeError, match="module 'segpipe' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_results_have_the_names_and_scores_of_the_report(results, finished):
    from segpipe.core.files import read_csv

    lines = read_csv(finished / "results/tables/scores.csv")
    assert set(results.names) == {line["what"] for line in lines}
    for name, scores in results.scores.items():
        own = [float(line["miou_dataset"]) for line in lines if line["what"] == name]
        assert scores["miou_dataset"] == pytest.approx(np.mean(own), abs=1e-6)
    assert "<table" in results._repr_html_()
    assert "| ce " in repr(results)
    assert results.missing == []


def test_comparisons_are_those_of_the_command_line(results, finished):
    told = json.loads(segpipe_here("compare", "ce", "ce_jml", "--json", cwd=finished).stdout)
    found = package.compare(results, "ce", "ce_jml")
    assert found.verdicts == [one["verdict"] for one in told["differences"]]
    assert repr(found) == "\n".join(found.verdicts)
    html = package.compare(results)._repr_html_()
    assert "95 % interval" in html
    assert "<svg" in html


def test_the_recommendation_is_that_of_the_command_line(results, finished):
    found = package.recommend(results, "I")
    told = segpipe_here("recommend", "--goal", "I", cwd=finished).stdout.splitlines()
    assert [line for line in repr(found).splitlines() if not line.startswith("next")] == [
        line for line in told if not line.startswith(("next", "left out"))
    ]
    assert "<table" in found._repr_html_()


def test_settings_may_be_null_and_lists(workspace):
    settings = {"train.epochs": 1, "train.warmup_epochs": 0, "train.augment.crop": None, "train.sizes": [1.0, 0.5]}
    assert len(package.train("ce", folder=workspace, settings=settings).history["epoch"]) == 1


def test_a_training_has_the_bytes_of_the_command_line_s(workspace):
    settings = {"train.epochs": 2, "train.warmup_epochs": 0}
    found = package.train(loss="focal", folder=workspace, settings=settings)
    weights = (found.folder / "model.pt").read_bytes()
    assert len(found.history["epoch"]) == 2
    assert "<svg" in found._repr_html_()
    given = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    segpipe("train", "--loss", "focal", *given, cwd=workspace)
    assert (found.folder / "model.pt").read_bytes() == weights


def test_an_image_is_segmented_as_infer_segments_it(workspace, tmp_path):
    image = next((workspace / "data/download/scenes/images").glob("test*.png"))
    segpipe("infer", image, "--model", "ce", "--out", tmp_path / "out", cwd=workspace)
    expected = np.array(Image.open(tmp_path / f"out/{image.stem}.png"))
    [found] = package.infer(image, "ce", folder=workspace)
    np.testing.assert_array_equal(found.labels, expected)
    [same] = package.infer(np.array(Image.open(image).convert("RGB")), "ce", folder=workspace)
    np.testing.assert_array_equal(same.labels, expected)
    assert found._repr_png_().startswith(b"\x89PNG")
    assert sum(found.shares.values()) == pytest.approx(1)
    both = package.infer([image, image], ensemble="average", folder=workspace)
    assert len(both) == 2
    np.testing.assert_array_equal(both[0].labels, both[1].labels)


def test_folders_of_predictions_are_compared(tmp_path):
    for i in range(6):
        true = np.random.default_rng(i).integers(0, 3, (9, 9)).astype(np.uint8)
        for name, ids in (("gt", true), ("a", true), ("b", np.roll(true, 1))):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(ids).save(tmp_path / f"{name}/{i}.png")
    found = package.compare_predictions(tmp_path / "gt", {"a": tmp_path / "a", "b": tmp_path / "b"})
    assert found.verdicts[0].startswith("mIoU^D, these networks: a is better than b by ")


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        ("read_results", ["{folder}/data"], ConfigError, "holds no params.yaml; give the folder of a workspace"),
        ("compare", ["{results}", "ce", "cee"], ConfigError, "'cee' is no result; did you mean 'ce'"),
        ("compare", ["{results}", "ce"], ConfigError, "found 1 result on test, wanted at least two"),
        ("train", [], ConfigError, "give a run of params.yaml, or loss="),
        ("train", ["cee"], ConfigError, "unknown run 'cee'"),
        ("infer", ["x.png"], ConfigError, "give model= or ensemble="),
        ("infer", ["x.png", "ce"], DataError, "x.png"),
        ("infer", ["x.png", "no"], DataError, "no trained run at"),
        ("infer", [np.zeros((4, 4), np.uint8), "ce"], ConfigError, r"wanted uint8 \(height"),
    ],
)
def test_a_wrong_call_is_an_error_in_words(results, finished, function, arguments, error, message):
    known = {"{results}": results, "{folder}/data": finished / "data"}
    given = [known.get(one, one) if isinstance(one, str) else one for one in arguments]
    named = {"folder": finished} if function in ("train", "infer") else {}
    with pytest.raises(error, match=message):
        getattr(package, function)(*given, **named)


def test_an_unknown_score_is_an_error_in_words(results):
    with pytest.raises(ConfigError, match="no result has the score 'miu'"):
        package.compare(results, "ce", "ce_jml", metrics=["miu"])
