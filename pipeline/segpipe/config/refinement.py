"""The section of params.yaml for what refines predictions: its keys are those of the refiner it names."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, model_validator

from segpipe import refine
from segpipe.config.sections import Count, Section
from segpipe.core import registry
from segpipe.core.errors import ConfigError, suggestion
from segpipe.core.registry import Entry


def _refiner(name: str) -> str:
    if "tuned" not in refine.find(name).attributes:
        raise ConfigError(f"crf.refiner: '{name}' is a rule; name it in decide.rules")
    return name


class Tune(Section):
    """How a refiner is searched, coarse to fine; no refiner competes too. Beside these keys stand the refiner's own:
    a list of candidates for each number that is searched, a value for each other number.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    metric: str
    images: Count
    points: Count

    @model_validator(mode="before")
    @classmethod
    def _floats(cls, data: Any) -> Any:
        """Candidates are real numbers, however they are written."""
        if not isinstance(data, dict):
            return data
        return {
            key: [float(v) if type(v) is int else v for v in value] if isinstance(value, list) else value
            for key, value in data.items()
        }

    @property
    def numbers(self) -> dict[str, Any]:
        """The refiner's own keys."""
        return dict(self.model_extra or {})


class Crf(Section):
    """Which runs are refined (patterns), by which refiner, and how it is tuned."""

    runs: list[str]
    refiner: Annotated[str, AfterValidator(_refiner)] = "crf"
    tune: Tune

    @property
    def entry(self) -> Entry:
        """The refiner."""
        return refine.find(self.refiner)

    @property
    def candidates(self) -> dict[str, list[float]]:
        """The lists, by number of the refiner."""
        return {name: self.tune.numbers[name] for name in self.entry.attributes["tuned"]}

    @property
    def fixed(self) -> dict[str, Any]:
        """The refiner's numbers that are not searched."""
        return {name: value for name, value in self.tune.numbers.items() if name not in self.candidates}

    def check(self) -> None:
        """ConfigError when a number is none of the refiner's, missing or out of range; it names its path."""
        entry, given = self.entry, self.tune.numbers
        tuned = entry.attributes["tuned"]
        for name, value in given.items():
            if name not in entry.options:
                known = [*Tune.model_fields, *entry.options]
                raise ConfigError(f"crf.tune.{name}: unknown key{suggestion(name, known)}")
            if name not in tuned:
                registry.check_options("refiner", entry, {name: value})
        for name in tuned:
            if name not in given:
                raise ConfigError(f"crf.tune.{name}: this key is missing; add it")
            _check_candidates(name, given[name], zero=name in entry.attributes["may_be_zero"])
        number = math.prod(map(len, self.candidates.values()))
        if number > self.tune.points:
            raise ConfigError(
                f"crf.tune: the grid has {number} points, the budget is {self.tune.points}: raise it or shorten a list"
            )


def _check_candidates(name: str, values: Any, *, zero: bool) -> None:
    """ConfigError unless these are numbers to choose among."""
    wanted = f"a list of at least 1 item, each a number {'from 0 on' if zero else 'greater than 0'}"
    numbers = isinstance(values, list) and all(type(v) in (int, float) and math.isfinite(v) for v in values)
    if not numbers or not values or not all(v > 0 or (zero and v == 0) for v in values):
        raise ConfigError(f"crf.tune.{name}: found {values!r}, wanted {wanted}")
