"""`segpipe show`: pictures of samples, the same for the same seed, and the classes' frequencies."""

import json

import numpy as np
import pytest
from PIL import Image

from segpipe.data import catalog

import tiny
from conftest import segpipe


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("show") / "w"
    segpipe("init", "scenes", "--profile", "tiny", "--into", folder, cwd=folder.parent)
    segpipe("download", cwd=folder)
    return folder


def test_samples_are_drawn_by_the_seed(work):
    shown = [
        json.loads(segpipe("show", "--number", 5, "--seed", seed, "--json", cwd=work).stdout)["samples"]
        for seed in (0, 0, 1)
    ]
    assert shown[0] == shown[1] != shown[2]
    assert all(len(names) == 5 and all(name.startswith("train") for name in names) for names in shown)


def test_frequencies_need_prepare_and_say_so(work):
    first = segpipe("show", "--split", "val", cwd=work)
    assert first.stdout == "runs/show/samples_val.png\nnext: segpipe prepare, for the classes' frequencies\n"
    segpipe("prepare", cwd=work)
    second = segpipe("show", cwd=work)
    assert second.stdout == "runs/show/samples_train.png\nruns/show/frequencies.png\n"
    for name in ("samples_train", "frequencies"):
        with Image.open(work / f"runs/show/{name}.png") as picture:
            assert picture.size[0] > 600
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 30


def test_a_folder_that_is_drawn_at_download_is_shown_too(work, tmp_path):
    tiny.build(catalog.card("lits"), tmp_path)
    done = segpipe(
        "show", "--source", tmp_path, "--set", "download.dataset=lits", "--set", "prepare.labels=annotator 1", cwd=work
    )
    assert done.stdout.startswith("runs/show/samples_train.png\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--source", "nowhere"), 3, "nowhere is not a folder"),
        (("--split", "all"), 2, "Invalid value for '--split'"),
        (("--number", "0"), 2, "Invalid value for '--number'"),
        (("--set", "download.limit=3", "--set", "download.seed=1"), 2, "download.seed"),
    ],
)
def test_a_wrong_option_is_one_line(work, arguments, code, words):
    done = segpipe("show", *arguments, cwd=work, check=False)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
