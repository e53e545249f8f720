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
    ids: dict[str, Whole] = Field(default_factory=dict)  # the class of an id, where it is another number
    shift: int = 0  # added to every other id
    resize: bool = False  # of predictions of another size
    multiply_adds: Count | None = None

    @model_validator(mode="after")
    def _sound(self) -> Import:
        if "test" not in self.splits or len(set(self.splits)) < len(self.splits):
            raise ConfigError(f"splits is {self.splits}, wanted [test] or [val, test]")
        for number in self.ids:
            if not number.isdecimal():
                raise ConfigError(f"ids has the key '{number}', wanted a number such as \"7\"")
        return self

    @property
    def whole(self) -> bool:
        """Whether val is predicted too, which fits and chooses."""
        return "val" in self.splits

    @property
    def refinable(self) -> bool:
        """Whether a CRF, a rule or an ensemble of probabilities can be made of it."""
        return self.whole and self.holds != "labels"
