"""Fill the blocks between marks of README.md and docs/: `python tests/readme.py --write`, or `--check`."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import typer

from segpipe import models
from segpipe.cli.app import app
from segpipe.cli.datasets import how
from segpipe.config.sections import METHODS
from segpipe.core import registry
from segpipe.data.card import KINDS, LAYOUTS, cards
from segpipe.losses.compound import PACKAGE
from segpipe.models.blocks import decoders, encoders
from segpipe.models.cost import multiply_adds
from segpipe.refine import PACKAGE as REFINERS
from segpipe.training import parts

import exhibit

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import claims
import error_rates
import rule_tables

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
LOSSES = ROOT / "docs" / "losses.md"
METRICS = ROOT / "docs" / "metrics.md"
CRF = ROOT / "docs" / "crf.md"
DECIDE = ROOT / "docs" / "decide.md"
TRAINING = ROOT / "docs" / "training.md"
MODELS = ROOT / "docs" / "models.md"
ENSEMBLES = ROOT / "docs" / "ensembles.md"
DATASETS = ROOT / "docs" / "datasets.md"
# Of docs/benchmark.md.
PROFILES = (
    "losses", "matched", "focal", "augmentation", "crf", "models", "schedules", "weights", "dropout", "targets", "lmp",
)  # fmt: skip
BENCHMARK = ROOT / "docs" / "benchmark.md"
REFERENCE = ROOT / "docs" / "reference.md"
SIZE = (128, 160)  # of the images whose multiply-adds are counted


def blocks(folder: Path = ROOT) -> dict[Path, dict[str, str]]:
    """What the program prints, by file and name of the block; the results are those of `folder`."""
    results = folder / "results"
    return {
        README: {
            "scores": (results / "tables/scores.md").read_text().strip(),
            "runs": (results / "tables/runs.md").read_text().strip(),
            "compare": "```\n$ segpipe compare ce ce_jml\n"
            + _output(sys.executable, "-m", "segpipe", "compare", "ce", "ce_jml", cwd=folder)
            + "\n```",
            "dag": _output("dvc", "dag", "--md", "--collapse-foreach-matrix"),
            "help": "```\n$ segpipe --help\n" + _output(sys.executable, "-m", "segpipe", "--help") + "\n```",
        },
        LOSSES: {"losses": _entries(PACKAGE)},
        TRAINING: {kind: _entries(module) for kind, module in parts.MODULES.items()},
        MODELS: {"models": _models(), "encoders": _entries(encoders.MODULE), "decoders": _entries(decoders.MODULE)},
        ENSEMBLES: {
            "methods": _entries(METHODS),
            "learners": _entries("segpipe.ensembles.learners"),
            "ensembles": "\n\n".join((results / "tables/ensembles.md").read_text().split("\n\n")[:2]),
        },
        DATASETS: {"datasets": _datasets(), "layouts": _entries(LAYOUTS), "masks": _entries(KINDS)},
        METRICS: {"exhibit": exhibit.table()},
        BENCHMARK: {
            **{name: _kept(name, "table.md") for name in PROFILES},
            "ensembles": "\n\n".join(_kept("ensembles", "tables/ensembles.md").split("\n\n")[:2]),
            "crf_borders": "\n\n".join(_kept("crf", "tables/crf.md").split("\n\n")[2:]),
            "camvid": _kept("camvid", "table.md"),
            **{f"camvid_{rule}": rule_tables.block("camvid_rules", f" + {rule}") for rule in rule_tables.FORCED},
            "rules": rule_tables.block("rules"),
            "camvid_classes": _kept("camvid", "tables/classes.md"),
        },
        ROOT / "docs" / "claims.md": {"claims": claims.table("scenes"), "camvid": claims.table("CamVid")},
        REFERENCE: {"commands": _commands(), "parameters": f"```yaml\n{(ROOT / 'params.yaml').read_text()}```"},
        ROOT / "docs" / "statistics.md": {"rates": error_rates.table()},
        CRF: {"verdicts": (results / "tables/crf.md").read_text().split("\n\n")[0]},
        DECIDE: {
            "rules": _entries(REFINERS, without="tuned"),
            "decisions": "\n\n".join((results / "tables/decisions.md").read_text().split("\n\n")[:2]),
        },
    }


def filled(text: str, contents: dict[str, str]) -> str:
    """`text` with the content of each mark replaced."""
    for name, content in contents.items():
        if f"<!-- {name} -->" not in text or f"<!-- /{name} -->" not in text:
            raise SystemExit(f"the marks of the block '{name}' are lost")
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)
    return text


def _entries(package: str, without: str = "") -> str:
    """A row for each registered function or class that has no attribute of that name."""
    rows = ["| name | options | what | source |", "| :- | :- | :- | :- |"]
    for name, entry in registry.entries(package).items():
        if without in entry.attributes:
            continue
        options = ", ".join(f"{key}={value!r}" for key, value in entry.options.items() if value is not None)
        summary = entry.summary.replace("|", "\\|")
        rows.append(f"| `{name}` | {f'`{options}`' if options else ''} | {summary} | {entry.source} |")
    return "\n".join(rows)


def _models() -> str:
    """A row for each network as it is by default, for 8 classes."""
    rows = ["| name | stride | parameters | multiply-adds | options | source |", "| :- | -: | -: | -: | :- | :- |"]
    for name, entry in registry.entries(models.PACKAGE).items():
        network = models.create(name, 8).eval()
        weights = sum(p.numel() for p in network.parameters())
        options = ", ".join(f"{key}={value!r}" for key, value in entry.options.items())
        cost = f"{weights / 1e6:.2f} M | {multiply_adds(network, SIZE) / 1e9:.2f} G"
        rows.append(f"| `{name}` | {network.stride} | {cost} | `{options}` | {entry.source} |")
    return "\n".join(rows)


def _datasets() -> str:
    """A row for each card."""
    rows = ["| name | classes | how | what | licence |", "| :- | -: | :- | :- | :- |"]
    for name, card in cards().items():
        rows.append(f"| `{name}` | {card.num_classes} | {how(card)} | {card.title} | {card.licence} |")
    return "\n".join(rows)


def _commands() -> str:
    """Each command with its arguments and options, in the order of `segpipe --help`."""
    group = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():
        for path, leaf in [(f"{name} {sub}", c) for sub, c in getattr(command, "commands", {}).items()] or [
            (name, command)
        ]:
            rows = ["| argument or option | default | what |", "| :- | :- | :- |"]
            rows += [_parameter(one) for one in leaf.params if one.name != "help"]
            parts.append("\n".join([f"### segpipe {path}", "", leaf.help.split("\n\n")[0], "", *rows]))
    return "\n\n".join(parts)


def _parameter(one: Any) -> str:
    names = ", ".join(f"`{name}`" for name in one.opts) if one.param_type_name == "option" else f"`{one.name.upper()}`"
    default = "" if one.default is None or one.default is False or callable(one.default) else f"`{one.default}`"
    what = " ".join((getattr(one, "help", None) or "").split()).replace("|", "\\|")
    return f"| {names} | {default} | {what} |"


def _kept(name: str, file: str) -> str:
    """What a profile found, without the note that all tables share."""
    return re.split(r"\n\n\w+, test", (claims.kept(name) / file).read_text())[0].strip()


def committed(scratch: Path) -> Path:
    """A folder with params.yaml and results/ as they are committed: what README and docs quote, whatever this machine
    has just trained. Without git, the files that are there.
    """
    call = subprocess.run(["git", "archive", "HEAD", "results", "params.yaml"], cwd=ROOT, capture_output=True)
    if call.returncode:
        return ROOT
    with tarfile.open(fileobj=io.BytesIO(call.stdout)) as archive:
        archive.extractall(scratch, filter="data")
    return scratch


def _output(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


if __name__ == "__main__":
    for path, contents in blocks().items():
        old = path.read_text()
        new = filled(old, contents)
        if sys.argv[1:] == ["--write"]:
            path.write_text(new)
        elif old != new:
            sys.exit(f"{path.name} is out of date; run `python tests/readme.py --write`")
