"""The parameters as frozen, checked models: what may stand in params.yaml."""

from __future__ import annotations

import math
import re
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from segpipe import losses, models
from segpipe.core.errors import ConfigError, suggestion
from segpipe.data.frequencies import SCHEMES
from segpipe.training import parts
from segpipe.training.schedules import cycle_ends

NAME = re.compile(r"^[a-z][a-z0-9_]*$")  # DVC matrix names: no dash, no at sign

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
_T = TypeVar("_T")
_S = TypeVar("_S", bound="Section")
Candidates = Annotated[list[_T], Field(min_length=1)]
Whole = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


# Texts that name a part of the training and its options.
Optimizer = Annotated[str, AfterValidator(partial(parts.check, "optimizer"))]
Schedule = Annotated[str, AfterValidator(partial(parts.check, "schedule"))]
Averaging = Annotated[str, AfterValidator(partial(parts.check, "averaging"))]
Sampling = Annotated[str, AfterValidator(partial(parts.check, "sampling"))]
Targets = Annotated[str, AfterValidator(partial(parts.check, "targets"))]


def _loss(spec: str) -> str:
    losses.check(spec)
    for scheme in losses.scheme_names(spec):
        if scheme not in SCHEMES:
            raise ConfigError(f"unknown class weights '{scheme}'{suggestion(scheme, SCHEMES)}")
    return spec


class Section(BaseModel):
    """A part of params.yaml: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Download(Section):
    """Which dataset, from where, how much of it."""

    dataset: str
    source: str | None = None
    limit: Count | None = None


class Prepare(Section):
    """The network's grid, the label choice and the normalisation."""

    height: Annotated[int, Field(ge=16)]
    width: Annotated[int, Field(ge=16)]
    labels: Annotated[str, Field(pattern=r"^(majority|annotator [1-9][0-9]*)$")]
    normalization: Literal["zscore", "minmax", "piecewise_linear", "half_normal"]
    max_padding: Share


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
    """The optimisation, shared by all runs unless a run overrides it."""

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
        return self


class Run(Section):
    """One training configuration; `model` and `train` override the sections of that name."""

    loss: Annotated[str, AfterValidator(_loss)]
    uncertainty: bool = False  # learn the weights of the loss's terms
    teacher: str | None = None  # another run, whose network of the same seed gives targets
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}


class Folds(Section):
    """Which runs (patterns) are also trained with a fold of the images held out, for the label audit."""

    runs: list[str]
    number: Annotated[int, Field(ge=2, le=20)]


class Predict(Section):
    """How logits are computed, see `training.inference.Options`."""

    batch_size: Count
    flips: bool = False
    scales: Candidates[Annotated[float, Field(ge=0.25, le=4)]] = [1.0]
    window: Annotated[list[Annotated[int, Field(ge=16)]], Field(min_length=2, max_length=2)] | None = None
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    passes: Whole = 0


class Tune(Section):
    """How the CRF is searched, coarse to fine; no CRF competes too."""

    metric: str
    images: Count
    points: Count
    iterations: Count
    unary_scale: Candidates[Positive]
    pos_w: Candidates[NotNegative]
    pos_xy_std: Candidates[Positive]
    bi_w: Candidates[NotNegative]
    bi_xy_std: Candidates[Positive]
    bi_rgb_std: Candidates[Positive]

    @property
    def grid(self) -> dict[str, list[float]]:
        """The lists, by parameter of the CRF."""
        return {name: value for name, value in self if isinstance(value, list)}

    @model_validator(mode="after")
    def _affordable(self) -> Tune:
        number = math.prod(map(len, self.grid.values()))
        if number > self.points:
            raise ConfigError(f"the grid has {number} points, the budget is {self.points}: raise it or shorten a list")
        return self


class Crf(Section):
    """Which runs get a dense CRF (patterns), and how it is tuned."""

    runs: list[str]
    tune: Tune


class Ensemble(Section):
    """One ensemble: how its members vote and which they are (patterns of run-seed)."""

    method: Literal["average", "plurality"]
    members: list[str] = ["*"]


class Evaluate(Section):
    """What the scores are made of."""

    bins: Annotated[int, Field(ge=2, le=1000)]
    quantiles: list[Annotated[float, Field(gt=0, le=100)]]
    thresholds: list[Share]
    trimap: list[Count]
    boundary: Annotated[float, Field(gt=0, le=1)]
    surface: bool
    resamples: Annotated[int, Field(ge=100, le=100_000)]
    pictures: Count


class Report(Section):
    """What the report shows first."""

    metric: str


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
    evaluate: Evaluate
    report: Report

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """An empty run or ensemble is {}; its name then says loss or method."""
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        for section, key, known in (("runs", "loss", losses.names()), ("ensemble", "method", ("average", "plurality"))):
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
                    raise ConfigError(f"{section}.{name}: a name must match [a-z][a-z0-9_]*")
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds {self.seeds} repeat; give each once")
        for section_name, patterns in (("crf", self.crf.runs), ("folds", self.folds.runs)):
            for pattern in patterns:
                if not any(fnmatchcase(run, pattern) for run in self.runs):
                    raise ConfigError(
                        f"{section_name}.runs: '{pattern}' matches no run{suggestion(pattern, self.runs)}"
                    )
        for method in self.ensemble:
            self.members_of(method)
        for name in self.runs:
            self.model_of(name)
            self._check_teacher(name)
        return self

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

    def all_keys(self) -> list[str]:
        """All `run-seed`, in the order of runs, then seeds."""
        return [f"{run}-{seed}" for run in self.runs for seed in self.seeds]

    def crf_keys(self) -> list[str]:
        """The `run-seed` of runs that ask for the CRF."""
        return self._keys(self.crf.runs)

    def fold_keys(self) -> list[str]:
        """The `run-seed` of runs that are trained on folds too."""
        return self._keys(self.folds.runs)

    def _keys(self, patterns: list[str]) -> list[str]:
        chosen = [run for run in self.runs if any(fnmatchcase(run, pattern) for pattern in patterns)]
        return [f"{run}-{seed}" for run in chosen for seed in self.seeds]

    def members_of(self, method: str) -> list[str]:
        """The `run-seed` that an ensemble's patterns choose; snapshots only where a pattern says -snap.

        Raises:
            ConfigError: a pattern matches nothing.
        """
        patterns = self.ensemble[method].members
        for pattern in patterns:
            known = self.snapshot_keys() if "-snap" in pattern else self.all_keys()
            if not any(fnmatchcase(key, pattern) for key in known):
                raise ConfigError(f"ensemble.{method}.members: '{pattern}' matches no run{suggestion(pattern, known)}")
        plain, snapped = ([p for p in patterns if ("-snap" in p) == wanted] for wanted in (False, True))
        chosen = [key for key in self.all_keys() if any(fnmatchcase(key, pattern) for pattern in plain)]
        return chosen + [key for key in self.snapshot_keys() if any(fnmatchcase(key, pattern) for pattern in snapped)]


def _overridden(section: _S, changes: dict[str, Any], where: str) -> _S:
    """A section with a run's changes; an error names the run's key."""
    try:
        return type(section)(**_merged(section.model_dump(), changes, where))
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
