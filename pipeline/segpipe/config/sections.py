"""The sections of params.yaml as frozen, checked models."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from segpipe import models, refine
from segpipe.core import spec
from segpipe.core.errors import ConfigError, suggestion
from segpipe.data.frequencies import SCHEMES
from segpipe.losses import Compound
from segpipe.metrics import measures
from segpipe.metrics.measures import DEFAULT
from segpipe.training import parts
from segpipe.training.recipes import AUTO, fill
from segpipe.training.schedules import Place, cycle_ends, factor

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
_T = TypeVar("_T")
Candidates = Annotated[list[_T], Field(min_length=1)]
Whole = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
METHODS = "segpipe.ensembles.methods"  # by name: params.yaml is checked without their code


# Texts that name a part of the training and its options.
Optimizer = Annotated[str, AfterValidator(partial(parts.check, "optimizer"))]
Schedule = Annotated[str, AfterValidator(partial(parts.check, "schedule"))]
Averaging = Annotated[str, AfterValidator(partial(parts.check, "averaging"))]
Sampling = Annotated[str, AfterValidator(partial(parts.check, "sampling"))]
Targets = Annotated[str, AfterValidator(partial(parts.check, "targets"))]


def _method(text: str) -> str:
    spec.choose(METHODS, "ensemble method", text)
    return text


def _measures(names: list[str]) -> list[str]:
    for name in names:
        measures.entry(name)
    if len(set(names)) < len(names):
        raise ConfigError(f"{names} repeat; give each once")
    return names


def _loss(text: Any) -> Any:
    """A text as the loss that it names, class weights checked; what is no text is pydantic's to refuse."""
    if not isinstance(text, str):
        return text
    loss = Compound.read(text)
    for scheme in loss.schemes:
        if scheme not in SCHEMES:
            raise ConfigError(f"unknown class weights '{scheme}'{suggestion(scheme, SCHEMES)}")
    return loss


Loss = Annotated[Compound, BeforeValidator(_loss), PlainSerializer(str, return_type=str)]


class Section(BaseModel):
    """A part of params.yaml: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    def given(self) -> dict[str, Any]:
        """The values as they were written, which a run's overrides begin from."""
        return self.model_dump()


class Download(Section):
    """Which dataset, from where, how much of it."""

    dataset: str
    source: str | None = None
    limit: Count | None = None


class Prepare(Section):
    """The network's grid (null: every image keeps its size), the label choice and the normalisation."""

    height: Annotated[int, Field(ge=16)] | None
    width: Annotated[int, Field(ge=16)] | None
    labels: Annotated[str, Field(pattern=r"^(majority|annotator [1-9][0-9]*)$")]
    normalization: Literal["zscore", "minmax", "piecewise_linear", "half_normal", "symmetric", "imagenet"]
    max_padding: Share

    @model_validator(mode="after")
    def _both(self) -> Prepare:
        if (self.height is None) != (self.width is None):
            raise ConfigError("one of height and width is null; give both, or set both to null for images as they are")
        return self

    @property
    def grid(self) -> tuple[int, int] | None:
        """(height, width), None where every image keeps its size."""
        return None if self.height is None or self.width is None else (self.height, self.width)


class Stats(Section):
    """Numbers of the class-weight schemes."""

    effective_beta: Annotated[float, Field(gt=0, lt=1)]


class Model(Section):
    """The network and its options."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
    name: str
    weights: str | None = None  # a file of weights to start from

    @model_validator(mode="after")
    def _known(self) -> Model:
        models.check(self.name, self.options)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Everything but name and weights."""
        return dict(self.model_extra or {})


class Augment(Section):
    """Random changes of training images, see `data.augment.Augmentation`; the defaults switch them off."""

    scale: Annotated[list[Positive], Field(min_length=2, max_length=2)] = [1.0, 1.0]
    flip: Share = 0.0
    flip_vertical: Share = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    color: Share = 0.0
    blur: Share = 0.0
    cutout: Share = 0.0
    crop: Annotated[list[Annotated[int, Field(ge=16)]], Field(min_length=2, max_length=2)] | None = None
    max_class: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        if self.scale[0] > self.scale[1]:
            raise ConfigError(f"scale is {self.scale}, wanted [smallest, largest]")
        return self


class Lookahead(Section):
    """Slow weights around the optimiser; steps 0 switches them off."""

    steps: Whole = 0
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5


class Train(Section):
    """The optimisation, shared by all runs unless a run overrides it; `recipe` chooses what is `auto`."""

    recipe: Literal["scratch", "finetune"] = "scratch"
    epochs: Count
    budget: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of the epochs that a run takes
    batch_size: Count
    accumulate: Count = 1
    optimizer: Optimizer = "adamw"
    lookahead: Lookahead = Lookahead()
    lr: Positive
    weight_decay: NotNegative
    schedule: Schedule
    warmup_epochs: NotNegative
    clip: Positive | None = None
    encoder_rate: Annotated[float, Field(ge=0, le=10)] = 1.0  # factor of lr for the encoder
    decay_norms: bool = True
    frozen_norms: bool = False
    averaging: Averaging = "none"
    patience: Count | None = None
    sampling: Sampling = "uniform"
    targets: Targets = "hard"
    sizes: Candidates[Annotated[float, Field(ge=0.25, le=4)]] = [1.0]
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    augment: Augment
    workers: Whole

    _automatic: frozenset[str] = frozenset()  # what the recipe chose

    @model_validator(mode="wrap")
    @classmethod
    def _by_recipe(cls, data: object, build: ModelWrapValidatorHandler[Train]) -> Train:
        """Parameters that are `auto` as the recipe has them."""
        if not isinstance(data, dict):
            return build(data)
        filled = fill(data, data.get("recipe", "scratch"))
        found = build(filled)
        found._automatic = frozenset(key for key, value in data.items() if filled[key] != value)
        return found

    def given(self) -> dict[str, Any]:
        """The values as they were written."""
        return {key: AUTO if key in self._automatic else value for key, value in self.model_dump().items()}

    @property
    def own_epochs(self) -> int:
        """The epochs within the budget."""
        return max(1, round(self.epochs * self.budget))

    @model_validator(mode="after")
    def _fitting(self) -> Train:
        cycles = parts.snapshots(self.schedule)
        if cycles:
            cycle_ends(self.own_epochs, cycles)
            if self.patience is not None:
                raise ConfigError("patience would end a run before its snapshots; set it to null")
        factor(self.schedule, Place(0, self.own_epochs, 1))  # refuses options out of range
        if self.warmup_epochs > self.own_epochs:
            raise ConfigError(f"warmup_epochs is {self.warmup_epochs}, wanted at most the {self.own_epochs} epochs")
        semi = parts.options("targets", self.targets)[0] == "semi_supervised"
        if semi and (parts.options("sampling", self.sampling)[0] != "uniform" or self.augment.max_class < 1):
            raise ConfigError(
                "targets 'semi_supervised' hide labels that sampling and augment.max_class would use; unset them"
            )
        return self


class Run(Section):
    """One training configuration; `model`, `train` and `predict` override the sections of that name."""

    loss: Loss
    uncertainty: bool = False  # learn the weights of the loss's terms
    teacher: str | None = None  # another run, whose network of the same seed gives targets
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    predict: dict[str, Any] = {}

    @staticmethod
    def of_loss(text: str) -> Run:
        """The run of a loss on the command line; ConfigError says what is wrong with it."""
        try:
            return Run.model_validate({"loss": text})
        except ValidationError as error:
            raise ConfigError(str(error.errors()[0]["ctx"]["error"])) from None


class Folds(Section):
    """Which runs (patterns) are also trained without each fold of the train images: cross-validation, label audit."""

    runs: list[str]
    number: Annotated[int, Field(ge=2, le=100)]


class Predict(Section):
    """How logits are computed, see `training.inference.Options`."""

    batch_size: Count
    flips: bool = False
    scales: Candidates[Annotated[float, Field(ge=0.25, le=4)]] = [1.0]
    window: Annotated[list[Annotated[int, Field(ge=16)]], Field(min_length=2, max_length=2)] | None = None
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    passes: Whole = 0
    stride: Annotated[int, Field(ge=1, le=32)] | None = None


class Ensemble(Section):
    """One ensemble: its method with options, and its members (patterns of run-seed, see `Params.members_of`)."""

    method: Annotated[str, AfterValidator(_method)]
    members: Candidates[str] = ["*"]

    @property
    def folds(self) -> bool:
        """True when the fit sees the train images, each through networks that did not."""
        return spec.choose(METHODS, "ensemble method", self.method)[1].get("folds", False) is True


def _chains(texts: list[str]) -> list[str]:
    for text in texts:
        if not refine.links(text):
            raise ConfigError("argmax always competes; name rules alone, for example [weights, prior]")
    return texts


class Decide(Section):
    """Which results (patterns of runs, of run-crf, of ensembles) are read by a fitted rule, for which scores."""

    of: list[str] = []
    rules: Annotated[Candidates[str], AfterValidator(_chains)] = ["weights", "prior", "rankseg"]
    metrics: Candidates[str] = ["miou_dataset"]


class Evaluate(Section):
    """What the scores are made of."""

    bins: Annotated[int, Field(ge=2, le=1000)]
    quantiles: list[Annotated[float, Field(gt=0, le=100)]]
    thresholds: list[Share]
    trimap: list[Count]
    boundary: Annotated[float, Field(gt=0, le=1)]
    surface: bool
    measures: Annotated[Candidates[str], AfterValidator(_measures)] = list(DEFAULT)
    pictures: Count

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, data: Any) -> Any:
        """`resamples` was of a bootstrap that is no more: files that have it go on working."""
        return {k: v for k, v in data.items() if k != "resamples"} if isinstance(data, dict) else data


class Report(Section):
    """What the report shows first, and which differences matter."""

    metric: str
    equivalence: Annotated[float, Field(ge=0, le=100)] = 1.0  # points: a smaller difference does not matter


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
