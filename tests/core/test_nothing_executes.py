"""Nothing that is read is ever executed: no pickle in the package, no decoder that starts a program."""

import ast
import base64
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_layers import PACKAGE, imports, parsed

from segpipe.core.errors import DataError
from segpipe.data.decode import FORMATS

from conftest import segpipe

# Modules that execute what they read, and where a module may be used that starts programs or imports by name.
NEVER = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "code", "pty", "pdb"}
ONLY = {
    "subprocess": {"cli/init.py", "cli/repro.py", "cli/verify.py"},
    "importlib": {
        *(
            "core/registry.py",
            "core/instructions.py",
            "cli/doctor.py",
            "metrics/__init__.py",
            "losses/contract/loading.py",
        ),
        *(
            "config/depends.py",
            "data/card.py",
            "cli/init.py",
            "cli/propose.py",
            "report/agreement.py",
            "models/external.py",
        ),
    },
}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path", "joblib.load"}


def called(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


def test_the_package_imports_nothing_that_executes_what_it_reads():
    for file, tree in parsed():
        path = file.relative_to(PACKAGE).as_posix()
        for name in imports(tree):
            assert name.split(".")[0] not in NEVER, (path, name)
            where = ONLY.get(name.split(".")[0])
            assert where is None or path in where, (path, name)


def test_readers_are_called_in_the_form_that_executes_nothing():
    for file, tree in parsed():
        path = file.relative_to(PACKAGE).as_posix()
        for name, arguments in called(tree):
            assert name not in CALLS, (path, name)
            assert "shell" not in arguments, (path, name)
            if name in ("torch.load", "load_state_dict_from_url"):
                assert arguments.get("weights_only") == "True", path
            if name in ("np.load", "np.save", "np.lib.format.open_memmap"):
                assert name.endswith("open_memmap") or arguments.get("allow_pickle") == "False", (path, name)
            if name == "Image.open":
                assert "formats" in arguments, path
            if name.endswith(("YAML", "yaml.load")):
                assert arguments.get("typ", "'safe'") in ("'safe'", "'rt'"), path


def eps(body=b"(touched) (w) file closefile showpage"):
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n" + body + b"\n%%EOF\n"


def corpus():
    """(name, content) of files that are no pictures of ours: what Pillow, OpenCV or a shell would wake up for."""
    yield "eps", eps()
    yield "eps-with-preview", struct.pack("<IIIIIIIH", 0xC6D3D0C5, 32, len(eps()), 0, 0, 0, 0, 0) + b"\0\0" + eps()
    yield "ps", b"%!PS\n(touched) (w) file closefile\n"
    yield "pdf", b"%PDF-1.4\n1 0 obj<</OpenAction<</S/Launch/F(touched)>>>>endobj\ntrailer<<>>\n%%EOF"
    yield (
        "wmf",
        b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhHIH", 0, 0, 40, 40, 96, 0, 0) + b"\x01\x00\x09\x00" + bytes(32),
    )
    yield "emf", struct.pack("<II", 1, 108) + bytes(32) + b" EMF" + bytes(64)
    yield "fits", b"SIMPLE  =                    T".ljust(80) + b"BITPIX  = 8".ljust(80) + b"END".ljust(2720)
    yield "pcd", bytes(2048) + b"PCD_" + bytes(4096)
    yield "svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    yield "mvg", b"push graphic-context\nfill 'url(https://x\"|touch touched\")'\n"
    yield "psd", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(20)
    yield "icns", b"icns" + struct.pack(">I", 16) + b"ic07" + struct.pack(">I", 8)
    yield "xpm", b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c #000000",\n"a"};\n'
    yield "xbm", b"#define x_width 8\n#define x_height 1\nstatic char x_bits[] = {0x00};\n"
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + bytes(64)
    yield "grib", b"GRIB" + bytes(8) + b"7777"
    yield "bufr", b"BUFR" + bytes(64)
    yield "fli", struct.pack("<IHHHHHHI", 128, 0xAF11, 1, 4, 4, 8, 0, 0) + bytes(108)
    yield "gbr", struct.pack(">IIIII4sI", 28, 2, 4, 4, 1, b"GIMP", 10) + bytes(16)
    yield "dcx", struct.pack("<I", 0x3ADE68B1) + bytes(64)
    yield "mic", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)
    yield "jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(32)
    yield "dds", b"DDS " + struct.pack("<I", 124) + bytes(120)
    yield "ico", b"\0\0\1\0\1\0" + bytes(16)
    yield "tga", bytes(2) + b"\2" + bytes(9) + struct.pack("<HH", 4, 4) + b"\x18\0" + bytes(48)
    yield "iptc", b"\x1c\x02\x78\x00\x04test"
    yield "mpeg", b"\0\0\1\xb3" + bytes(16)
    yield "exr", struct.pack("<I", 20000630) + bytes(64)
    yield "hdr", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n" + bytes(4)
    yield "shell", b"#!/bin/sh\ntouch touched\n"
    yield "pickle", base64.b64decode("Y3Bvc2l4CnN5c3RlbQooUyd0b3VjaCB0b3VjaGVkJwp0Ui4=")  # os.system("touch touched")
    yield (
        "npy-with-a-pickle",
        b"\x93NUMPY\1\0\x76\0{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(128) + b"\n",
    )
    yield "zip", b"PK\3\4" + bytes(64)


def saved(kind):
    """A picture in one of Pillow's other formats, or None where it cannot write it."""
    stream = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that Pillow gives up
            Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("RGB").save(stream, kind)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError):
        return None
    return stream.getvalue()


WATCH = """
import sys
import warnings
import zlib
from pathlib import Path
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in (
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn",
    "pickle.find_class", "ctypes.dlopen",
) else None)
from segpipe.core.errors import DataError
from segpipe.data import geotiff, masks
from segpipe.data.files import read_colors, read_grey, read_ids, read_image
started.clear()
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in (read_image, read_ids, read_colors, read_grey, geotiff.read_bands, lambda p: masks._mat(p, "x")):
        try:
            read(path)
        except DataError as error:
            assert str(path) in str(error), error
        else:
            print("read", path.name)
print("started", *started)
"""


def test_hostile_files_under_names_of_images_are_refused_and_start_no_process(tmp_path):
    Image.init()
    others = {kind.lower(): saved(kind) for kind in Image.SAVE if kind not in FORMATS}
    wanted = {**{name: content for name, content in others.items() if content}, **dict(corpus())}
    wanted.pop("mpo", None)  # a JPEG with further views: its first is the picture
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in wanted.items():
        for suffix in ("png", "tif", "jpg"):
            (folder / f"{name}.{suffix}").write_bytes(content)
    assert len(wanted) >= 40
    done = subprocess.run(
        [sys.executable, "-c", WATCH, folder], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["started"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_dataset_with_a_hostile_image_is_refused_by_the_command(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for k in range(8):
        Image.fromarray(np.full((40, 48, 3), 30 * k, np.uint8)).save(tmp_path / f"images/a{k}.png")
        Image.fromarray(np.full((40, 48), k % 2, np.uint8)).save(tmp_path / f"masks/a{k}.png")
    (tmp_path / "images/a3.png").write_bytes(eps())
    done = segpipe(
        "init", "own", "--images", tmp_path / "images", "--masks", tmp_path / "masks", cwd=tmp_path, check=False
    )
    assert done.returncode == 3
    assert f"a3.png is not a readable image, wanted one of {', '.join(FORMATS)}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "touched").exists()


def test_a_planted_journal_is_never_executed_and_prepare_goes_on(tmp_path):
    segpipe("init", "scenes", "--profile", "tiny", "--into", "w", "--set", "download.limit=2", cwd=tmp_path)
    work = tmp_path / "w"
    segpipe("download", cwd=work)
    segpipe("prepare", cwd=work)
    wanted = {path.name: path.read_bytes() for path in (work / "data/prepare").iterdir()}
    key = KEY.format(marker=(work / "data/download/scenes/complete.json").stat().st_mtime_ns)
    for content in (dict(corpus())["pickle"], b"00000000 {}\n", b"%08x [1, 2]\n" % zlib.crc32(b"[1, 2]\n"), b"\xff\n"):
        folder = work / ".segpipe/checkpoints/prepare"
        folder.mkdir(parents=True)
        digest = subprocess.run([sys.executable, "-c", key], cwd=work, capture_output=True, text=True, check=True)
        (folder / "key.json").write_text(digest.stdout)
        (folder / "train.journal").write_bytes(content)
        for name, shape in (
            ("train_images", (2, 64, 80, 3)),
            ("train_labels", (2, 64, 80)),
            ("train_annotators", (2, 3, 64, 80)),
        ):
            np.save(folder / f"{name}.npy", np.zeros(shape, np.uint8))
        for name in wanted:
            (work / "data/prepare" / name).unlink()
        done = segpipe("prepare", cwd=work)
        # Only a record with its checksum is looked into: that it was shows that the journal is taken for segpipe's own.
        assert ("is damaged; starting anew" in done.stdout) == (b"[1, 2]" in content)
        assert {path.name: path.read_bytes() for path in (work / "data/prepare").iterdir()} == wanted
        assert not Path(work / "touched").exists()
        assert not os.path.exists(folder)


KEY = """
import json
from segpipe import __version__
from segpipe.config.context import start
print(json.dumps(f"{{__version__}} {{start().digest('prepare')}} {marker}"))
"""


def test_an_archive_of_objects_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([object()]), allow_pickle=True)
    from segpipe.core.files import read_array

    with pytest.raises(DataError, match="not a readable array"):
        read_array(tmp_path / "x.npy")
