"""The parameters as frozen, checked models: what may stand in params.yaml."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from segpipe import losses
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
)
from segpipe.core import registry, spec
from segpipe.core.errors import ConfigError, suggestion
from segpipe.training import parts

# DVC matrix names: no dash, no at sign; and file names everywhere, so short and no device of Windows.
NAME = re.compile(r"(?!(?:con|prn|aux|nul|com[0-9]|lpt[0-9])\Z)[a-z][a-z0-9_]{0,63}\Z")
NAME_RULE = "[a-z][a-z0-9_]*, have at most 64 characters and not be a device name such as con"
_S = TypeVar("_S", bound=Section)


class Params(Section):
    """All of params.yaml."""

    threads: Count
    download: Download
    prepare: Prepare
    stats: Stats
    model: Model
    train: Train
    seeds: Annotated[list[Whole], Field(min_length=1)]
    runs: Annotated[dict[str, Run], Field(min_length=1)]
    folds: Folds
    predict: Predict
    crf: Crf
    ensemble: dict[str, Ensemble]
    decide: Decide = Decide()
    evaluate: Evaluate
    report: Report

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """An empty run or ensemble is {}; its name then says loss or method."""
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        for section, key, known in (
            ("runs", "loss", losses.names()),
            ("ensemble", "method", registry.entries(METHODS)),
        ):
            entries = data.get(section)
            if section == "ensemble" and entries is None and section in data:
                entries = {}
            if isinstance(entries, dict):
                filled[section] = {
                    name: ({key: name} if name in known and isinstance(value or {}, dict) else {}) | (value or {})
                    if isinstance(value or {}, dict)
                    else value
                    for name, value in entries.items()
                }
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        for section, names in (("runs", self.runs), ("ensemble", self.ensemble)):
            for name in names:
                if not NAME.match(name):
                    raise ConfigError(f"{section}.{name[:80]!r}: a name must match {NAME_RULE}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds {self.seeds} repeat; give each once")
        self.crf.check()
        for section_name, patterns in (("crf", self.crf.runs), ("folds", self.folds.runs)):
            for pattern in patterns:
                if not any(fnmatchcase(run, pattern) for run in self.runs):
                    raise ConfigError(
                        f"{section_name}.runs: '{pattern}' matches no run{suggestion(pattern, self.runs)}"
                    )
        for name in self.runs:
            self.model_of(name)
            self.predict_of(name)
            self._check_teacher(name)
            self._check_targets(name)
        for method in self.ensemble:
            self._check_folds(method)
        self.decided_keys()
        return self

    def _check_folds(self, method: str) -> None:
        """A fit out of fold needs networks of every fold."""
        for key in self.members_of(method):
            if self.ensemble[method].folds and key not in self.fold_keys():
                raise ConfigError(
                    f"ensemble.{method}: folds=true needs networks that left out each fold, and '{key}' has none; "
                    "add its run to folds.runs, and name runs alone (no -snap, -look or -crf)"
                )

    def _check_targets(self, name: str) -> None:
        """Losses that want hard labels do not meet soft targets."""
        source, options = parts.options("targets", self.train_of(name).targets)
        if source == "hard" or options.get("combine") == "random":
            return
        given = options.get("loss", "run")
        if given != "run" and not losses.takes_soft_labels(given):
            raise ConfigError(
                f"runs.{name}: targets '{source}': loss is {given!r}, wanted run, ce or another loss of soft labels"
            )
        for term in self.runs[name].loss.terms:
            if losses.wants_hard_labels(term):
                raise ConfigError(
                    f"runs.{name}: loss '{term}' wants hard labels, targets '{source}' are soft; change one"
                )

    def _check_teacher(self, name: str) -> None:
        """Distillation needs a teacher, nothing else takes one, and nobody learns from itself."""
        where, teacher = f"runs.{name}", self.runs[name].teacher
        wants = parts.options("targets", self.train_of(name).targets)[0] == "distillation"
        if wants and teacher is None:
            raise ConfigError(f"{where}: targets 'distillation' need a teacher; add teacher: with the name of a run")
        if teacher is None:
            return
        if not wants:
            raise ConfigError(
                f"{where}.teacher: only targets 'distillation' take a teacher; set train.targets or remove it"
            )
        if teacher not in self.runs:
            raise ConfigError(f"{where}.teacher: unknown run '{teacher}'{suggestion(teacher, self.runs)}")
        if name in self.teachers_of(name):
            raise ConfigError(f"{where}.teacher: '{name}' would learn from itself; choose another run")
        if any(fnmatchcase(name, pattern) for pattern in self.folds.runs):
            raise ConfigError(
                f"folds.runs: '{name}' has a teacher, which has seen the images of every fold; leave it out"
            )

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

    def all_keys(self) -> list[str]:
        """All `run-seed`, in the order of runs, then seeds."""
        return [f"{run}-{seed}" for run in self.runs for seed in self.seeds]

    def crf_keys(self) -> list[str]:
        """The `run-seed` of runs that ask for the CRF."""
        return self._keys(self.crf.runs)

    def decided_keys(self) -> list[str]:
        """What is read by fitted rules: `run-seed`, `run-seed-crf` and names of ensembles.

        Raises:
            ConfigError: a pattern of decide.of matches nothing.
        """
        refined = list(dict.fromkeys(key.rpartition("-")[0] for key in self.crf_keys()))
        names = {run: [f"{run}-{seed}" for seed in self.seeds] for run in self.runs}
        names |= {f"{run}-crf": [f"{run}-{seed}-crf" for seed in self.seeds] for run in refined}
        names |= {method: [method] for method in self.ensemble if method not in self.runs}
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
        return self._keys(self.folds.runs)

    def _keys(self, patterns: list[str]) -> list[str]:
        chosen = [run for run in self.runs if any(fnmatchcase(run, pattern) for pattern in patterns)]
        return [f"{run}-{seed}" for run in chosen for seed in self.seeds]

    def members_of(self, method: str) -> list[str]:
        """The members that an ensemble's patterns choose.

        Plain patterns mean `run-seed`. A pattern with -snap means snapshots (`run-seed-snapN`), with -look single
        looks of a prediction (`run-seed-lookN`: passes, mirror images, sizes), with -crf what the CRF made of a run.

        Raises:
            ConfigError: a pattern matches nothing.
        """
        kinds = {
            "-snap": self.snapshot_keys(),
            "-look": self.look_keys(),
            "-crf": [f"{key}-crf" for key in self.crf_keys()],
            "": self.all_keys(),
        }
        chosen = []
        for pattern in self.ensemble[method].members:
            known = next(keys for mark, keys in kinds.items() if mark in pattern)
            found = [key for key in known if fnmatchcase(key, pattern)]
            if not found:
                raise ConfigError(
                    f"ensemble.{method}.members: '{pattern}' matches no member{suggestion(pattern, known)}"
                )
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


def sentence(error: Any, section: Any) -> str:
    """One pydantic error as found, wanted, next."""
    if error["type"] == "extra_forbidden":
        known = section.model_fields if hasattr(section, "model_fields") else {}
        return f"unknown key{suggestion(str(error['loc'][-1]), known)}"
    if error["type"] == "missing":
        return "this key is missing; add it"
    cause = (error.get("ctx") or {}).get("error")
    if cause is not None:
        return str(cause)
    if error["type"] == "string_pattern_mismatch":
        return f"found {error['input']!r}, wanted the form {error['ctx']['pattern']}"
    wanted = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"found {error['input']!r}, wanted {wanted}"
