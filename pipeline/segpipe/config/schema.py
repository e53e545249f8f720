"""The parameters as frozen, checked models: what may stand in params.yaml."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from pydantic import model_validator

from segpipe import losses
from segpipe.config.names import Named
from segpipe.config.sections import METHODS
from segpipe.core import registry
from segpipe.core.errors import ConfigError, suggestion
from segpipe.training import parts

# DVC matrix names: no dash, no at sign; and file names everywhere, so short and no device of Windows.
NAME = re.compile(r"(?!(?:con|prn|aux|nul|com[0-9]|lpt[0-9])\Z)[a-z][a-z0-9_]{0,63}\Z")
NAME_RULE = "[a-z][a-z0-9_]*, have at most 64 characters and not be a device name such as con"


class Params(Named):
    """All of params.yaml, checked as a whole."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """An empty run or ensemble is {}; its name then says loss or method."""
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        if filled.get("imports", ...) is None:  # as YAML reads a section whose entries were deleted
            filled["imports"] = {}
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
        for section, names in (("runs", self.runs), ("imports", self.imports), ("ensemble", self.ensemble)):
            for name in names:
                if not NAME.match(name):
                    raise ConfigError(f"{section}.{name[:80]!r}: a name must match {NAME_RULE}")
        if not self.runs and not self.imports:
            raise ConfigError("runs is empty; name a loss, for example ce:")
        for name in self.imports.keys() & {*self.runs, *self.ensemble}:
            raise ConfigError(f"imports.{name}: a run or ensemble has this name; choose another")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds {self.seeds} repeat; give each once")
        self.crf.check()
        for where, patterns, runs in (
            ("crf", self.crf.runs, self.refinable()),
            ("folds", self.folds.runs, list(self.runs)),
        ):
            for pattern in patterns:
                if not any(fnmatchcase(run, pattern) for run in runs):
                    raise ConfigError(f"{where}.runs: '{pattern}' matches no run{suggestion(pattern, runs)}")
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
