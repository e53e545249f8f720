"""Every file of a whole folder is what was written, or said not to be."""

import json
import os
from contextlib import suppress

import numpy as np
import pytest

from segpipe.core import files, outputs
from segpipe.core.errors import DataError
from segpipe.data.maps import Maps, write_maps
from segpipe.data.packed import Packed


def made(path):
    with outputs.folder(path, {"config": "c", "command": "segpipe predict --run ce"}) as folder:
        files.write_json(folder / "a.json", {"x": 1})
        np.save(folder / "b.npy", np.arange(1000, dtype=np.float32), allow_pickle=False)
        files.write_bytes(folder / "c.npz", files.npz_bytes({"z": np.arange(3)}))
        write_maps(folder / "d", [Packed.labels(np.zeros((2, 3), np.uint8))])
        (folder / "in").mkdir()
        files.write_text(folder / "in/e.csv", "a,b\n1,2\n")
    return path


READ = {
    "a.json": files.read_json, "b.npy": files.read_array, "c.npz": files.read_arrays, "in/e.csv": files.read_csv,
    "d.bin": lambda path: Maps(path.with_suffix("")), "d.json": lambda path: Maps(path.with_suffix("")),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_any_flip_or_cut_is_told_with_the_file_and_the_command_that_makes_it_anew(tmp_path, name):
    path = made(tmp_path / "out") / name
    READ[name](path)
    whole = path.read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 40))
    for broken in [whole[:k] + bytes([whole[k] ^ 16]) + whole[k + 1 :] for k in places] + [
        whole[:-1],
        b"",
        whole + b" ",
    ]:
        path.write_bytes(broken)
        with pytest.raises(
            DataError, match=r"is damaged: it has changed since.*run `segpipe predict --run ce`"
        ) as told:
            READ[name](path)
        assert str(path) in str(told.value)
    path.write_bytes(whole)
    READ[name](path)
    path.unlink()
    with pytest.raises(DataError, match="is missing; run `segpipe predict --run ce`"):
        READ[name](path)


def test_any_flip_or_cut_of_the_marker_is_told(tmp_path):
    path = made(tmp_path / "out")
    whole = (path / outputs.MARKER).read_bytes()
    for k in range(0, len(whole), 3):
        (path / outputs.MARKER).write_bytes(whole[:k] + bytes([whole[k] ^ 2]) + whole[k + 1 :])
        os.utime(path / outputs.MARKER, ns=(k, k))
        with suppress(DataError):
            outputs.description(path)
            # What is between the values means nothing.
            assert json.loads((path / outputs.MARKER).read_bytes()) == json.loads(whole)


def test_a_file_that_was_added_later_is_none_of_the_folders(tmp_path):
    path = made(tmp_path / "out")
    (path / "late.json").write_text("{}")
    with pytest.raises(DataError, match="is damaged"):
        files.read_json(path / "late.json")


def test_what_others_call_complete_is_theirs(tmp_path):
    (tmp_path / "complete.json").write_text('{"done": true}')
    (tmp_path / "a.json").write_text("3")
    assert files.read_json(tmp_path / "a.json") == 3
    assert outputs.description(tmp_path) is None


def test_a_file_is_read_for_its_digest_once(tmp_path, monkeypatch):
    path, count = made(tmp_path / "out") / "b.npy", []
    plain = outputs.digest_file
    monkeypatch.setattr(outputs, "digest_file", lambda path: count.append(path) or plain(path))
    for _ in range(5):
        files.read_array(path)
    assert len(count) == 1
    os.utime(path, ns=(5, 5))
    files.read_array(path)
    assert len(count) == 2


def test_a_sealed_value_is_itself_or_damaged(tmp_path):
    value = {"config": "x", "command": "segpipe stats", "weights": [1.5, 2.0]}
    seal = outputs.sealed(value)
    assert outputs.unsealed(seal, tmp_path) == value
    for other in ({**seal, "weights": [1.5, 2.1]}, {**seal, "sha256": "0"}, value, [], None):
        with pytest.raises(DataError, match="is damaged"):
            outputs.unsealed(other, tmp_path)
    with pytest.raises(DataError, match="run `segpipe stats`"):
        outputs.unsealed({**seal, "config": "y"}, tmp_path)


def test_a_file_deep_inside_is_checked_too(tmp_path):
    deep = "a/b/c/d/e/f/x.json"
    with outputs.folder(tmp_path / "out", {"config": "c"}) as folder:
        files.write_json(folder / deep, 1)
    (tmp_path / "out" / deep).write_text("2")
    with pytest.raises(DataError, match="is damaged"):
        files.read_json(tmp_path / "out" / deep)
