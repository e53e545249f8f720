"""Ensembles through the command line: members of every kind, no leak, a cluster whose worker dies, wrong input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from dask.distributed import Client, LocalCluster
from PIL import Image
from test_trained import fails  # noqa: F401

from segpipe.config import params, yaml
from segpipe.core.errors import ConfigError
from segpipe.core.parallel import Pool
from segpipe.data.geometry import softmax
from segpipe.data.maps import Maps
from segpipe.metrics import Counts, summarize

from conftest import call, reseal, segpipe, tracked


def replaced(text, ensembles):
    """A params.yaml with other ensembles."""
    start, end = text.index("\nensemble:"), text.index("\nevaluate:\n")
    return text[:start] + f"\nensemble: {json.dumps(ensembles)}\n" + text[end:]


def with_ensembles(folder, ensembles, **changes):
    """The workspace with other ensembles."""
    path = folder / "params.yaml"
    path.write_text(yaml.edit(replaced(path.read_text(), ensembles), changes))
    segpipe("dag", "--write", cwd=folder)
    return folder


def test_the_ensembles_of_a_workspace_are_judged_and_shown(finished):
    page = (finished / "results/report.html").read_text()
    assert "Ensembles" in page
    table = (finished / "results/tables/ensembles.md").read_text()
    for name in ("average", "plurality", "stacking"):
        found = json.loads((finished / f"results/ensembles/{name}/members.json").read_text())
        assert f"| {name} " in table
        counts = np.load(finished / f"data/ensemble/{name}/members.npz")
        for m, member in enumerate(found["members"]):
            own = Counts(*(counts[part][:, m] for part in ("tp", "fp", "fn", "valid", "rejected")))
            run = json.loads((finished / f"results/runs/{member['key']}/headline.json").read_text())
            assert member["test"]["miou_dataset"] == summarize(own)["miou_dataset"] == run["test"]["miou_dataset"]
        best = max(found["members"], key=lambda member: member["val_miou_dataset"])
        assert found["best_member"] == best["key"]
        ensemble = json.loads((finished / f"results/ensembles/{name}/headline.json").read_text())
        gain = ensemble["test"]["miou_dataset"] - best["test"]["miou_dataset"]
        assert found["against_best_member"]["miou_dataset"]["value"] == pytest.approx(gain)
        if found["first_members"]:
            assert found["first_members"][0]["miou_dataset"] == best["test"]["miou_dataset"]
            assert found["first_members"][-1]["miou_dataset"] == ensemble["test"]["miou_dataset"]


def test_members_are_looks_and_crf_outputs_too(workspace):
    methods = {
        "looks": {"method": "average", "members": ["ce-*-look*"]},
        "refined": {"method": "weighted(by=greedy, steps=3)", "members": ["ce-*-crf", "ce_jml-*"]},
        "voted": {"method": "majority(weights=[3, 2, 2])", "members": ["*", "ce-*-crf"]},
    }
    folder = with_ensembles(workspace, methods, **{"predict.flips": True})
    stages = yaml.load((folder / "dvc.yaml").read_text())["stages"]
    assert "data/crf/ce-0" in stages["ensemble_refined"]["deps"]
    assert "data/predict/ce-0-look2" in stages["ensemble"]["deps"]
    call("dvc", "repro", "--glob", "evaluate_crf@*", "evaluate_ensemble*", cwd=folder)
    each = [Maps(folder / f"data/predict/ce-0{look}/test_logits") for look in ("", "-look1", "-look2")]
    for mean, *looks in zip(*each, strict=True):
        np.testing.assert_allclose(softmax(mean), sum(softmax(look) for look in looks) / 2, atol=0.02)
    found = {name: json.loads((folder / f"results/ensembles/{name}/members.json").read_text()) for name in methods}
    assert [member["key"] for member in found["refined"]["members"]] == ["ce_jml-0", "ce-0-crf"]
    refined = json.loads((folder / "results/crf/ce-0/headline.json").read_text())
    assert found["refined"]["members"][1]["test"]["miou_dataset"] == pytest.approx(
        refined["test"]["miou_dataset"], abs=1e-3
    )
    whole = json.loads((folder / "results/ensembles/voted/metrics.json").read_text())["test"]
    assert whole["coverage"] <= 1
    assert found["looks"]["multiply_adds"]["members"] == 2 * found["looks"]["multiply_adds"]["best_member"]


def test_out_of_fold_stacking_sees_no_image_twice(folded, tmp_path):
    shutil.copytree(folded, tmp_path / "w", symlinks=True)
    folder = with_ensembles(tmp_path / "w", {"stacked": {"method": "stacking(folds=true)", "members": ["*"]}})
    stages = yaml.load((folder / "dvc.yaml").read_text())["stages"]
    assert "data/predict/ce-0-fold1" in stages["ensemble"]["deps"]
    call("dvc", "repro", "ensemble@stacked", cwd=folder)
    found = json.loads((folder / "data/ensemble/stacked/ensemble.json").read_text())
    assert (found["fitted_on"], found["learned"]["pixels"] > 0) == ("train", True)
    # A network that was trained on the fold which it predicts is refused, with the ids.
    ids = folder / "data/predict/ce-0-fold0/train_ids.json"
    rows = json.loads((folder / "data/predict/ce-0-fold0/rows.json").read_text())
    index = json.loads((folder / "data/prepare/index.json").read_text())
    seen = index["splits"]["train"][rows[0]]["id"]
    ids.write_text(json.dumps({"ids": [seen]}))
    reseal(ids.parent)
    done = segpipe("ensemble", "--method", "stacked", cwd=folder, check=False)
    assert done.returncode == 3
    assert f"was trained on {seen}, which would also fit the ensemble" in done.stderr


def test_a_fit_on_images_of_the_training_is_refused(workspace):
    index = json.loads((workspace / "data/prepare/index.json").read_text())
    seen = index["splits"]["val"][0]["id"]
    (workspace / "data/predict/ce-0/train_ids.json").write_text(json.dumps({"ids": [seen]}))
    reseal(workspace / "data/predict/ce-0")
    done = segpipe("ensemble", "--method", "average", cwd=workspace, check=False)
    assert done.returncode == 3
    assert f"trained on {seen}, which would also choose and fit the ensemble" in done.stderr


@pytest.mark.parametrize(
    "change, message",
    [
        ({"classes": ["sky", "sea"]}, "knows the classes sky, sea"),
        ({"splits": {"val": "0" * 64, "test": "0" * 64}}, "was predicted on other val images"),
    ],
)
def test_members_of_other_classes_or_images_are_refused(workspace, change, message):
    path = workspace / "data/predict/ce-0/made.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    reseal(path.parent)
    done = segpipe("ensemble", "--method", "average", cwd=workspace, check=False)
    assert done.returncode == 3
    assert message in done.stderr


@pytest.mark.parametrize(
    "ensembles, message",
    [
        ({"a": {"method": "average", "members": []}}, "at least 1 item"),
        ({"a": {"method": "average", "members": ["unet-*"]}}, "'unet-*' matches no member"),
        ({"a": {"method": "average", "members": ["ce-*-snap*"]}}, "matches no member"),
        ({"a": {"method": "mean"}}, "unknown ensemble method 'mean'"),
        ({"a": {"method": "stacking(learner=logistic, pixels=many)"}}, "wanted a whole number"),
        ({"a": {"method": "stacking(folds=true)"}}, "add its run to folds.runs"),
    ],
)
def test_wrong_ensembles_are_one_line_of_params(ensembles, message):
    with pytest.raises(ConfigError) as caught:
        params.parse(replaced(params.read_text(), ensembles))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "method, message",
    [
        ("stacking", "ensemble.a: wanted at least 2 members, found 1"),
        ("average(weights=[1, 2])", "ensemble.a: weights: wanted 1 weights"),
        ("majority(weights=[0])", "not all 0"),
        ("weighted(by=luck)", "wanted nll, greedy or score"),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused_before_anything_runs(workspace, fails, method, message):  # noqa: F811
    with_ensembles(workspace, {"a": {"method": "average", "members": ["ce-*"]}})
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(yaml.edit(text, {"ensemble.a.method": method}))
    assert message in fails(2, "dag", "--write", cwd=workspace)
    assert message.removeprefix("ensemble.a: ") in fails(2, "ensemble", "--method", "a", cwd=workspace)


def test_infer_gives_what_the_stage_gave(workspace, fails):  # noqa: F811
    index = json.loads((workspace / "data/prepare/index.json").read_text())
    rows = index["splits"]["test"][:3]
    images = [f"data/download/scenes/{row['image']}" for row in rows]
    for name in ("average", "plurality", "stacking"):
        segpipe("infer", *images, "--ensemble", name, "--out", f"out/{name}", cwd=workspace)
        stored = Maps(workspace / f"data/ensemble/{name}/test_labels")
        for i, row in enumerate(rows):
            stem = row["image"].rsplit("/", 1)[-1].rsplit(".", 1)[0]
            found = np.array(Image.open(workspace / f"out/{name}/{stem}.png"))
            assert (found != stored[i]).mean() < 1e-3  # a batch of one image may end in other last bits
    image = images[0]
    assert "--probs: this ensemble votes" in fails(
        2, "infer", image, "--ensemble", "plurality", "--probs", cwd=workspace
    )
    assert "no definition at" in fails(3, "infer", image, "--ensemble", "nothing", cwd=workspace)
    assert "give --model RUN or --ensemble NAME" in fails(2, "infer", image, cwd=workspace)
    for looked in (["--flips"], ["--overlap", "0.2"], ["--seed", "1"]):
        assert "look as they did" in fails(2, "infer", image, "--ensemble", "average", *looked, cwd=workspace)
    assert "give --window" in fails(2, "infer", image, "--model", "ce", "--overlap", "0.2", cwd=workspace)
    weights = workspace / "data/train/ce-0/model.pt"
    shutil.copy(workspace / "data/train/ce_jml-0/model.pt", weights.with_suffix(".new"))
    os.replace(weights.with_suffix(".new"), weights)
    assert "not what the ensemble was made with" in fails(3, "infer", image, "--ensemble", "average", cwd=workspace)
    (workspace / "data/ensemble/stacking/arrays.npz").unlink()
    assert "arrays.npz is missing or damaged" in fails(3, "infer", image, "--ensemble", "stacking", cwd=workspace)


def test_any_number_of_jobs_gives_the_same_bytes(workspace):
    before = tracked(workspace)
    for jobs in (1, 3):
        segpipe("ensemble", "--method", "stacking", "--jobs", jobs, cwd=workspace)
        segpipe("evaluate", "--ensemble", "stacking", "--jobs", jobs, cwd=workspace)
        assert tracked(workspace) == before


def slow(number, folder):
    """A task that leaves a trace and takes a while."""
    (folder / f"{number}-{os.getpid()}").touch()
    time.sleep(0.3)
    return number * number


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as running:
        yield running


def test_stages_run_on_a_cluster_with_the_same_bytes(workspace, cluster):
    before = tracked(workspace)
    for words in (
        ("predict", "--run", "ce"),
        ("crf", "--run", "ce"),
        ("ensemble", "--method", "stacking"),
        ("evaluate", "--ensemble", "stacking"),
    ):
        segpipe(*words, "--scheduler", cluster.scheduler_address, cwd=workspace)
    assert tracked(workspace) == before


def test_a_stage_survives_a_worker_that_is_killed_during_the_run(workspace, cluster):
    before = tracked(workspace)
    words = [sys.executable, "-m", "segpipe", "evaluate", "--run", "ce", "--scheduler", cluster.scheduler_address]
    with Client(cluster.scheduler_address) as client:
        running = subprocess.Popen(words, cwd=workspace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            assert running.poll() is None, "the stage ended before its worker could be killed"
            time.sleep(0.01)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        assert running.wait(120) == 0
    assert tracked(workspace) == before


def test_tasks_of_a_killed_worker_run_on_the_other_one(cluster, tmp_path):
    pool = Pool(scheduler=cluster.scheduler_address)
    done = pool.map(slow, ((number, tmp_path) for number in range(12)))
    found = [next(done)]
    victim = int(next(tmp_path.iterdir()).name.split("-")[1])
    os.kill(victim, signal.SIGKILL)
    assert found + list(done) == [number * number for number in range(12)]


def test_a_cluster_that_is_not_there_is_one_line(workspace, fails):  # noqa: F811
    words = ("evaluate", "--run", "ce", "--scheduler", "tcp://127.0.0.1:9")
    assert "no cluster answers there" in fails(2, *words, cwd=workspace)
