"""README and docs say what the program does."""

import re
import subprocess
import sys

import pytest

import readme

from conftest import ROOT

DOCS = (readme.LOSSES, readme.METRICS, readme.CRF, readme.ENSEMBLES)


def test_generated_blocks_are_what_the_program_prints_of_the_committed_results(committed):
    for path, contents in readme.blocks(committed).items():
        text = path.read_text()
        assert readme.filled(text, contents) == text, path


def test_python_in_the_readme_runs():
    text = readme.README.read_text() + "".join(path.read_text() for path in DOCS)
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        subprocess.run([sys.executable, "-c", block], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "pipeline/DESIGN.md",
        "data/README.md",
        "CHANGELOG.md",
        "docs/crf.md",
        "docs/datasets.md",
        "docs/ensembles.md",
        "docs/losses.md",
        "docs/metrics.md",
        "docs/gradients.md",
    ],
)
def test_paths_in_the_docs_exist(name):
    made = (
        "results/",
        "runs/",
        "data/",
        ".segpipe",
        "download/",
        "prepare/",
        "predict/",
        "crf/",
        "ensemble/",
        "train/",
    )
    for path in re.findall(r"`([\w./-]+\.(?:py|md|yaml|toml|txt)|[\w./-]+/)`", (ROOT / name).read_text()):
        yours = path.removeprefix("cards/") in {f"{s}.txt" for s in ("train", "val", "test", "classes", "codes")} | {
            "mydata.toml"
        }
        if not path.startswith(made) and not yours:
            found = (ROOT / path).exists() or any((ROOT / "pipeline").rglob(path.rstrip("/")))
            assert found, path
