"""params.yaml as frozen, checked models; every error names file, line and key path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from segpipe import losses, models, yaml12
from segpipe.core.errors import ConfigError, suggestion
from segpipe.core.files import digest_json
from segpipe.data.frequencies import SCHEMES

FILE = Path("params.yaml")
NAME = re.compile(r"^[a-z][a-z0-9_]*$")  # DVC matrix names: no dash, no at sign

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


def _loss(spec: str) -> str:
    losses.check(spec)
    for scheme in losses.scheme_names(spec):
        if scheme not in SCHEMES:
            raise ConfigError(f"unknown class weights '{scheme}'{suggestion(scheme, SCHEMES)}")
    return spec


class Section(BaseModel):
    """A part of params.yaml: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    normalization: Literal["zscore", "minmax"]
    max_padding: Share


class Stats(Section):
    """Numbers of the class-weight schemes."""

    effective_beta: Annotated[float, Field(gt=0, lt=1)]


class Model(Section):
    """The network and its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="after")
    def _known(self) -> Model:
        models.check(self.name, self.options)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class Augment(Section):
    """Random changes of training images; 1, 1 / 0 / 0 switch them off."""

    scale: tuple[Positive, Positive]
    flip: Share
    color: Share

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        if self.scale[0] > self.scale[1]:
            raise ConfigError(f"scale is {list(self.scale)}, wanted [smallest, largest]")
        return self


class Train(Section):
    """The optimisation, shared by all runs unless a run overrides it."""

    epochs: Count
    batch_size: Count
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["constant", "cosine", "polynomial"]
    warmup_epochs: Annotated[float, Field(ge=0)]
    augment: Augment
    workers: Whole


class Run(Section):
    """One training configuration; `model` and `train` override the sections of that name."""

    loss: Annotated[str, AfterValidator(_loss)]
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}


class Predict(Section):
    """How logits are computed."""

    batch_size: Count


class Crf(Section):
    """Which runs get a dense CRF (patterns), and the grid it is searched on; no CRF competes too."""

    runs: list[str]
    metric: str
    tune_images: Annotated[int, Field(ge=1, le=12)]
    iterations: Count
    pos_w: list[Annotated[float, Field(ge=0)]]
    pos_xy_std: list[Positive]
    bi_w: list[Annotated[float, Field(ge=0)]]
    bi_xy_std: list[Positive]
    bi_rgb_std: list[Positive]


class Ensemble(Section):
    """One ensemble: how its members vote and which they are (patterns of run-seed)."""

    method: Literal["average", "plurality"]
    members: list[str] = ["*"]


class Evaluate(Section):
    """What the scores are made of."""

    bins: Annotated[int, Field(ge=2, le=1000)]
    quantiles: list[Annotated[float, Field(gt=0, le=100)]]
    thresholds: list[Share]
    pictures: Whole


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
        for pattern in self.crf.runs:
            if not any(fnmatchcase(run, pattern) for run in self.runs):
                raise ConfigError(f"crf.runs: '{pattern}' matches no run{suggestion(pattern, self.runs)}")
        for method in self.ensemble:
            self.members_of(method)
        for name in self.runs:
            self.model_of(name)
            self.train_of(name)
        return self

    def model_of(self, run: str) -> Model:
        """The network of a run: section `model` with the run's overrides."""
        return Model(**_merged(self.model.model_dump(), self.runs[run].model, f"runs.{run}.model"))

    def train_of(self, run: str) -> Train:
        """The optimisation of a run: section `train` with the run's overrides."""
        try:
            return Train(**_merged(self.train.model_dump(), self.runs[run].train, f"runs.{run}.train"))
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(map(str, first["loc"]))
            raise ConfigError(f"runs.{run}.train.{path}: {_sentence(first, Train)}") from None

    def keys(self) -> list[str]:
        """All `run-seed`, in the order of runs, then seeds."""
        return [f"{run}-{seed}" for run in self.runs for seed in self.seeds]

    def crf_keys(self) -> list[str]:
        """The `run-seed` of runs that ask for the CRF."""
        return [
            f"{run}-{seed}"
            for run in self.runs
            for seed in self.seeds
            if any(fnmatchcase(run, pattern) for pattern in self.crf.runs)
        ]

    def members_of(self, method: str) -> list[str]:
        """The `run-seed` that an ensemble's patterns choose.

        Raises:
            ConfigError: a pattern matches nothing.
        """
        patterns = self.ensemble[method].members
        for pattern in patterns:
            if not any(fnmatchcase(key, pattern) for key in self.keys()):
                raise ConfigError(
                    f"ensemble.{method}.members: '{pattern}' matches no run{suggestion(pattern, self.keys())}"
                )
        return [key for key in self.keys() if any(fnmatchcase(key, pattern) for pattern in patterns)]


def load(path: Path = FILE, overrides: Iterable[str] = ()) -> Params:
    """The parameters of a file, with `a.b=value` overrides.

    Raises:
        ConfigError: file missing, not YAML, unknown key, wrong type or value; with the line.
    """
    return parse(read_text(path), str(path), overrides)


def read_text(path: Path = FILE) -> str:
    """The text of params.yaml."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing here; change into a segpipe folder or make one with `segpipe init scenes`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def parse(text: str, name: str = "params.yaml", overrides: Iterable[str] = ()) -> Params:
    """The parameters in a text; `name` stands in error messages."""
    try:
        data = yaml12.load(text)
        places = yaml12.nodes(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ConfigError(f"{name}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{name} holds {type(data).__name__}, wanted sections such as 'train:'")
    for override in overrides:
        _set(data, override)
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        sentence = _explained(first)
        named = re.match(r"[\w.]+", sentence)  # a check across sections names its path itself
        path = tuple(str(part) for part in first["loc"]) or tuple(named.group().split(".") if named else ())
        while path and path not in places:
            path = path[:-1]
        line = f":{places[path][0].start_mark.line + 1}" if path else ""
        raise ConfigError(f"{name}{line}: {sentence}") from None


def config_digest(*parts: Any) -> str:
    """A short name for a configuration: the first 16 hex digits of its sha256."""
    return digest_json([p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts])[:16]


def _merged(base: dict[str, Any], changes: dict[str, Any], where: str) -> dict[str, Any]:
    """`base` with nested `changes`; a key that does not exist is an error unless it is an option of a model."""
    merged = dict(base)
    for key, value in changes.items():
        if key not in base and not where.endswith(".model"):
            raise ConfigError(f"{where}.{key} is no parameter{suggestion(key, base)}")
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value, f"{where}.{key}") if nested else value
    return merged


def _set(data: dict[str, Any], override: str) -> None:
    """Apply one `a.b=value` to nested dicts; the path must exist or be a new option of an existing section."""
    path, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: wanted KEY=VALUE, for example train.epochs=3")
    parts = path.strip().split(".")
    node: Any = data
    for depth, part in enumerate(parts[:-1]):
        if isinstance(node, dict) and node.get(part) is None and depth > 0:
            node[part] = {}
        if not isinstance(node, dict) or part not in node:
            known = node if isinstance(node, dict) else {}
            raise ConfigError(f"--set {override}: no parameter '{'.'.join(parts[: depth + 1])}'{suggestion(part, known)}")
        node = node[part]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {override}: '{'.'.join(parts[:-1])}' holds a value, not a section")
    if len(parts) == 1 and parts[0] not in node:
        raise ConfigError(f"--set {override}: no parameter '{path}'{suggestion(path, node)}")
    node[parts[-1]] = yaml12.load(text)


def _explained(error: Any) -> str:
    """Key path, what was found, what was wanted."""
    path = ".".join(str(part) for part in error["loc"])
    section: Any = Params
    for part in error["loc"][:-1]:
        section = _field_type(section, str(part))
    return f"{path}: {_sentence(error, section)}" if path else _sentence(error, section)


def _sentence(error: Any, section: Any) -> str:
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


def _field_type(section: Any, name: str) -> Any:
    """The model behind a field, through dicts and lists, for near misses."""
    fields = getattr(section, "model_fields", None)
    if fields is None:
        return section
    annotation = fields[name].annotation if name in fields else None
    arguments = getattr(annotation, "__args__", ())
    for candidate in (annotation, *arguments):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
        for inner in getattr(candidate, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                return inner
    return None
