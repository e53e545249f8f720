"""Trainings in TensorBoard and MLflow: the rows of history.csv, through interruptions, without touching a result."""

import sys

import pytest

from segpipe.core.errors import ConfigError
from segpipe.core.files import read_csv
from segpipe.training import loggers

from conftest import segpipe, segpipe_here

ROWS = [{"epoch": k + 1, "lr": 0.1, "train_loss": 1 / (k + 1), "val_miou_dataset": 0.2 * k} for k in range(4)]
FACTS = {"loss": "ce", "seed": "0"}
TRAINING = loggers.Training("ce-0", "/w/data/train/ce-0", FACTS)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what they are made of


def tensorboard_values(folder, key):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    found = events.Scalars(key)
    assert len({event.step for event in found}) == len(found), "an epoch is there twice"
    return {event.step: pytest.approx(event.value, rel=1e-6) for event in found}


def mlflow_runs(folder):
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("segpipe")
    return client, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_training_that_is_taken_up_again_has_every_epoch_once(tmp_path, monkeypatch, name):
    pytest.importorskip(name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    [first] = loggers.create([name], tmp_path, TRAINING)
    first.begin([])
    for row in ROWS[:3]:
        first.epoch(row)
    del first  # killed after three epochs, of which the checkpoint holds two
    [second] = loggers.create([name], tmp_path, TRAINING)
    second.begin(ROWS[:2])
    for row in ROWS[2:]:
        second.epoch(row)
    second.close()
    expected = {row["epoch"]: row["val_miou_dataset"] for row in ROWS}
    if name == "tensorboard":
        assert tensorboard_values(tmp_path / "tensorboard/ce-0", "val_miou_dataset") == expected
        return
    client, [run] = mlflow_runs(tmp_path)
    found = client.get_metric_history(run.info.run_id, "val_miou_dataset")
    assert {one.step: one.value for one in found} == expected
    assert run.info.status == "FINISHED"
    assert run.data.params == FACTS


def test_logs_change_no_byte_and_hold_the_history(workspace, monkeypatch):
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = workspace / "data/train/ce-0"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("log: []", "log: [tensorboard, mlflow]"))
    segpipe("train", "--run", "ce", cwd=workspace)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    expected = {int(row["epoch"]): float(row["train_loss"]) for row in read_csv(folder / "history.csv")}
    assert tensorboard_values(workspace / "runs/logs/tensorboard/ce-0", "train_loss") == expected
    _, [run] = mlflow_runs(workspace / "runs/logs")
    assert run.data.params["loss"] == "ce"


def test_trainings_of_one_name_in_two_workspaces_leave_each_other_alone(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    both = [loggers.create(["mlflow"], tmp_path, loggers.Training("ce-0", place, FACTS))[0] for place in ("/a", "/b")]
    for one in both:
        one.begin([])
    for one in both:
        one.epoch(ROWS[0])
        one.close()
    _, runs = mlflow_runs(tmp_path)
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]


def test_a_log_that_cannot_be_reached_is_one_line_and_one_that_is_lost_ends_no_training(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "foo://x")
    with pytest.raises(ConfigError, match=r"MLflow at foo://x cannot be reached .*; correct MLFLOW_TRACKING_URI"):
        loggers.create(["mlflow"], tmp_path, TRAINING)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    [log] = loggers.create(["mlflow"], tmp_path, TRAINING)
    log.begin([])
    monkeypatch.setattr(log.client, "log_metric", lambda *_, **__: (_ for _ in ()).throw(OSError("gone")))
    for row in ROWS:
        log.epoch(row)
    assert capsys.readouterr().err.count("is lost (gone); training goes on") == 1


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")])
def test_a_library_that_is_not_installed_is_said_before_training(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    if name == "tensorboard":
        import torch.utils

        monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    with pytest.raises(ConfigError, match=rf"{name} is not installed; pip install 'segpipe\[{name}\]'"):
        loggers.create([name], tmp_path, TRAINING)


def test_an_unknown_log_is_one_line(finished):
    done = segpipe_here("train", "--run", "ce", "--set", "log=[tensorbord]", cwd=finished, check=False)
    assert done.returncode == 2
    assert "unknown log 'tensorbord'; did you mean 'tensorboard'?" in done.stderr
