"""The notebook of docs/, made and executed: `python docs/notebook.py`, or `--check` that it runs as it is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode, v4

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "notebook.ipynb"
CELLS = (
    """# segpipe in a notebook

The functions of `import segpipe` return objects that show themselves. This notebook reads the committed results of the
repository, then trains a small network of its own in a new workspace.""",
    'import segpipe\n\nresults = segpipe.read_results("..")\nresults',
    "Is the difference between two losses real? Each pair has a verdict, an interval and a figure.",
    'segpipe.compare(results, "ce", "ce_jml", metrics=["miou_dataset"])',
    "Which configuration should you use, how sure is that, and what would make it surer?",
    "segpipe.recommend(results)",
    "Train a loss of your choice. What the training needs is downloaded or generated first.",
    "!segpipe init scenes --profile tiny --into {folder} > /dev/null",
    """trained = segpipe.train(loss="0.25*ce + 0.75*jml", folder=folder, settings={"train.epochs": 40})
trained""",
    "Segment images with it: the image, and its labels in the colours of the dataset.",
    """images = sorted(Path(folder).glob("data/download/scenes/images/test*.png"))
segmented = segpipe.infer(images[:1], str(trained.folder), folder=folder)
segmented[0]""",
    "Predictions of other tools: `segpipe.compare_predictions(labels, {...})` compares folders of them.",
)


def made() -> NotebookNode:
    """The notebook without outputs: a text cell, then cells of code after each text."""
    setup = "from pathlib import Path\nfrom tempfile import mkdtemp\n\nfolder = mkdtemp()"
    cells = [v4.new_markdown_cell(CELLS[0]), v4.new_code_cell(setup)]
    for text in CELLS[1:]:
        code = text.startswith(("import", "segpipe.", "!", "trained", "images"))
        cells.append(v4.new_code_cell(text) if code else v4.new_markdown_cell(text))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # the same in every run
    return v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def executed() -> NotebookNode:
    """The notebook with the outputs of this machine; an error of a cell is raised."""
    notebook = made()
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": FILE.parent}},
    )
    client.execute()
    return notebook


def sources(notebook: NotebookNode) -> list[str]:
    """The text of each cell."""
    return [cell["source"] for cell in notebook["cells"]]


if __name__ == "__main__":
    found = executed()
    if "--check" in sys.argv:
        if sources(nbformat.read(FILE, 4)) != sources(found):
            raise SystemExit(f"{FILE} is out of date; run `python docs/notebook.py`")
    else:
        nbformat.write(found, FILE)
