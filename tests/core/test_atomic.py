"""Files appear whole: every write, sync and rename is made to fail once."""

import errno
import os
import subprocess
import sys
import textwrap

import pytest

from segpipe.core import files, outputs
from segpipe.core.errors import BusyError, DataError
from segpipe.training import weights


class Faults:
    """Fail the n-th call among the system's open-for-write, fsync and replace."""

    def __init__(self, monkeypatch, failing):
        self.count, self.failing = 0, failing
        for owner, name in ((os, "fsync"), (os, "replace")):
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, function):
        def call(*arguments, **options):
            self.count += 1
            if self.count == self.failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **options)

        return call


@pytest.mark.parametrize("failing", range(1, 4))
def test_a_file_is_old_or_new_whatever_fails(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    Faults(monkeypatch, failing)
    try:
        files.write_json(path, {"new": 2})
    except OSError:
        pass
    assert files.read_json(path) in ({"old": 1}, {"new": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("failing", range(1, 16))
def test_a_folder_is_old_or_new_whatever_fails(tmp_path, monkeypatch, failing):
    path = tmp_path / "out"

    def write(value):
        with outputs.folder(path, {"value": value}) as folder:
            files.write_text(folder / "one.txt", str(value))
            (folder / "two.txt").write_text(str(value))

    write(1)
    Faults(monkeypatch, failing)
    try:
        write(2)
    except OSError:
        pass
    found = outputs.description(path)
    assert found["value"] in (1, 2)
    assert {(path / n).read_text() for n in ("one.txt", "two.txt")} == {str(found["value"])}
    monkeypatch.undo()
    write(3)
    assert outputs.description(path)["value"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_a_folder_whose_block_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "out"
    with outputs.folder(path, {"value": 1}):
        pass
    with pytest.raises(RuntimeError), outputs.folder(path, {"value": 2}) as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert outputs.description(path)["value"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs resource limits of POSIX")
def test_a_full_disk_leaves_the_old_weights(tmp_path):
    path = tmp_path / "model.pt"
    script = f"""
        import resource, signal, sys, torch
        from pathlib import Path
        from segpipe.training import weights
        path = Path({str(path)!r})
        weights.save_checkpoint(path, {{"w": torch.zeros(10)}})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            weights.save_checkpoint(path, {{"w": torch.ones(100_000)}})
        except OSError as error:
            sys.exit(7)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == 7
    assert not weights.load_checkpoint(path)["w"].any()
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_flipped_bit_in_weights_is_noticed(tmp_path):
    import torch

    path = tmp_path / "state.pt"
    weights.save_checkpoint(path, {"w": torch.ones(100)})
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged"):
            weights.load_checkpoint(path)
    with outputs.folder(tmp_path / "run", {"config": "x", "command": "segpipe train --run ce"}) as folder:
        weights.save(folder / "model.pt", {"w": torch.ones(100)})
    path = tmp_path / "run/model.pt"
    assert weights.load(path)["w"].all()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged.*run `segpipe train --run ce`"):
        weights.load(path)


def test_weights_do_not_run_code(tmp_path):
    import pickle

    class Payload:
        def __reduce__(self):
            return (os.system, ("touch hacked",))

    path = tmp_path / "model.pt"
    content = pickle.dumps(Payload())
    path.write_bytes(content)
    with pytest.raises(DataError, match="plain tensors"):
        weights.load(path)
    assert not (tmp_path / "hacked").exists()


def test_equal_weights_have_equal_bytes_under_any_name(tmp_path):
    import torch

    for name in ("a.pt", "another.pt"):
        weights.save(tmp_path / name, {"w": torch.arange(5)})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another.pt").read_bytes()


def test_a_second_writer_is_told_who_writes(tmp_path):
    with files.lock(tmp_path / "x.lock", "data/x"):
        script = (
            "import sys; from pathlib import Path; from segpipe.core import files\n"
            f"with files.lock(Path({str(tmp_path / 'x.lock')!r}), 'data/x'): pass"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"data/x is being written by process {os.getpid()}" in done.stderr
    with files.lock(tmp_path / "x.lock", "data/x"):
        pass  # free again
    assert BusyError.exit_code == 5


def test_broken_json_and_arrays_are_one_error(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY broken")
    for read, name in ((files.read_json, "a.json"), (files.read_array, "a.npy")):
        with pytest.raises(DataError, match="a\\."):
            read(tmp_path / name)
        with pytest.raises(DataError, match="missing"):
            read(tmp_path / "none")
