"""`segpipe table`: the numbers of the results, in three forms, with the best and its ties."""

import csv
import io
import json
import statistics

import pytest

from segpipe.report.benchmark import TABLES

from conftest import segpipe_here


def of_results(work, run, metric, seeds=(0,)):
    found = [json.loads((work / f"results/runs/{run}-{s}/metrics.json").read_text())["test"][metric] for s in seeds]
    return statistics.fmean(found)


def test_the_numbers_are_those_of_the_results(finished):
    text = segpipe_here("table", "losses", "--form", "csv", cwd=finished).stdout
    rows = {row["what"]: row for row in csv.DictReader(io.StringIO(text))}
    for run in ("ce", "ce_jml"):
        for metric in ("acc", "miou_dataset", "miou_class", "ece_dataset"):
            assert float(rows[run][metric]) == pytest.approx(of_results(finished, run, metric))
            assert float(rows[run][f"{metric}_low"]) <= float(rows[run][metric]) <= float(rows[run][f"{metric}_high"])
    for metric in ("acc", "miou_dataset"):
        assert [row[f"{metric}_standing"] for row in rows.values()].count("best") == 1


@pytest.mark.parametrize("name", [name for name in TABLES if name])
def test_every_table_has_three_forms_with_one_row_a_result(finished, name):
    forms = {form: segpipe_here("table", name, "--form", form, cwd=finished).stdout for form in ("md", "csv", "tex")}
    results = len(forms["csv"].splitlines()) - 1
    assert forms["md"].count("\n| ") == results + 1
    assert forms["tex"].count(r"\\") == results + 1
    assert "**" in forms["md"]
    assert r"\textbf{" in forms["tex"]


def test_columns_runs_and_classes_may_be_chosen(finished, tmp_path):
    out = tmp_path / "t.md"
    done = segpipe_here(
        "table", "--column", "mdice_image", "--column", "class:road", "--only", "ce*", "--out", out, cwd=finished
    )
    assert done.stdout.strip() == str(out)
    head, _, *rows = out.read_text().splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["what", "mDice^I ↑", "IoU^D road"]
    assert all(row.startswith("| ce") for row in rows if row.startswith("|"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("loss",), "unknown table 'loss'"),
        (("--column", "class:raod"), "unknown class 'raod'; did you mean 'road'"),
        (("--column", "miou"), "no result has the score 'miou'"),
        (("--only", "x*"), "--only x*: no result is called so"),
        (("losses", "--column", "acc"), "not both"),
    ],
)
def test_a_wrong_option_is_one_line(finished, arguments, words):
    done = segpipe_here("table", *arguments, cwd=finished, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
