"""What params.yaml lists, as it was evaluated: read together for the report, tables, advice and the audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from segpipe.config.context import Context
from segpipe.config.schema import Params
from segpipe.core.errors import ConfigError, DataError
from segpipe.core.files import read_json
from segpipe.metrics.naming import pretty
from segpipe.metrics.scores import NOT_BY_IMAGE
from segpipe.metrics.tables import Stored, read_tables
from segpipe.report.judgement import Judgement, judge
from segpipe.report.results import Entry, read_entry
from segpipe.report.runs import REFINED

_REGION_LOSSES = ("jml", "dml", "dice", "lovasz", "jaccard", "tversky")
T = TypeVar("T")


class MissingResults(list[str]):
    """Messages on what is missing or stale; `strict` raises the first instead of collecting it."""

    def __init__(self, *, strict: bool) -> None:
        super().__init__()
        self.strict = strict

    def read(self, reader: Callable[[], T]) -> T | None:
        """What `reader` returns; None, and a message, where it has no input.

        Raises:
            DataError: strict, and `reader` raised it.
        """
        try:
            return reader()
        except DataError as error:
            if self.strict:
                raise
            if str(error) not in self:
                self.append(str(error))
            return None


def collect_results(context: Context, missing: MissingResults | None = None) -> list[Entry]:
    """All entries of params.yaml, in its order: runs, runs with CRF, ensembles, and these read by a rule."""
    missing = missing if missing is not None else MissingResults(strict=True)
    params = context.params
    folders = _Folders(missing)
    found = []
    for kind, suffix in (("run", ""), ("crf", " + CRF")):
        for run, about in _runs(params).items():
            keys = params.keys_of(run)
            if kind == "crf":
                keys = [f"{key}-crf" for key in keys if key in params.crf_keys()]
            there = folders.of([context.member(key) for key in keys])
            if there:
                shown = "import" if run in params.imports and kind == "run" else kind
                found.append(read_entry(run + suffix, shown, f"{about}{suffix}", there))
    for method in params.ensemble:
        there = folders.of([context.of_ensemble(method)])
        if there:
            found.append(read_entry(f"ensemble: {method}", "ensemble", params.ensemble[method].method, there))
    for title, metric, keys in decided_names(params):
        there = folders.of([context.decided(key, metric) for key in keys])
        if there:
            found.append(read_entry(title, "decided", f"labels by the rule for {pretty(metric)}", there))
    if not found:
        raise DataError(f"no result of params.yaml is there; {missing[0] if missing else 'run `dvc repro`'}")
    return found


def _runs(params: Params) -> dict[str, str]:
    """What is trained and what is imported, with the loss of the one and the kind of the other."""
    what = {"labels": "label maps", "probs": "probabilities", "logits": "logits"}
    imported = {run: f"imported {what[section.holds]}" for run, section in params.imports.items()}
    return {run: str(section.loss) for run, section in params.runs.items()} | imported


def decided_names(params: Params) -> list[tuple[str, str, list[str]]]:
    """Of the results that a rule reads: what each is called, the score of its rule, and the keys of its seeds."""
    sources: dict[str, list[str]] = {}
    for key in params.decided_keys():
        run, _, rest = key.partition("-")
        name = f"ensemble: {key}" if key in params.ensemble else run + (REFINED if rest.endswith("-crf") else "")
        sources.setdefault(name, []).append(key)
    alone = len(params.decide.metrics) == 1
    return [
        (f"{name} + rule" + ("" if alone else f" for {pretty(metric)}"), metric, keys)
        for metric in params.decide.metrics
        for name, keys in sources.items()
    ]


class _Folders:
    """Finds result folders; where some may be missing, one that cannot be read or is of other images is left out."""

    def __init__(self, missing: MissingResults) -> None:
        self.missing = missing
        self.first: tuple[Path, Stored] | None = None

    def of(self, members: Sequence[Context]) -> list[Path]:
        """The results of members, complete and fresh."""
        found = [self.missing.read(lambda m=member: self._checked(m.require("evaluate"))) for member in members]  # type: ignore[misc]
        return [folder for folder in found if folder is not None]

    def _checked(self, folder: Path) -> Path:
        if self.missing.strict:
            return folder  # who reads them all refuses
        for name in ("metrics.json", "curves.json", *(["members.json"] if folder.parent.name == "ensembles" else [])):
            read_json(folder / name)
        stored = read_tables(folder, "test")
        self.first = self.first or (folder, stored)
        if any(getattr(stored, what) != getattr(self.first[1], what) for what in ("images", "groups", "classes")):
            raise DataError(f"{folder} has other images, groups or classes than {self.first[0]}")
        return folder


def fitted_on_val(entry: Entry) -> bool:
    """Whether the val images made the result what it is, so that its score there flatters it."""
    if entry.kind != "ensemble":
        return entry.kind in ("crf", "decided")
    return bool(read_json(entry.folders[0] / "members.json")["fitted_on"] == "val")


def costs(context: Context, entries: Sequence[Entry]) -> dict[str, float]:
    """Multiply-adds of an image of each result, where its files are there; a CRF is not counted, so not compared."""
    found: dict[str, float] = {}
    for entry in entries:
        if entry.kind == "ensemble":
            one = read_json(entry.folders[0] / "members.json")["multiply_adds"]
            if one["members"] is not None:  # of an import they are not known
                found[entry.name] = float(one["members"] + one["combining"])
        elif entry.kind in ("run", "import"):
            member = context.member(entry.folders[0].name)
            if member.is_fresh("predict", member.path("predict")):
                known = read_json(member.path("predict") / "made.json")
                if known["multiply_adds"] is not None:
                    found[entry.name] = float(known["multiply_adds"] * known["looks"])
    return found


def untried(context: Context) -> list[str]:
    """What params.yaml does not try yet, in words."""
    params = context.params
    steps = []
    if not params.crf_keys():
        steps.append("a CRF after the best run (crf.runs in params.yaml)")
    if not params.ensemble:
        steps.append("an ensemble of the best runs (section ensemble of params.yaml)")
    elif not any("stacking" in section.method for section in params.ensemble.values()):
        steps.append("stacking, which also calibrates (section ensemble of params.yaml)")
    if not any(word in str(section.loss) for section in params.runs.values() for word in _REGION_LOSSES):
        steps.append("a region loss beside cross entropy: 0.25*ce + 0.75*jml")
    return steps


def judge_folds(context: Context, metrics: Sequence[str], missing: MissingResults | None = None) -> Judgement | None:
    """The runs that were trained on folds, compared on the train images; None where there are fewer than two."""
    missing = missing if missing is not None else MissingResults(strict=True)
    folders: dict[str, list[Path]] = {}
    for key in context.params.fold_keys():
        found = missing.read(lambda key=key: context.of_folds(key).require("evaluate"))  # type: ignore[misc]
        if found is not None:
            folders.setdefault(key.rpartition("-")[0], []).append(found)
    if len(folders) < 2:
        return None
    region, number = context.params.report.equivalence / 100, context.params.folds.number
    return judge(folders, metrics, split="train", equivalence=region, folds=number)


def judge_entries(
    entries: Sequence[Entry], context: Context, metrics: Sequence[str], *, split: str = "test"
) -> Judgement:
    """All entries compared on a split by the named scores, but those that follow from no counts or that none has.

    Raises:
        ConfigError: the report's metric does not follow from counts.
    """
    metric = context.params.report.metric
    if metric in NOT_BY_IMAGE:
        raise ConfigError(
            f"report.metric: '{metric}' does not follow from what is stored of each image, so "
            "that nothing can be compared by it; take ece_dataset or another score"
        )
    usable = [m for m in metrics if m not in NOT_BY_IMAGE and any(e.mean(m) is not None for e in entries)]
    folders = {entry.name: entry.folders for entry in entries if split in entry.metrics[0]}
    region = context.params.report.equivalence / 100
    return judge(folders, usable, split=split, equivalence=region, imported=context.params.imports)
