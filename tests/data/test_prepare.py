"""Stage prepare: goes on after a kill, gives the same bytes, and forgets what was wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from segpipe.core.errors import DataError
from segpipe.data.journal import journal

from conftest import segpipe


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepare") / "w"
    segpipe("init", "scenes", "--into", folder, cwd=folder.parent)
    segpipe("download", cwd=folder)
    segpipe("prepare", cwd=folder)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "data/prepare").iterdir()}


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_killed_prepare_goes_on_and_gives_the_same_bytes(work, share):
    whole = contents(work)
    shutil.rmtree(work / "data/prepare")
    journal = work / ".segpipe/checkpoints/prepare"
    process = subprocess.Popen([sys.executable, "-m", "segpipe", "prepare"], cwd=work, stderr=subprocess.DEVNULL)
    size = len(json.loads((work / "data/download/scenes/samples.json").read_text()))
    deadline = time.time() + 60
    while process.poll() is None and time.time() < deadline:
        if sum(path.stat().st_size for path in journal.glob("*.journal")) > share * size * 2400:
            break
        time.sleep(0.002)
    killed = process.poll() is None
    if killed:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = segpipe("prepare", cwd=work)
    assert ("were done before; going on" in done.stdout) == killed
    assert contents(work) == whole
    assert not journal.exists()


def test_a_record_that_was_cut_short_is_forgotten(tmp_path):
    with pytest.raises(KeyboardInterrupt), journal(tmp_path / "p", "key") as first:
        (array,), _ = first.resume("train", {"images": (3, 2)})
        with first.appending("train") as note:
            array[0] = 7
            note("zero")
            array[1] = 8
            note("one")
        array.flush()
        raise KeyboardInterrupt
    path = tmp_path / "p/train.journal"
    path.write_bytes(path.read_bytes()[:-3])
    with journal(tmp_path / "p", "key") as again:
        (array,), records = again.resume("train", {"images": (3, 2)})
        assert records == ["zero"]
        np.testing.assert_array_equal(array[0], 7)
        with again.appending("train") as note:
            note("other")
        assert again.resume("train", {"images": (3, 2)})[1] == ["zero", "other"]
    assert not (tmp_path / "p").exists()


def test_work_of_another_key_or_without_its_array_is_begun_anew(tmp_path):
    def stopped(key):
        with pytest.raises(KeyboardInterrupt), journal(tmp_path / "p", key) as work:
            _, records = work.resume("train", {"images": (3, 2)})
            with work.appending("train") as note:
                note("done")
            found.append(records)
            raise KeyboardInterrupt

    found = []
    for key in ("one", "one", "two"):
        stopped(key)
    (tmp_path / "p/images.npy").unlink()
    stopped("two")
    assert found == [[], ["done"], [], []]


def test_an_error_of_the_data_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="bad"), journal(tmp_path / "p", "key"):
        raise DataError("bad")
    assert not (tmp_path / "p").exists()
