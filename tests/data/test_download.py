"""Stage download from a server, through the command line: resumed, pinned, refused in one line."""

import json
import os

import pytest
from test_fetch import serving

from segpipe.data import catalog

import tiny
from conftest import segpipe

CARD = """\
title = "Pets from a server"
licence = "none"
source = "http://127.0.0.1"
layout = "template"
image = "images/{{name}}.jpg"
masks = ["annotations/trimaps/{{name}}.png"]
lists = "annotations/{{split}}.txt"
classes = ["pet", "background", "border"]
palette = [[230, 120, 50], [40, 40, 40], [240, 240, 240]]
values = [[1], [2], [3]]
void = []
{files}
[splits]
train = "trainval"
test = "test"

[images]
test = 9

[params]
"prepare.height" = 32
"prepare.width" = 32
"prepare.labels" = "annotator 1"
"""
FILE = '[[files]]\nname = "{name}"\nurls = ["{url}"]\n'


@pytest.fixture
def published(tmp_path):
    """The archives of a tiny dataset."""
    card = catalog.card("oxford_pet")
    tiny.build(card, tmp_path / "tree", 12)
    tiny.pack(card, tmp_path / "tree", tmp_path / "archives")
    return [
        path.read_bytes() for path in (tmp_path / "archives/images.tar.gz", tmp_path / "archives/annotations.tar.gz")
    ]


def workspace(tmp_path, *urls):
    names = ("images.bin", "annotations.bin")
    card = CARD.format(files="".join(FILE.format(name=n, url=u) for n, u in zip(names, urls, strict=True)))
    (tmp_path / "pets.toml").write_text(card)
    segpipe("init", tmp_path / "pets.toml", "--into", tmp_path / "work", cwd=tmp_path)
    return tmp_path / "work"


def test_a_dataset_comes_from_a_server_that_breaks_off(tmp_path, published):
    images, annotations = published
    with (
        serving(("whole", images, True, len(images) // 2), ("status", 503), ("whole", images)) as first,
        serving(("whole", annotations)) as second,
    ):
        work = workspace(tmp_path, first.url, second.url)
        done = segpipe("download", "--json", cwd=work)
        assert json.loads(done.stdout)["images"] == {"train": 11, "val": 1, "test": 12}
        assert "test holds 12 images, pets is known to have 9" in done.stderr
        assert done.stderr.count("pinned sha256") == 2
        assert sorted(json.loads((work / "cards/pins.json").read_text())) == ["pets/annotations.bin", "pets/images.bin"]
        asked = len(first.seen)
        segpipe("download", cwd=work)  # again: from what is kept
        assert len(first.seen) == asked
        # The publisher changes the file: what was pinned is kept to.
        (work / ".segpipe/downloads/pets/images.bin").unlink()
        first.plan = [("whole", images + b"\0")]
        before = sorted((work / "data/download/pets").rglob("*"))
        refused = segpipe("download", cwd=work, check=False)
        assert refused.returncode == 3
        assert f"{len(images) + 1} bytes, wanted {len(images)}" in refused.stderr.splitlines()[-1]
        assert sorted((work / "data/download/pets").rglob("*")) == before
    segpipe("prepare", cwd=work)
    segpipe("stats", cwd=work)
    assert not (work / ".segpipe/downloads/pets/unpacked").exists()


def test_a_server_that_goes_away_leaves_what_came(tmp_path, published):
    images, annotations = published
    with serving(("whole", images, True, 1000), ("status", 404)) as first, serving(("whole", annotations)) as second:
        work = workspace(tmp_path, first.url, second.url)
        done = segpipe("download", cwd=work, check=False)
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 3
    assert "answer 404" in line
    assert "images.bin.part holds 1000 bytes, the next call goes on there" in line
    assert "SEGPIPE_MIRROR" in line
    assert not (work / "data/download/pets").exists()
    mirror = tmp_path / "mirror/pets"
    mirror.mkdir(parents=True)
    for name, content in (("images.bin", images), ("annotations.bin", annotations)):
        (mirror / name).write_bytes(content)
    segpipe("download", cwd=work, env={**os.environ, "SEGPIPE_MIRROR": str(tmp_path / "mirror")})


def test_an_answer_that_is_no_archive_is_one_line(tmp_path, published):
    page = b"<html>please log in</html>"
    with serving(("whole", page)) as first, serving(("whole", published[1])) as second:
        work = workspace(tmp_path, first.url, second.url)
        done = segpipe("download", cwd=work, check=False)
    assert done.returncode == 3
    assert "is neither zip nor tar nor gzip; delete it and download it again" in done.stderr.splitlines()[-1]
    assert not (work / "data/download/pets").exists()
    assert not (work / "cards/pins.json").exists()
    assert not (work / ".segpipe/downloads/pets/images.bin").exists()
