"""Tampering with committed numbers is found on any processor: all of them follow from the counts of the images."""

import csv
import io
import json
import shutil

import pytest

from segpipe.core import outputs
from segpipe.report import derived

from conftest import call, reseal, segpipe


def edited_json(path, change, *, seal=True):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    if seal:
        reseal(path.parent)


def raised(work):
    """A score of the table, by 3 points."""
    path = work / "results/tables/scores.csv"
    rows = list(csv.reader(io.StringIO(path.read_text())))
    rows[1][rows[0].index("miou_dataset")] = str(float(rows[1][rows[0].index("miou_dataset")]) + 0.03)
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")


def raised_and_sealed(work):
    raised(work)
    tables = work / "results/tables"
    held = json.loads((tables / outputs.MARKER).read_text())
    held["files"]["scores.csv"] = outputs.digest_file(tables / "scores.csv")
    del held["sha256"]
    (tables / outputs.MARKER).write_text(json.dumps(outputs.sealed(held)))


def swapped(work):
    """Two runs that change places."""
    one, other = work / "results/runs/ce-0", work / "results/runs/ce_jml-0"
    for name in ("metrics.json", "headline.json"):
        texts = (one / name).read_text(), (other / name).read_text()
        (one / name).write_text(texts[1])
        (other / name).write_text(texts[0])
    reseal(one)
    reseal(other)


def ece(work):
    edited_json(work / "results/runs/ce-0/metrics.json", lambda m: m["test"].update(ece_dataset=0.0001))


def headline(work):
    edited_json(work / "results/runs/ce-0/headline.json", lambda m: m["test"].update(acc=0.99))


def unsealed(work):
    edited_json(work / "results/runs/ce-0/metrics.json", lambda m: m["val"].update(acc=0.99), seal=False)


def pairs(work):
    path = work / "results/tables/pairs.csv"
    path.write_text(path.read_text().replace("miou_image", "miou_imagf", 1))


def page(work):
    path = work / "results/report.html"
    path.write_text(path.read_text().replace("Take ", "Take not ", 1))


def counts(work):
    path = work / "results/runs/ce-0/counts.csv"
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines[1:], 1):
        if line.startswith("test"):
            *head, tp, fp, fn = line.split(",")
            lines[i] = ",".join([*head, str(int(tp) + int(fn) // 3), fp, str(int(fn) - int(fn) // 3)])
    path.write_text("\n".join(lines) + "\n")
    reseal(path.parent)


def table_gone(work):
    (work / "results/tables/classes.md").unlink()


def table_more(work):
    (work / "results/tables/best.md").write_text("ours\n")


def crf(work):
    edited_json(
        work / "results/crf/ce-0/crf.json", lambda c: c["effect"]["test"]["differences"]["miou_image"].update(value=0.1)
    )


TAMPERED = [
    raised, raised_and_sealed, swapped, ece, headline, unsealed, pairs, page, counts, table_gone, table_more, crf,
]  # fmt: skip


def test_honest_results_follow_from_their_counts_without_data(finished, tmp_path):
    for name in ("params.yaml", "results"):
        source = finished / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    assert derived.differences(tmp_path) == []


@pytest.mark.parametrize("tamper", TAMPERED)
def test_a_tampered_number_is_found(finished, tmp_path, tamper):
    for name in ("params.yaml", "results"):
        source = finished / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    tamper(tmp_path)
    assert derived.differences(tmp_path) != []


def test_verify_refuses_committed_results_that_were_tampered_with(workspace):
    identity = {f"GIT_{who}_{what}": f"{who}@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    segpipe("verify", "--record", cwd=workspace)
    call("git", "init", "-q", cwd=workspace)
    call("git", "add", "-f", "params.yaml", "results", cwd=workspace)
    call("git", "commit", "-qm", "honest", cwd=workspace, env=identity)
    assert "agrees" in segpipe("verify", cwd=workspace).stdout
    raised_and_sealed(workspace)
    call("git", "commit", "-qam", "better", cwd=workspace, env=identity)
    done = segpipe("verify", cwd=workspace, check=False)
    assert done.returncode == 1
    assert "committed: results/tables/scores.csv does not follow from the results beside it" in done.stdout
