"""Every command that README and docs show is run, as it stands, where its reader would run it."""

import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, call

pytestmark = pytest.mark.commands  # `make commands`
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# What .ci/run does once for all, in a clean clone.
BY_CI = ("make repro", "make test", "python3 -m venv", ".venv/bin/pip", "pip install", "dvc repro")
LONG = (("&& dvc repro", "&& dvc repro download"),)  # hours of training: that it begins, is seen

# Commands whose answer may be no, and how they say it.
MAY_SAY_NO = {
    "--tuned": "found no CRF to be best",
    "losses check": "promises fail; see the table above",
    "segpipe plan": "do not say how much trainings vary",  # there is one seed
}


def commands(path):
    """The lines of indented blocks that are commands, without their comments."""
    found = []
    for line in path.read_text().split("\n"):
        if re.match(r"    (segpipe|dvc|cd|torchrun|python3?|pip|make|\.venv)\b", line):
            found.append(re.sub(r"\s+# .*", "", line.strip()))
    return [line for line in found if path.stem == "tutorial" or not line.startswith(BY_CI)]


def shown():
    """(commands in a finished workspace, commands that make one), each once; a line of `cd` belongs to the last."""
    inside, making = {}, []
    for path in PAGES:
        for line in commands(path) if path.stem != "tutorial" else ():
            if line.startswith("cd "):
                making[-1] += f"\n{line}"
            elif line.startswith("segpipe init"):
                making.append(line)
            else:
                inside[line] = None
    return list(inside), list(dict.fromkeys(making))


INSIDE, MAKING = shown()


def test_the_pages_show_commands():
    assert len(INSIDE) > 30
    assert len(MAKING) > 6
    assert sum("cd " in lines for lines in MAKING) == 2


def block(page, kind):
    """The first fenced block of a kind."""
    return re.search(rf"```{kind}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)[1]


@pytest.fixture(scope="module")
def place(finished, tmp_path_factory):
    """A finished workspace with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("docs") / "w"
    shutil.copytree(finished, folder, symlinks=True)
    scenes = folder / "data/download/scenes"
    names = sorted(path.name for path in (scenes / "images").iterdir())[:12]
    for name, kind in (("photos", "images"), ("path/to/images", "images"), ("path/to/masks", "annotator_1")):
        (folder / name).mkdir(parents=True)
        for one in names if name != "photos" else names[:2]:
            shutil.copy(scenes / kind / one, folder / name / one)
    (folder / "DIR").mkdir()
    for name in names:
        shutil.copy(scenes / "annotator_1" / name, folder / "DIR" / name)
        three = np.array(Image.open(folder / "path/to/masks" / name))
        Image.fromarray(np.where(three == 255, 255, three % 3).astype(np.uint8)).save(folder / "path/to/masks" / name)
    shutil.copy(folder / "photos" / names[0], folder / "a.png")
    height, width = np.array(Image.open(folder / "a.png")).shape[:2]
    np.save(folder / "a.npy", np.full((8, height, width), 1 / 8, np.float32))
    rows = [f"{run},{i},{0.7 + place / 20 + i / 100}\n" for place, run in enumerate("ab") for i in range(9)]
    (folder / "results.csv").write_text("run,image,dice\n" + "".join(rows))
    (folder / "paper.csv").write_text("method,mean,spread,n\nold,78.2,1.1,3\nnew,79.5,0.9,5\n")
    (folder / "own_loss.py").write_text(block("howto.md", "python"))
    lists = folder / "path/to/folder"
    shutil.copytree(folder / "path/to/images", lists / "images")
    shutil.copytree(folder / "path/to/masks", lists / "masks")
    for split, part in (("train", names[:6]), ("val", names[6:9]), ("test", names[9:])):
        (lists / f"{split}.txt").write_text("".join(f"images/{name} masks/{name}\n" for name in part))
    (folder / "mydata.toml").write_text(block("datasets.md", "toml"))
    if os.environ.get("SEGPIPE_TEST_DATA"):
        (folder / "path/to/CamVid").symlink_to(os.path.join(os.environ["SEGPIPE_TEST_DATA"], "CamVid"))
    return folder


def test_every_command_of_the_docs_runs_in_a_finished_workspace(place):
    for line in INSIDE:
        done = call("bash", "-ec", line, cwd=place, timeout=300, check=not any(part in line for part in MAY_SAY_NO))
        assert not done.returncode or any(words in done.stderr for words in MAY_SAY_NO.values()), line
        assert "Traceback" not in done.stderr, line


@pytest.mark.parametrize("lines", MAKING)
def test_every_workspace_of_the_docs_is_made(place, tmp_path, lines):
    if "path/to/CamVid" in lines and not os.environ.get("SEGPIPE_TEST_DATA"):
        pytest.skip("SEGPIPE_TEST_DATA is unset: set it to a folder with CamVid/ to run this command")
    for name in ("path", "mydata.toml"):
        (tmp_path / name).symlink_to(place / name)
    for long, short in LONG:
        lines = lines.replace(long, short)
    done = call("bash", "-ec", lines, cwd=tmp_path, timeout=300)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("*/params.yaml"))


def test_the_tutorial_runs_from_its_first_to_its_last_line(tmp_path):
    lines = commands(ROOT / "docs/tutorial.md")
    assert len(lines) > 10
    done = call("bash", "-ec", "\n".join(lines), cwd=tmp_path, timeout=600)
    assert "take " in done.stdout
    mine = tmp_path / "street/mine"
    for made in ("results/report.html", "runs/show/samples_train.png", "runs/audit/audit.html", "found", "found2"):
        assert (mine / made).exists(), made
    assert "One seed only" in (mine / "results/report.html").read_text()
    assert (mine / "cards/mine.toml").exists()
