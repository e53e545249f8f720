"""Archives: every kind by its content; what would leave the folder, or fill the disk, is refused."""

import gzip
import io
import os
import tarfile
import zipfile

import pytest

from segpipe.core.errors import DataError
from segpipe.data import archives
from segpipe.data.archives import Caps, kind_of, unpack

FILES = {"a/one.txt": b"one", "a/b/two.bin": bytes(range(256)) * 100, "three": b""}


def zipped(path, files=FILES, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path, mode, files=FILES):
    with tarfile.open(path, f"w:{mode}") as archive:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.bin"])
@pytest.mark.parametrize("kind", ["zip", "", "gz", "bz2", "xz"])
def test_the_content_decides_and_not_the_name(tmp_path, name, kind):
    path = zipped(tmp_path / name) if kind == "zip" else tarred(tmp_path / name, kind)
    assert kind_of(path) == ("zip" if kind == "zip" else "tar")
    assert unpack(path, tmp_path / "to") == len(FILES)
    assert below(tmp_path / "to") == FILES


def test_a_single_file_in_gzip(tmp_path):
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(gzip.compress(b"voxels"))
    assert unpack(path, tmp_path / "to") == 1
    assert below(tmp_path / "to") == {"mask.nii": b"voxels"}


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "..\\out", "C:/out", "C:\\out"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_name_leads_out_of_the_folder(tmp_path, name, kind):
    files = {"fine": b"", name: b"evil"}
    path = zipped(tmp_path / "x", files) if kind == "zip" else tarred(tmp_path / "x", "gz", files)
    with pytest.raises(DataError, match="leads out of the folder"):
        unpack(path, tmp_path / "inner/to")
    assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "x", "w") as archive:
        info = tarfile.TarInfo("evil")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match="holds evil, a link or device"):
        unpack(tmp_path / "x", tmp_path / "to")


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        info = zipfile.ZipInfo("evil")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="holds evil, a link or device"):
        unpack(tmp_path / "x", tmp_path / "to")


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        (Caps(bytes=1000), "more than 1000 bytes"),
        (Caps(files=2), "more than 2 files"),
        (Caps(ratio=10, spared=1000), "refused as a bomb"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_a_bomb_is_stopped_while_it_unpacks(tmp_path, caps, words, kind):
    files = {"a": bytes(10**6), "b": b"", "c": b""}
    path = zipped(tmp_path / "x", files) if kind == "zip" else tarred(tmp_path / "x", kind, files)
    with pytest.raises(DataError, match=words):
        unpack(path, tmp_path / "to", caps)
    assert sum(len(content) for content in below(tmp_path / "to").values()) <= 2 * 2**20


def test_even_label_maps_are_no_bomb(tmp_path):
    assert unpack(zipped(tmp_path / "x", {"labels": bytes(10**7)}), tmp_path / "to") == 1


@pytest.mark.parametrize("names", [("A.png", "a.png"), ("caf\u00e9.png", "cafe\u0301.png")])
def test_names_that_some_file_systems_do_not_tell_apart(tmp_path, names):
    with pytest.raises(DataError, match="twice, or names that differ in case alone"):
        unpack(zipped(tmp_path / "x", dict.fromkeys(names, b"")), tmp_path / "to")


@pytest.mark.parametrize("kind", ["zip", "", "gz", "bz2", "xz"])
def test_a_damaged_archive_is_one_line(tmp_path, kind):
    random = os.urandom(50_000)
    path = zipped(tmp_path / "x", {"a": random}) if kind == "zip" else tarred(tmp_path / "x", kind, {"a": random})
    whole = path.read_bytes()
    path.write_bytes(whole[:20_000])
    with pytest.raises(DataError, match=r"damaged archive|neither zip nor tar"):
        unpack(path, tmp_path / "to")
    flipped = bytearray(whole)
    flipped[25_000] ^= 255
    path.write_bytes(bytes(flipped))
    if kind:  # a plain tar has no sum of its content
        with pytest.raises(DataError, match=r"damaged archive|neither zip nor tar"):
            unpack(path, tmp_path / "to2")


def test_what_is_no_archive(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"<html>please log in</html>")
    with pytest.raises(DataError, match=r"x.zip is neither zip nor tar nor gzip; delete it and download it again"):
        unpack(tmp_path / "x.zip", tmp_path / "to")


def test_an_encrypted_zip_says_what_to_do(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x")
    real = zipfile.ZipFile.infolist

    def locked(self):
        found = real(self)
        for info in found:
            info.flag_bits |= 1
        return found

    monkeypatch.setattr(archives.zipfile.ZipFile, "infolist", locked)
    with pytest.raises(DataError, match="is encrypted; unpack it by hand"):
        unpack(path, tmp_path / "to")


def test_a_tar_that_ends_too_early_or_breaks_inside_is_damaged(tmp_path):
    """tarfile itself takes both for the end of the archive."""
    whole = tarred(tmp_path / "x", "", {"a": b"1", "b": b"2", "c": b"3"}).read_bytes()
    second = 3 * 512  # the folder's header, a's header and content
    flipped = bytearray(whole)
    flipped[second + 10] ^= 1
    for content in (whole[:second], bytes(flipped)):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(archives.DamagedError, match="damaged archive"):
            unpack(tmp_path / "x", tmp_path / "to")


def test_folders_count_and_headers_are_bounded(tmp_path):
    with tarfile.open(tmp_path / "x", "w") as archive:
        for i in range(5):
            info = tarfile.TarInfo(f"folder{i}")
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
    with pytest.raises(DataError, match="more than 2 files"):
        unpack(tmp_path / "x", tmp_path / "to", Caps(files=2))
    with tarfile.open(tmp_path / "y", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"comment": "x" * 2**23}
        archive.addfile(info)
    with pytest.raises(DataError, match="a header of"):
        unpack(tmp_path / "y", tmp_path / "to")


def test_a_gzip_that_is_cut_in_its_first_block_is_damaged(tmp_path):
    path = tarred(tmp_path / "x.tgz", "gz", {"a": os.urandom(50_000)})
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(archives.DamagedError):
        unpack(path, tmp_path / "to")
