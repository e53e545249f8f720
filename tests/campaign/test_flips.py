"""A small part of the campaign of flips; `python tests/campaign/flips.py` runs it at any size."""

from flips import READERS, campaign, copied

from conftest import segpipe


def run(command, workspace):
    done = segpipe(*command, cwd=workspace, check=False)
    return done.returncode, done.stderr


def test_no_damaged_file_goes_unnoticed(finished, tmp_path):
    work = copied(finished, tmp_path / "w")
    found = list(campaign(work, len(READERS), 7, run))
    assert len(found) > len(READERS) / 2
    assert [damage for damage in found if damage.outcome in ("silent", "crash")] == []
    assert sum(damage.outcome == "told" for damage in found) > len(found) / 2
