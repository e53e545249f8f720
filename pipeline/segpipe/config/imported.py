"""Predictions of other tools, as params.yaml names them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from segpipe.config.sections import Candidates, Count, Section, Whole
from segpipe.core.errors import ConfigError


class Import(Section):
    """Predictions that enter as a run. predictions: a folder for each seed. multiply_adds: of an image, where known."""

    predictions: Candidates[str]
    holds: Literal["labels", "probs", "logits"]
    splits: Candidates[Literal["val", "test"]] = Field(default=["val", "test"])
    ids: dict[str, Whole] = Field(default_factory=dict)  # the class of each id, where these are other numbers
    shift: int = 0  # added to every id
    resize: bool = False  # of predictions of another size
    rejects: bool = False  # label maps leave pixels without a class
    multiply_adds: Count | None = None

    @model_validator(mode="after")
    def _sound(self) -> Import:
        if "test" not in self.splits or len(set(self.splits)) < len(self.splits):
            raise ConfigError(f"splits is {self.splits}, wanted [test] or [val, test]")
        if len(set(self.predictions)) < len(self.predictions):
            raise ConfigError("predictions name a folder twice; give one folder for each seed")
        if self.ids and self.shift:
            raise ConfigError("ids and shift exclude each other; give one")
        for number in self.ids:
            if not number.isdecimal():
                raise ConfigError(f"ids has the key '{number}', wanted a number such as \"7\"")
        return self

    @property
    def whole(self) -> bool:
        """Whether val is predicted too, which fits and chooses."""
        return "val" in self.splits

    @property
    def votes(self) -> bool:
        """Whether it can take part in votes: these need a class everywhere."""
        return self.whole and not self.rejects

    @property
    def refinable(self) -> bool:
        """Whether a CRF, a rule or an ensemble of probabilities can be made of it."""
        return self.whole and self.holds != "labels"
