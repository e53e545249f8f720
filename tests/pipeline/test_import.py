"""`segpipe import`: predictions of other tools as runs of a workspace, from files to the page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.config import dag
from segpipe.config.params import load, parse
from segpipe.data.dataset import Index, read_target
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.scores import summarize
from segpipe.metrics.tables import read_tables
from segpipe.report.runs import fixed_networks

from conftest import ROOT, segpipe, segpipe_here

SEEDS = 2


def spoilt(true, classes, seed):
    random = np.random.default_rng(seed)
    drawn = random.integers(0, classes, true.shape)
    return np.where((true == 255) | (random.random(true.shape) < 0.2), drawn, true)


@pytest.fixture(scope="module")
def imported(finished, tmp_path_factory):
    """A finished workspace into which label maps of two seeds, logits, and label maps of test alone have come."""
    folder = tmp_path_factory.mktemp("imported") / "w"
    shutil.copytree(finished, folder, symlinks=True)
    prepared, root = folder / "data/prepare", folder / "data/download/scenes"
    index = Index.read(prepared)
    classes = len(index.classes)
    theirs = folder.parent / "theirs"
    for split in ("val", "test"):
        for i, row in enumerate(index.splits[split]):
            true, name = read_target(root, index, row, split), Path(row.image).stem
            for seed in range(SEEDS):
                ids = spoilt(true, classes, [seed, i])
                path = theirs / f"maps/seed{seed}/{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(ids.astype(np.uint8)).save(path)
            scores = 4 * np.moveaxis(np.eye(classes, dtype=np.float32)[ids], -1, 0)
            (theirs / "logits").mkdir(exist_ok=True)
            np.save(theirs / f"logits/{name}.npy", scores + np.random.default_rng(i).normal(size=scores.shape))
            if split == "test":
                (theirs / "alone").mkdir(exist_ok=True)
                Image.fromarray(ids.astype(np.uint8)).save(theirs / f"alone/{name}.png")
    for name, kind in (("theirs", "maps"), ("outside", "logits"), ("alone", "alone")):
        done = segpipe("import", name, "--predictions", theirs / kind, "--no-run", cwd=folder)
        assert "next: dvc repro" in done.stdout
    for key in ("theirs-0", "theirs-1", "outside-0", "alone-0"):
        run, seed = key.split("-")
        segpipe("import", run, "--seed", seed, cwd=folder)
        segpipe("evaluate", "--run", run, "--seed", seed, cwd=folder)
    return folder


def test_params_name_folders_kinds_and_splits_and_dvc_yaml_follows(imported):
    params = load(imported / "params.yaml")
    assert {name: (len(one.predictions), one.holds, one.splits) for name, one in params.imports.items()} == {
        "theirs": (2, "labels", ["val", "test"]), "outside": (1, "logits", ["val", "test"]),
        "alone": (1, "labels", ["test"]),
    }  # fmt: skip
    segpipe_here("dag", "--check", cwd=imported)
    text = (imported / "dvc.yaml").read_text()
    assert "cmd: segpipe import ${item.run} --seed ${item.seed}" in text
    assert str(imported.parent / "theirs/maps/seed1") in text, "DVC watches the predictions"


def test_scores_are_those_of_the_files(imported):
    index = Index.read(imported / "data/prepare")
    for seed in range(SEEDS):
        counts = []
        for row in index.splits["test"]:
            path = imported.parent / f"theirs/maps/seed{seed}/{Path(row.image).stem}.png"
            true = read_target(imported / "data/download/scenes", index, row, "test")
            counts.append(count(np.array(Image.open(path))[None], true[None], len(index.classes)))
        expected = summarize(Counts.concat(counts))
        found = json.loads((imported / f"results/runs/theirs-{seed}/headline.json").read_text())["test"]
        assert found["miou_dataset"] == pytest.approx(expected["miou_dataset"], abs=1e-12)
        assert "ece_dataset" not in found, "label maps have no probabilities"
    assert "ece_dataset" in json.loads((imported / "results/runs/outside-0/headline.json").read_text())["test"]


def test_an_import_without_val_is_scored_on_test_alone(imported):
    assert json.loads((imported / "results/runs/alone-0/headline.json").read_text()).keys() == {"test"}
    theirs = read_tables(imported / "results/runs/theirs-1", "test").tables.counts
    np.testing.assert_array_equal(read_tables(imported / "results/runs/alone-0", "test").tables.counts.tp, theirs.tp)


def test_imports_are_compared_with_trained_runs_as_methods_where_seeds_are_as_many_else_as_networks(imported):
    found = json.loads(segpipe_here("compare", "theirs", "outside", "ce", "--json", cwd=imported).stdout)
    assert {d["claim"] for d in found["differences"]} == {"networks"}
    assert not found["notes"], "no seed of a trained run is left out for an import's sake"


@pytest.mark.parametrize(
    ("runs", "fixed"),
    [
        ({"ce": "01", "theirs": "01"}, ""),
        ({"ce": "012", "theirs": "01"}, "theirs"),
        ({"ce": "0", "theirs": "01"}, "theirs"),
        ({"ce": "01", "theirs": "012"}, ""),
        ({"theirs": "01", "other": "01"}, ""),
        ({"theirs": "012", "other": "0"}, "other"),
    ],
)
def test_an_import_is_a_method_where_it_has_all_seeds_of_what_it_is_compared_with(runs, fixed):
    seeds = {name: set(own) for name, own in runs.items()}
    assert fixed_networks(seeds, {name: name for name in runs}, ["theirs", "other"]) == ({fixed} if fixed else set())


def test_seeds_of_imports_are_called_as_those_of_the_runs():
    text = (ROOT / "params.yaml").read_text().replace("seeds: [0, 1, 2, 3, 4]", "seeds: [42, 43]")
    for number, expected in ((1, [42]), (2, [42, 43]), (4, [42, 43, 44, 45])):
        one = {"predictions": [f"p{k}" for k in range(number)], "holds": "labels"}
        params = parse(text.replace("imports: {}", f"imports: {{x: {json.dumps(one)}}}"))
        assert params.seeds_of("x") == expected


@pytest.mark.parametrize("name", ["crf", "ensemble", "decided", "folds", "report"])
def test_an_import_may_have_any_name_and_every_stage_stays_one(name):
    one = json.dumps({"predictions": ["p"], "holds": "logits"})
    text = (ROOT / "params.yaml").read_text().replace("imports: {}", f"imports: {{{name}: {one}}}")
    text = text.replace("  runs: [ce_jml]  #", f"  runs: [ce_jml, {name}]  #")
    written = dag.text(parse(text.replace("of: [average]", f"of: [average, {name}]")))
    stages = [line.strip() for line in written.splitlines() if line.startswith("  ") and not line.startswith("   ")]
    assert len(stages) == len(set(stages))
    assert f"evaluate_crf_import_{name}:" in stages
    assert f"decide_import_{name}:" in stages or f"decide_runs_import_{name}:" in stages or "decide:" in stages


def test_a_network_that_finds_one_class_alone_can_be_imported(imported, tmp_path):
    folder = tmp_path / "w"
    shutil.copytree(imported, folder, symlinks=True)
    for path in (imported.parent / "theirs/maps/seed0").glob("*.png"):
        (tmp_path / "zero").mkdir(exist_ok=True)
        Image.fromarray(np.zeros_like(np.array(Image.open(path)))).save(tmp_path / "zero" / path.name)
    segpipe_here("import", "zero", "--predictions", tmp_path / "zero", "--no-run", cwd=folder)
    assert load(folder / "params.yaml").imports["zero"].holds == "labels"


@pytest.mark.parametrize("text", ["imports:", "imports: null", "imports: {}", ""])
def test_a_section_of_imports_may_be_empty_or_missing(text):
    shipped = (ROOT / "params.yaml").read_text()
    line = next(one for one in shipped.splitlines() if one.startswith("imports:"))
    assert parse(shipped.replace(line, text)).imports == {}


def test_results_without_val_are_left_out_of_a_comparison_on_val(imported):
    done = segpipe_here("compare", "--split", "val", "theirs", "alone", "outside", cwd=imported)
    assert "left out: alone: it has no predictions of val" in done.stderr
    assert "theirs" in done.stdout


def test_ensembles_take_probabilities_and_votes_label_maps_too(imported):
    params = load(imported / "params.yaml")
    members = {method: params.members_of(method) for method in params.ensemble}
    assert "outside-0" in members["average"]
    assert not {"theirs-0", "alone-0"} & set(members["average"])
    assert {"outside-0", "theirs-0", "theirs-1"} <= set(members["plurality"])
    assert "alone-0" not in members["plurality"]


def test_the_whole_pipeline_follows_crf_rules_ensembles_and_page(imported, tmp_path):
    folder = tmp_path / "w"
    shutil.copytree(imported, folder, symlinks=True)
    for command in (
        "ensemble --method plurality", "evaluate --ensemble plurality", "ensemble --method average",
        "evaluate --ensemble average", "ensemble --method stacking", "evaluate --ensemble stacking",
        "crf --run outside", "evaluate --run outside --crf",
        "decide --run outside --rule miou_dataset",
    ):  # fmt: skip
        segpipe(*command.split(), cwd=folder)
    described = json.loads((folder / "results/ensembles/average/members.json").read_text())
    assert described["multiply_adds"]["members"] is None, "what an import costs is not known"
    segpipe("report", "--partial", cwd=folder)
    page = (folder / "runs/partial/report.html").read_text()
    assert all(name in page for name in ("theirs", "outside", "alone", "segpipe import outside --seed 0"))
    assert "imported label maps" in (folder / "runs/partial/tables/scores.csv").read_text()
    segpipe("audit", "--split", "val", cwd=folder)
    refused = segpipe(
        "infer", "data/download/scenes/images", "--ensemble", "average", "--out", "x", cwd=folder, check=False
    )
    assert refused.returncode == 3
    assert "is imported, without its network" in refused.stderr


def test_the_stage_gives_the_same_bytes_again(imported, tmp_path):
    folder = tmp_path / "w"
    shutil.copytree(imported, folder, symlinks=True)
    before = {path.name: path.read_bytes() for path in (imported / "data/predict/outside-0").iterdir()}
    segpipe("import", "outside", "--jobs", "1", cwd=folder)
    assert {path.name: path.read_bytes() for path in (folder / "data/predict/outside-0").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["x"], 2, "params.yaml imports no 'x'; give --predictions FOLDER"),
        (
            ["x", "--shift", "-1"],
            2,
            "these options go with --predictions FOLDER; without it they are read from params.yaml",
        ),
        (["x", "--predictions", "nowhere"], 3, "nowhere is not a folder"),
        (["X-1", "--predictions", "{maps}"], 2, "a name must match"),
        (["ce", "--predictions", "{maps}"], 2, "'ce' is a run or ensemble of params.yaml"),
        (["x", "--predictions", "{maps}/seed0", "--ids", "a=b"], 2, "wanted each id and its class"),
        (["x", "--predictions", "{maps}/seed0", "--shift", "-1"], 3, "wanted 1 to 8 before --shift -1"),
        (["x", "--predictions", "{maps}/seed0", "--holds", "probs"], 3, "write one kind"),
        (["x", "--predictions", "{maps}/seed0", "--ids", "-1=3"], 2, "wanted each id and its class"),
        (["x", "--predictions", "{maps}/seed0", "--ids", "1=0"], 3, "which --ids does not list"),
        (
            ["x", "--predictions", "{maps}/seed0", "--ids", "1=0", "--shift", "1"],
            2,
            "--ids and --shift exclude each other",
        ),
        (["x", "--predictions", "{maps}/seed0", "--shift", "99999999999999999999"], 2, "--shift"),
        (["x", "--predictions", "{masks}"], 3, "and 255 means that nothing is predicted"),
        (["x", "--predictions", "{part}"], 3, "has no prediction for"),
        (["theirs", "--seed", "5"], 2, "import 'theirs' has the seeds 0, 1, one for each folder"),
        (["x", "--predictions", "{maps}", "--seed", "1"], 2, "--seed goes with an import of params.yaml"),
        (["x", "--predictions", "{maps}/seed0", "--predictions", "{copy}"], 3, "hold the same predictions"),
    ],
)
def test_a_wrong_call_says_what_to_do_and_changes_nothing(imported, tmp_path, arguments, code, message):
    maps, part = imported.parent / "theirs/maps", tmp_path / "part"
    shutil.copytree(maps / "seed0", part)
    before = {name: (imported / name).read_bytes() for name in ("params.yaml", "dvc.yaml")}
    for path in part.glob("*.png") if "{masks}" in arguments else ():
        save_as = tmp_path / "masks" / path.name
        save_as.parent.mkdir(exist_ok=True)
        Image.fromarray(np.where(np.array(Image.open(path)) == 2, 255, 0).astype(np.uint8)).save(save_as)
    if "{copy}" in arguments:
        shutil.copytree(maps / "seed0", tmp_path / "copy")
    if "{part}" in arguments:
        next(part.glob("test*.png")).unlink()
    words = [word.format(maps=maps, part=part, copy=tmp_path / "copy", masks=tmp_path / "masks") for word in arguments]
    done = segpipe_here("import", *words, cwd=imported, check=False)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert {name: (imported / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --run theirs", "run 'theirs' is imported, without its network"),
        ("predict --run theirs", "run 'theirs' is imported, without its network"),
        ("crf --run theirs", "import 'theirs' lacks probabilities of val and test"),
        ("decide --run alone --rule miou_dataset", "import 'alone' lacks probabilities of val and test"),
    ],
)
def test_what_needs_a_network_or_probabilities_is_refused_of_an_import_without(imported, command, message):
    done = segpipe_here(*command.split(), cwd=imported, check=False)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
