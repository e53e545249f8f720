"""A small part of the campaign of kills and faults; `python tests/campaign/kills.py` runs it at any size."""

import kills
from flips import copied

from conftest import segpipe


def run(command, workspace, fault, moment):
    env = {"DVC_STAGE": "campaign", **({"SEGPIPE_TEST_FAULT": fault} if fault else {})}
    done = segpipe(*command, cwd=workspace, check=False, env=env, seconds=moment)
    return done.returncode, done.stderr


def test_the_same_command_after_a_kill_or_a_fault_gives_the_same_bytes(finished, tmp_path):
    work = copied(finished, tmp_path / "w")
    tries = list(kills.campaign(work, 9, 9, 5, run))
    assert [one for one in tries if one.problems] == []
    assert sum(one.struck for one in tries) > 6
