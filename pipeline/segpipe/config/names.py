"""What params.yaml asks for, by name: its sections, and the keys of all that is made of them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from segpipe.config.imported import Import
from segpipe.config.refinement import Crf
from segpipe.config.sections import (
    METHODS,
    Count,
    Decide,
    Download,
    Ensemble,
    Evaluate,
    Folds,
    Model,
    Predict,
    Prepare,
    Report,
    Run,
    Section,
    Stats,
    Train,
    Whole,
    sentence,
)
from segpipe.core import registry, spec
from segpipe.core.errors import ConfigError, suggestion
from segpipe.training import parts

LOGS = "segpipe.training.loggers"  # by name: params.yaml is checked without their code
_S = TypeVar("_S", bound=Section)


def _logs(names: list[str]) -> list[str]:
    for name in names:
        registry.find(LOGS, "log", name)
    return list(dict.fromkeys(names))


class Named(Section):
    """The sections of params.yaml, with the keys of runs, refined runs, members and results."""

    threads: Count
    download: Download
    prepare: Prepare
    stats: Stats
    model: Model
    train: Train
    seeds: Annotated[list[Whole], Field(min_length=1)]
    log: Annotated[list[str], AfterValidator(_logs)] = Field(default_factory=list)
    runs: dict[str, Run]
    imports: dict[str, Import] = Field(default_factory=dict)
    folds: Folds
    predict: Predict
    crf: Crf
    ensemble: dict[str, Ensemble]
    decide: Decide = Decide()
    evaluate: Evaluate
    report: Report

    def teachers_of(self, run: str) -> list[str]:
        """The run's teacher, the teacher's teacher, and so on."""
        found: list[str] = []
        following = self.runs[run].teacher
        while following is not None and following in self.runs and following not in found:
            found.append(following)
            following = self.runs[following].teacher
        return found

    def students(self) -> dict[str, list[str]]:
        """The runs that each teacher teaches."""
        found: dict[str, list[str]] = {}
        for name, run in self.runs.items():
            if run.teacher is not None:
                found.setdefault(run.teacher, []).append(name)
        return found

    def snapshots_of(self, run: str) -> int:
        """How many snapshots a run leaves."""
        return parts.snapshots(self.train_of(run).schedule)

    def snapshot_keys(self) -> list[str]:
        """All `run-seed-snapN`, N from 1."""
        return [
            f"{run}-{seed}-snap{number + 1}"
            for run in self.runs
            for seed in self.seeds
            for number in range(self.snapshots_of(run))
        ]

    def looks_of(self, run: str) -> int:
        """How many looks a prediction of the run averages: Monte Carlo passes, times mirror images, times sizes."""
        section = self.predict_of(run)
        return max(1, section.passes) * (1 + section.flips) * len(section.scales)

    def look_keys(self) -> list[str]:
        """All `run-seed-lookN`, N from 1, of runs that look more than once."""
        return [
            f"{run}-{seed}-look{number + 1}"
            for run in self.runs
            if self.looks_of(run) > 1
            for seed in self.seeds
            for number in range(self.looks_of(run))
        ]

    def model_of(self, run: str) -> Model:
        """The network of a run: section `model` with the run's overrides.

        A run with another network begins with that network's defaults.
        """
        changes, base = self.runs[run].model, self.model
        if changes.get("name", base.name) != base.name:
            base = Model(name=base.name)
        return _overridden(base, changes, f"runs.{run}.model")

    def train_of(self, run: str) -> Train:
        """The optimisation of a run: section `train` with the run's overrides."""
        return _overridden(self.train, self.runs[run].train, f"runs.{run}.train")

    def predict_of(self, run: str) -> Predict:
        """How a run predicts: section `predict` with the run's overrides."""
        return _overridden(self.predict, self.runs[run].predict, f"runs.{run}.predict")

    def seeds_of(self, run: str) -> list[int]:
        """The seeds of a run; of an import as many as it has folders of predictions, called as those of the runs."""
        if run not in self.imports:
            return self.seeds
        number, following = len(self.imports[run].predictions), max(self.seeds) + 1
        return [*self.seeds, *range(following, following + number)][:number]

    def keys_of(self, run: str) -> list[str]:
        """The `run-seed` of a run or import."""
        return [f"{run}-{seed}" for seed in self.seeds_of(run)]

    def trained_keys(self) -> list[str]:
        """All `run-seed` that are trained here, in the order of runs, then seeds."""
        return [key for run in self.runs for key in self.keys_of(run)]

    def all_keys(self) -> list[str]:
        """All `run-seed`: those that are trained, then those that are imported."""
        return [key for run in (*self.runs, *self.imports) for key in self.keys_of(run)]

    def crf_keys(self) -> list[str]:
        """The `run-seed` of runs that ask for the CRF."""
        return self._keys(self.crf.runs, self.refinable())

    def refinable(self) -> list[str]:
        """Runs with probabilities of val and test: those that are trained, and some imports."""
        return [*self.runs, *(name for name, section in self.imports.items() if section.refinable)]

    def decided_keys(self) -> list[str]:
        """What is read by fitted rules: `run-seed`, `run-seed-crf` and names of ensembles.

        Raises:
            ConfigError: a pattern of decide.of matches nothing.
        """
        refined = list(dict.fromkeys(key.rpartition("-")[0] for key in self.crf_keys()))
        names = {run: self.keys_of(run) for run in self.refinable()}
        names |= {f"{run}-crf": [f"{key}-crf" for key in self.keys_of(run)] for run in refined}
        names |= {method: [method] for method in self.ensemble if method not in names}
        voting = {
            name for name, section in self.ensemble.items()
            if spec.choose(METHODS, "ensemble method", section.method)[0].attributes.get("votes")
        }  # fmt: skip
        for pattern in self.decide.of:
            if pattern in voting:
                raise ConfigError(
                    f"decide.of: ensemble '{pattern}' votes, and has no probabilities that a rule could read"
                )
            known = pattern in registry.entries(METHODS)  # an ensemble that is not asked for here is no mistake
            if not known and not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(f"decide.of: '{pattern}' matches no result{suggestion(pattern, names)}")
        chosen = [
            name for name in names if name not in voting and any(fnmatchcase(name, p) for p in self.decide.of)
        ]  # fmt: skip
        return [key for name in chosen for key in names[name]]

    def fold_keys(self) -> list[str]:
        """The `run-seed` of runs that are trained on folds too."""
        return self._keys(self.folds.runs, list(self.runs))

    def _keys(self, patterns: list[str], runs: list[str]) -> list[str]:
        chosen = [run for run in runs if any(fnmatchcase(run, pattern) for pattern in patterns)]
        return [key for run in chosen for key in self.keys_of(run)]

    def members_of(self, method: str) -> list[str]:
        """The members that an ensemble's patterns choose.

        Plain patterns mean `run-seed`. A pattern with -snap means snapshots (`run-seed-snapN`), with -look single
        looks of a prediction (`run-seed-lookN`: passes, mirror images, sizes), with -crf what the CRF made of a run.

        Imports of label maps take part in votes alone, imports without val in nothing.

        Raises:
            ConfigError: a pattern matches nothing.
        """
        entry = spec.choose(METHODS, "ensemble method", self.ensemble[method].method)[0]
        usable = self.refinable()
        if entry.attributes.get("votes"):
            usable += [run for run, section in self.imports.items() if section.votes and run not in usable]
        kinds = {
            "-snap": self.snapshot_keys(),
            "-look": self.look_keys(),
            "-crf": [f"{key}-crf" for key in self.crf_keys()],
            "": [key for run in usable for key in self.keys_of(run)],
        }
        chosen = []
        for pattern in self.ensemble[method].members:
            known = next(keys for mark, keys in kinds.items() if mark in pattern)
            found = [key for key in known if fnmatchcase(key, pattern)]
            if not found:
                imported = any(fnmatchcase(key, pattern) for run in self.imports for key in self.keys_of(run))
                why = (
                    "; imports of label maps join votes alone, and those without val or with pixels of no class nothing"
                    if imported else suggestion(pattern, known)
                )  # fmt: skip
                raise ConfigError(f"ensemble.{method}.members: '{pattern}' matches no member{why}")
            chosen += found
        order = [key for mark in ("", "-snap", "-look", "-crf") for key in kinds[mark]]
        return sorted(set(chosen), key=order.index)


def _overridden(section: _S, changes: dict[str, Any], where: str) -> _S:
    """A section with a run's changes; an error names the run's key."""
    try:
        return type(section)(**_merged(section.given(), changes, where))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *map(str, first["loc"])])
        raise ConfigError(f"{path}: {sentence(first, type(section))}") from None


def _merged(base: dict[str, Any], changes: dict[str, Any], where: str) -> dict[str, Any]:
    """`base` with nested `changes`; a key that does not exist is an error unless it is an option of a model."""
    merged = dict(base)
    for key, value in changes.items():
        if key not in base and not where.endswith(".model"):
            raise ConfigError(f"{where}.{key} is no parameter{suggestion(key, base)}")
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value, f"{where}.{key}") if nested else value
    return merged
