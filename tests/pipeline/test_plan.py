"""`segpipe plan` and `compare --csv`: without a pipeline, and with wrong input."""

import csv
import gzip
import json

import numpy as np
import pytest

from segpipe.core.errors import DataError
from segpipe.metrics import claimed, elsewhere, planning

from conftest import segpipe


def test_a_plan_from_a_papers_spread_says_seeds_images_and_what_could_be_shown(tmp_path):
    given = ["plan", "--spread", "1", "--image-spread", "2", "--groups", "40", "--seeds", "3", "--difference", "3"]
    told = segpipe(*given, cwd=tmp_path).stdout
    assert "Spread of a difference: 1.41 points between seeds, 2 between groups of images." in told
    assert "Now: 3 seeds, 40 groups, 1 pair at once. Shown in 8 of 10 experiments: a true difference of" in told
    found = json.loads(segpipe(*given, "--json", cwd=tmp_path).stdout)
    of, design = planning.Variances(0.02**2, 2 * 0.01**2), planning.Design(40, found["seeds"])
    assert planning.power(0.03, of, design) >= 0.8 > planning.power(0.03, of, planning.Design(40, found["seeds"] - 1))
    assert found["smallest_now"] == pytest.approx(100 * planning.smallest(of, planning.Design(40, 3), 0.8))
    assert found["groups_by_seeds"]["2"] is None


def test_more_seeds_images_or_difference_are_never_worse():
    of = planning.Variances(0.02**2, 0.01**2)
    base = planning.power(0.02, of, planning.Design(20, 4, 4, 6))
    for better in (planning.Design(40, 4, 4, 6), planning.Design(20, 6, 4, 6), planning.Design(20, 4, 4, 1)):
        assert planning.power(0.02, of, better) > base
    assert planning.power(0.03, of, planning.Design(20, 4, 4, 6)) > base
    assert planning.power(0.02, of, planning.Design(20, 1)) == 0
    assert planning.power(0.02, of, planning.Design(4, 5)) == 0
    assert planning.smallest(of, planning.Design(20, 1), 0.8) == np.inf


def test_a_plan_needs_results_that_vary(finished):
    done = segpipe("plan", cwd=finished, check=False)
    assert done.returncode == 2
    assert "these results do not say how much trainings vary" in done.stderr
    done = segpipe("plan", "cee", "ce_jml", cwd=finished, check=False)
    assert (done.returncode, "did you mean 'ce'" in done.stderr) == (2, True)


def test_a_papers_best_method_is_doubted_as_welch_would(tmp_path):
    from scipy import stats

    table = tmp_path / "paper.csv"
    table.write_text("method,mean,spread,n\nold,78.2,1.1,3\nnew,79.5,0.9,5\n")
    (found,) = claimed.doubts(claimed.read_claims(table))
    wanted = stats.ttest_ind_from_stats(79.5, 0.9, 5, 78.2, 1.1, 3, equal_var=False, alternative="greater").pvalue
    assert (found.best, found.other) == ("new", "old")
    assert found.probability == pytest.approx(wanted)
    told = segpipe("plan", "--claim", table, cwd=tmp_path).stdout
    assert told.startswith(f"new over old: +1.3, standard error 0.75; not better with probability {wanted:.2f}")
    fallen = json.loads(segpipe("plan", "--claim", table, "--metric", "hd95", "--json", cwd=tmp_path).stdout)
    assert (fallen[0]["best"], fallen[0]["probability"]) == ("old", pytest.approx(wanted))
    surer = json.loads(segpipe("plan", "--claim", table, "--correlation", "0.9", "--json", cwd=tmp_path).stdout)
    assert surer[0]["probability"] < found.probability


@pytest.mark.parametrize(
    "text, message",
    [
        ("method,mean\na,1\nb,2\n", "wanted two lines or more with columns method, mean, spread, n"),
        ("method,mean,spread,n\na,1,1,3\n", "wanted two lines or more"),
        ("method,mean,spread,n\na,1,1,3\nb,x,1,3\n", "line 3: mean and spread must be numbers"),
        ("method,mean,spread,n\na,1,1,3\nb,1,-1,3\n", "line 3: wanted a spread of 0 or more and n of 2"),
        ("method,mean,spread,n\na,1,1,1\nb,1,1,3\n", "line 2: wanted a spread of 0 or more and n of 2"),
    ],
)
def test_a_papers_table_that_cannot_be_read_is_one_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    done = segpipe("plan", "--claim", tmp_path / "t.csv", cwd=tmp_path, check=False)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (3, True, False)
    done = segpipe("plan", "--claim", tmp_path / "none.csv", cwd=tmp_path, check=False)
    assert (done.returncode, "is no file" in done.stderr) == (3, True)


def scores_table(path, runs=("a", "b"), seeds=(0, 1, 2), images=12, gap=0.1):
    """Dice of each image, b behind a by `gap`."""
    random = np.random.default_rng(0)
    of_image = random.uniform(0.6, 0.8, images)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["run", "seed", "image", "group", "dice", "hd95"])
        for place, run in enumerate(runs):
            for seed in seeds:
                dice = of_image - gap * place + random.normal(0, 0.01) + random.normal(0, 0.01, images)
                for i, value in enumerate(dice):
                    writer.writerow([run, seed, f"i{i}", f"p{i // 2}", f"{value:.4f}", f"{10 + value:.3f}"])
    return path


def test_anybodys_scores_of_images_are_compared(tmp_path):
    table = scores_table(tmp_path / "scores.csv")
    told = segpipe("compare", "--csv", table, cwd=tmp_path).stdout
    assert "dice (higher is better), these methods: a is better than b by " in told
    assert "hd95 (lower is better), these methods: b is better than a by " in told
    assert "6 groups of the table, 3 seeds each." in told
    rows = list(csv.DictReader(table.open()))
    mean = {run: np.mean([float(row["dice"]) for row in rows if row["run"] == run]) for run in "ab"}
    found = json.loads(segpipe("compare", "--csv", table, "--metric", "dice", "--json", cwd=tmp_path).stdout)
    assert found["differences"][0]["value"] == pytest.approx(mean["a"] - mean["b"])


def test_anybodys_counts_of_images_are_compared(tmp_path):
    lines = ["run,image,class,tp,fp,fn"]
    for run, right in (("a", 90), ("b", 40)):
        lines += [f"{run},i{i},{name},{right + i % 7},{i % 3},{100 - right - i % 7}" for i in range(9) for name in "xy"]
    (tmp_path / "counts.csv").write_text("\n".join(lines) + "\n")
    told = segpipe("compare", "--csv", tmp_path / "counts.csv", cwd=tmp_path).stdout
    assert "mIoU^D, these networks: a is better than b by " in told
    read = elsewhere.read_elsewhere(tmp_path / "counts.csv")
    assert read.runs["a"]["0"].counts.tp[1].tolist() == [91, 91]
    (tmp_path / "counts.csv.gz").write_bytes(gzip.compress((tmp_path / "counts.csv").read_bytes()))
    assert segpipe("compare", "--csv", tmp_path / "counts.csv.gz", cwd=tmp_path).stdout == told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"run,image\n", "is no CSV table"), (gzip.compress(b"run,image,class\n")[:-9], "is no CSV table"),
        (gzip.compress(b"x" * 3000), "unpacks to more than 2000 bytes"),
    ],
)  # fmt: skip
def test_a_packed_table_that_is_none_is_one_line(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(elsewhere, "MOST", 2000)
    (tmp_path / "counts.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        elsewhere.lines_of(tmp_path / "counts.csv.gz")


WRONG = {
    "a column is missing": (lambda t: t.replace("image", "picture", 1), "has no column 'image'"),
    "no number": (lambda t: t.replace("0.", "zero", 1), "wanted a number"),
    "infinite": (lambda t: t.replace(t.splitlines()[1].split(",")[4], "inf", 1), "wanted a number"),
    "an image twice": (lambda t: t + t.splitlines()[-1] + "\n", "image 'i11' stands there twice"),
    "an image is missing": (lambda t: "\n".join(t.splitlines()[:-1]), "lacks image 'i11', unlike run a"),
    "other groups": (lambda t: t.replace("a,0,i1,p0", "a,0,i1,p9"), "image 'i1' is in groups 'p9' and 'p0'"),
    "a gap on one side": (
        lambda t: t.replace(t.splitlines()[1].split(",")[4], "", 1),
        "dice of image 'i0' is empty for some runs",
    ),
    "a long line": (
        lambda t: t.replace(",p0,", ",p0,1,", 1),
        "is no CSV table in UTF-8: its lines have other than 6 values",
    ),
    "a column twice": (lambda t: t.replace("hd95", "dice", 1), "has two columns 'dice'"),
    "a class and a score": (lambda t: t.replace("hd95", "class", 1), "wanted all of class, tp, fp, fn"),
    "a number too large": (
        lambda t: t.replace(t.splitlines()[1].split(",")[4], "1e300", 1),
        "wanted a number up to 1e+15",
    ),
    "one run": (lambda t: "\n".join(line for line in t.splitlines() if not line.startswith("b,")), "found 1 run"),
    "nothing": (lambda _: "", "holds no line"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_table_that_cannot_be_compared_is_one_line(tmp_path, what):
    change, message = WRONG[what]
    table = scores_table(tmp_path / "scores.csv")
    table.write_text(change(table.read_text().replace("\r\n", "\n")))
    done = segpipe("compare", "--csv", table, cwd=tmp_path, check=False)
    assert done.returncode in (2, 3)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_counts_of_other_labels_are_refused_and_blank_lines_are_not(tmp_path):
    lines = ["run,image,class,tp,fp,fn", ""]
    lines += [
        f"{run},i{i},x,{right},1,{total - right}"
        for run, right, total in (("a", 9, 10), ("b", 36, 40))
        for i in range(6)
    ]
    (tmp_path / "counts.csv").write_text("\n".join(lines) + "\n\n")
    done = segpipe("compare", "--csv", tmp_path / "counts.csv", cwd=tmp_path, check=False)
    assert (done.returncode, "image 'i0' has another label for run b than before (run a)" in done.stderr) == (3, True)


def test_seeds_that_not_all_runs_have_are_said(tmp_path):
    table = scores_table(tmp_path / "scores.csv")
    table.write_text("\n".join(row for row in table.read_text().splitlines() if not row.startswith("b,2")) + "\n")
    told = segpipe("compare", "--csv", table, cwd=tmp_path).stdout
    assert "note: compared on the seeds that all runs have (0 1); left out: 2 of a" in told


def test_an_unknown_run_or_score_of_a_table_is_one_line(tmp_path):
    table = scores_table(tmp_path / "scores.csv")
    for options, message in (
        (["a", "c"], "has no run 'c'"),
        (["--metric", "iou"], "has no score 'iou'"),
        (["--lower", "iou"], "has no score 'iou'"),
    ):
        done = segpipe("compare", *options, "--csv", table, cwd=tmp_path, check=False)
        assert (done.returncode in (2, 3), message in done.stderr) == (True, True)


def test_a_column_is_turned_by_name_or_by_hand_and_keeps_its_unit(tmp_path):
    table = scores_table(tmp_path / "scores.csv")
    text = table.read_text().replace("hd95", "miou", 1)
    table.write_text(text)
    plain = segpipe("compare", "--csv", table, "--metric", "miou", cwd=tmp_path).stdout
    assert "miou (higher is better), these methods: a is better than b by 0.0" in plain  # no points of 100
    turned = segpipe("compare", "--csv", table, "--metric", "miou", "--lower", "miou", cwd=tmp_path).stdout
    assert "miou (lower is better), these methods: b is better than a by 0.0" in turned
    found = json.loads(segpipe("compare", "--csv", table, "--metric", "miou", "--json", cwd=tmp_path).stdout)
    low, high = found["intervals"]["a"]["csv:miou"]
    assert low < 10.7 < high  # not cut to 0..1


def test_runs_of_a_table_are_what_they_are_called_and_no_results_of_a_pipeline(tmp_path):
    table = scores_table(tmp_path / "scores.csv", runs=("unet/dice", "deeplab/dice"))
    assert (
        "dice (higher is better), these methods: unet/dice is better than deeplab/dice"
        in segpipe("compare", "--csv", table, cwd=tmp_path).stdout
    )


def test_plans_refuse_what_they_cannot_mean(tmp_path):
    for words, message in (
        (["ce", "--spread", "1"], "--spread stands for results"),
        (["--claim", "a.csv", "--spread", "1"], "--claim stands for results"),
        (["--spread", "inf"], "less than or equal to 1000"),
        (["--spread", "1", "--difference", "-2"], "greater than or equal to"),
    ):
        done = segpipe("plan", *words, cwd=tmp_path, check=False)
        assert (done.returncode, message in done.stderr.replace("\n", " ")) == (2, True), words
    told = segpipe("plan", "--spread", "1.2", cwd=tmp_path).stdout
    assert "(the chance of images is left out: give --image-spread)" in told
    assert "groups of images\n" not in told.split("left out")[1]
