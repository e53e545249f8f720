"""What params.yaml lists, as it was evaluated: read together for the report, tables, advice and the audit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from segpipe.core.errors import ConfigError, DataError
from segpipe.stages.context import Context

# Scores that do not follow from what is stored of each image, so nothing can be resampled.
NOT_RESAMPLED = ("sce_dataset", "sce_image", "ace", "aurc")
Found = TypeVar("Found")


class LeftOut(list[str]):
    """Messages on what is missing or stale; `strict` raises the first instead of collecting it."""

    def __init__(self, *, strict: bool) -> None:
        super().__init__()
        self.strict = strict

    def without(self, read: Callable[[], Found]) -> Found | None:
        """What `read` returns; None, and a message, where it has no input.

        Raises:
            DataError: strict, and `read` raised it.
        """
        try:
            return read()
        except DataError as error:
            if self.strict:
                raise
            if str(error) not in self:
                self.append(str(error))
            return None


def gather(context: Context, left_out: LeftOut | None = None) -> list[Any]:
    """All entries of params.yaml, in its order: runs, runs with CRF, ensembles."""
    from segpipe.reporting.results import entry

    missing = left_out if left_out is not None else LeftOut(strict=True)
    params, refined = context.params, context.params.crf_keys()
    whole = _Whole(missing)
    found = []
    for kind, suffix in (("run", ""), ("crf", " + CRF")):
        for run, section in params.runs.items():
            members = [context.member(f"{run}-{seed}") for seed in params.seeds]
            if kind == "crf":
                members = [member for member in members if member.key in refined]
            variant = "crf" if kind == "crf" else ""
            each = [whole.folder(member, variant) for member in members]
            folders = [folder for folder in each if folder is not None]
            if folders:
                found.append(entry(run + suffix, kind, section.loss + suffix, folders))
    for method in params.ensemble:
        folder = whole.folder(of_method(context, method))
        if folder is not None:
            found.append(entry(f"ensemble: {method}", "ensemble", params.ensemble[method].method, [folder]))
    if not found:
        raise DataError(f"no result of params.yaml is there; {missing[0] if missing else 'run `dvc repro`'}")
    return found


class _Whole:
    """Finds result folders; where some may be left out, one that cannot be read or is of other images is, too."""

    def __init__(self, missing: LeftOut) -> None:
        self.missing = missing
        self.first: tuple[Path, Any] | None = None

    def folder(self, member: Context, variant: str = "") -> Path | None:
        """The results of a member, complete and fresh."""
        return self.missing.without(lambda: self._checked(member.require("evaluate", variant=variant)))

    def _checked(self, folder: Path) -> Path:
        if self.missing.strict:
            return folder  # who reads them all refuses
        from segpipe.core.files import read_json
        from segpipe.reporting.tables import read_tables

        for name in ("metrics.json", "curves.json", *(["members.json"] if folder.parent.name == "ensembles" else [])):
            read_json(folder / name)
        of = read_tables(folder, "test")[1:]
        self.first = self.first or (folder, of)
        if of != self.first[1]:
            raise DataError(f"{folder} has other images, groups or classes than {self.first[0]}")
        return folder


def of_method(context: Context, method: str) -> Context:
    """The context of an ensemble under the same parameters."""
    return Context("evaluate", context.params, context.base, method=method, overrides=context.overrides)


def costs(context: Context, entries: list[Any]) -> dict[str, float]:
    """Multiply-adds of an image of each result, where its files are there; a CRF is not counted, so not compared."""
    from segpipe.core.files import read_json

    found: dict[str, float] = {}
    for entry in entries:
        if entry.kind == "ensemble":
            one = read_json(entry.folders[0] / "members.json")["multiply_adds"]
            found[entry.name] = float(one["members"] + one["combining"])
        elif entry.kind == "run":
            member = context.member(entry.folders[0].name)
            if member.is_fresh("predict", member.path("predict")):
                known = read_json(member.path("predict") / "made.json")
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
    losses = {section.loss for section in params.runs.values()}
    if not any(word in loss for loss in losses for word in ("jml", "dml", "dice", "lovasz", "jaccard", "tversky")):
        steps.append("a region loss beside cross entropy: 0.25*ce + 0.75*jml")
    return steps


def judge(entries: list[Any], context: Context, metrics: list[str]) -> Any:
    """All entries compared on test by the named scores, those left out that cannot be resampled or that none has.

    Raises:
        ConfigError: the report's metric cannot be resampled.
    """
    from segpipe.reporting import judgement

    if context.params.report.metric in NOT_RESAMPLED:
        raise ConfigError(
            f"report.metric: '{context.params.report.metric}' does not follow from what is stored of each image, so "
            "that nothing can be compared by it; take ece_dataset or another score"
        )
    usable = [m for m in metrics if m not in NOT_RESAMPLED and any(e.mean(m) is not None for e in entries)]
    folders = {entry.name: entry.folders for entry in entries}
    return judgement.judge(folders, usable, resamples=context.params.evaluate.resamples)
