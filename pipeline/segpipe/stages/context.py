"""What every stage shares: parameters, places, locks, the result and the next command."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.core import files
from segpipe.core.errors import ConfigError, DataError, suggestion

if TYPE_CHECKING:
    from segpipe.params import Params

ADHOC = Path("runs/adhoc")
HIDDEN = Path(".segpipe")  # locks and checkpoints: outside of DVC's outputs

# Stages whose output is stale once the card says something else; DVC runs the others again when theirs changes.
_READ_CARD = ("download", "prepare")
_OF_PEOPLE = ("title", "licence", "source", "instructions", "notes", "files", "images", "params")  # keys of a card

_CRF = ("crf.tune", *(f"evaluate.{name}" for name in ("bins", "quantiles", "trimap", "resamples")))

# The parameters that a stage reads itself: what dvc.yaml names beside its inputs.
SECTIONS: dict[str, tuple[str, ...]] = {
    "download": ("download",),
    "prepare": ("prepare",),
    "stats": ("stats",),
    "train": ("threads", "model", "train", "runs.{run}"),
    "predict": ("threads", "predict", "runs.{run}"),
    "crf": ("threads", *_CRF),
    "ensemble": ("seeds", "runs", "ensemble.{method}"),
    "evaluate": ("evaluate",),
    "report": ("seeds", "runs", "crf.runs", "ensemble", "evaluate", "report"),
}
# The parameters that an output depends on, those of earlier stages included.
_DATA = ("download", "prepare", "stats")
_PREDICT = (*_DATA, "threads", "model", "train", "runs.{run}", "predict")
_ENSEMBLE = (*_DATA, "threads", "model", "train", "predict", "seeds", "runs", "ensemble.{method}")
_DEPENDS: dict[str, tuple[str, ...]] = {
    "download": ("download",),
    "prepare": ("download", "prepare"),
    "stats": _DATA,
    "train": _PREDICT[:-1],
    "predict": _PREDICT,
    "crf": (*_PREDICT, *_CRF),
    "ensemble": _ENSEMBLE,
    "evaluate": (*_PREDICT, "evaluate"),
    "evaluate crf": (*_PREDICT, "crf.tune", "evaluate"),
    "evaluate ensembles": (*_ENSEMBLE, "evaluate"),
    "report": (*_ENSEMBLE[:-1], "crf", "ensemble", "evaluate", "report"),
}
_SUFFIX = re.compile(r"(snap|look|crf)(\d*)")
_NEUTRAL = ("workers", "max_padding")  # parameters that cannot change a result


@dataclass
class Context:
    """One call of a stage. `base` is params.yaml, `params` it with overrides."""

    stage: str
    params: Params
    base: Params
    run: str = ""
    seed: int = 0
    fold: int | None = None  # held out of the training
    snapshot: int | None = None  # of the training, from 1
    look: int | None = None  # of the prediction, from 1: one alone, instead of the mean of all
    refined: bool = False  # as a member: what the CRF made of the prediction
    method: str = ""
    invented: bool = False  # the run comes from --loss, not from params.yaml
    device: str = "auto"
    dry_run: bool = False
    as_json: bool = False
    overrides: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """`run-seed`, `run-seed-foldN`, `run-seed-snapN` or `run-seed-lookN`."""
        suffix = "" if self.snapshot is None else f"-snap{self.snapshot}"
        return self.trained_key + suffix + ("" if self.look is None else f"-look{self.look}")

    @property
    def trained_key(self) -> str:
        """The key of the training, which all its snapshots share."""
        return f"{self.run}-{self.seed}" + ("" if self.fold is None else f"-fold{self.fold}")

    @property
    def teacher(self) -> Context | None:
        """The context of the run that gives targets to this one."""
        name = self.params.runs[self.run].teacher if self.run else None
        return None if name is None else self.member(f"{name}-{self.seed}")

    def digest(self, stage: str, variant: str = "", *, base: bool = False) -> str:
        """A name for all parameters that an output depends on."""
        from segpipe.params import config_digest

        if stage == "evaluate":
            stage = f"evaluate {variant or ('ensembles' if self.method else '')}".strip()
        chosen = self.base if base else self.params
        paths = [path.format(run=self.run, method=self.method) for path in _DEPENDS[stage]]
        of_run = "runs.{run}" in _DEPENDS[stage]
        if self.method:
            paths += more_of_ensemble(chosen, self.method)
        if of_run:
            paths += [f"runs.{name}" for name in chosen.teachers_of(self.run)]
        values: dict[str, Any] = {p: _lookup(chosen, p) for p in paths}
        if stage in _READ_CARD:
            values["card"] = card_digest(chosen.download.dataset)
        weights = chosen.model_of(self.run).weights if of_run else None
        if weights is not None and Path(weights).expanduser().is_file():
            values["weights"] = files.digest_file(Path(weights).expanduser())
        if self.method:
            values["members"] = chosen.members_of(self.method)  # patterns expand through runs, crf.runs, predict
        if self.fold is not None and of_run:
            return config_digest({**values, "folds.number": chosen.folds.number}, (self.seed, self.fold))
        if stage == "predict" and (self.snapshot is not None or self.look is not None):
            part = ("snapshot", self.snapshot) if self.look is None else ("look", self.look)
            return config_digest(values, (self.seed, *part))
        return config_digest(values, self.seed if of_run else None)

    def is_adhoc(self, stage: str, variant: str = "") -> bool:
        """True when the output differs from what params.yaml asks for, so DVC's folders stay untouched."""
        of_run = stage not in _DATA
        return (self.invented and of_run) or self.digest(stage, variant) != self.digest(stage, variant, base=True)

    def path(self, stage: str, *, variant: str = "") -> Path:
        """Where `stage` writes for this call's run, seed, method and parameters."""
        adhoc = self.is_adhoc(stage, variant)
        if stage in ("download", "prepare", "stats"):
            name = f"{stage}-{self.digest(stage)[:8]}"
            if stage == "download":
                dataset = self.params.download.dataset
                return ADHOC / name / dataset if adhoc else Path("data/download") / dataset
            if stage == "stats":
                return ADHOC / f"{name}.json" if adhoc else Path("data/stats.json")
            return ADHOC / name if adhoc else Path("data/prepare")
        if stage == "evaluate":
            kind = variant or ("ensembles" if self.method else "runs")
            return (ADHOC if adhoc else Path("results")) / kind / (self.method or self.key)
        if stage == "report":
            return ADHOC / "report" if adhoc else Path("results")
        name = self.method or (self.trained_key if stage == "train" else self.key)
        if stage == "train" and adhoc:
            return ADHOC / name
        return (ADHOC if adhoc else Path("data")) / stage / name

    def member(self, key: str, fold: int | None = None) -> Context:
        """The context of a member (`run-seed`, with -snapN, -lookN or -crf) under the same parameters."""
        run, seed, *more = key.split("-")
        kind, number = _SUFFIX.fullmatch(more[0]).groups() if more else ("", "")  # type: ignore[union-attr]
        return Context(
            self.stage, self.params, self.base, run=run, seed=int(seed), fold=fold, overrides=self.overrides,
            snapshot=int(number) if kind == "snap" else None, look=int(number) if kind == "look" else None,
            refined=kind == "crf",
        )  # fmt: skip

    def require(self, stage: str, *, variant: str = "") -> Path:
        """The output of an earlier stage, complete and made with these parameters."""
        path = self.path(stage, variant=variant)
        if not self.is_fresh(stage, path, variant):
            state = "was made with other parameters" if path.exists() and self._digest_at(path) else "is missing"
            raise DataError(f"{path} {state}; run `{self.command(stage, variant)}`")
        return path

    def command(self, stage: str, variant: str = "") -> str:
        """The command line of a stage with this call's selectors and overrides."""
        words = ["segpipe", stage]
        if self.method and stage in ("ensemble", "evaluate"):
            words += ["--method" if stage == "ensemble" else "--ensemble", self.method]
        elif self.run and stage in ("train", "predict", "crf", "evaluate"):
            words += ["--loss", self.params.runs[self.run].loss] if self.invented else ["--run", self.run]
            words += ["--seed", str(self.seed), *(["--crf"] if variant == "crf" else [])]
            words += [] if self.fold is None else ["--fold", str(self.fold)]
            words += ["--snapshot", str(self.snapshot)] if self.snapshot and stage == "predict" else []
            words += ["--look", str(self.look)] if self.look and stage == "predict" else []
        for override in self.overrides:
            words += ["--set", override]
        return shlex.join(words)

    def is_fresh(self, stage: str, path: Path, variant: str = "") -> bool:
        """True when the output is complete and its recorded parameters are these."""
        return self._digest_at(path) == self.digest(stage, variant)

    @staticmethod
    def _digest_at(path: Path) -> str | None:
        if path.suffix == ".json":
            return files.read_json(path).get("config") if path.is_file() else None
        marker = files.description(path)
        return marker.get("config") if marker else None

    @contextmanager
    def writing(self, path: Path, *, wait: bool = False) -> Iterator[None]:
        """Hold the lock of an output while it is written."""
        name = path.as_posix().replace("/", "__")
        with files.lock(HIDDEN / "locks" / f"{name}.lock", str(path), wait=wait):
            yield

    def log(self, message: str) -> None:
        """A line for people, on stderr when stdout carries JSON."""
        print(message, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def announce(self, writes: Path, *reads: Path) -> None:
        """What a dry run says."""
        if self.as_json:
            print(json.dumps({"reads": [str(path) for path in reads], "writes": str(writes)}))
        else:
            print(f"would read {', '.join(map(str, reads)) or 'nothing'} and write {writes}")

    def finish(self, result: dict[str, Any], lines: Sequence[str], following: str) -> None:
        """Print the result and the next command."""
        for line in lines:
            self.log(line)
        if not inside_dvc():
            self.log(f"next: {following}")
        if self.as_json:
            print(json.dumps(result, allow_nan=False))


def start(
    stage: str,
    *,
    run: str | None = None,
    loss: str | None = None,
    seed: int = 0,
    fold: int | None = None,
    snapshot: int | None = None,
    look: int | None = None,
    method: str | None = None,
    overrides: Sequence[str] | None = None,
    device: str = "auto",
    dry_run: bool = False,
    as_json: bool = False,
) -> Context:
    """Load and check everything that a stage call says.

    Raises:
        ConfigError: a selector names nothing, or params.yaml is wrong.
    """
    from segpipe import params as parameters

    base = parameters.load()
    params = parameters.load(overrides=overrides or ())
    if inside_dvc() and overrides:
        raise ConfigError("--set inside dvc.yaml would hide a parameter from DVC; put it into params.yaml")
    invented = False
    if run is not None and loss is not None:
        raise ConfigError("--run and --loss exclude each other; give one")
    if loss is not None:
        run, invented = invent(loss), True
        _check_schemes(loss)
        params = params.model_copy(update={"runs": {**params.runs, run: parameters.Run(loss=loss)}})
    if run is not None and run not in params.runs:
        raise ConfigError(f"unknown run '{run}'{suggestion(run, params.runs)}")
    if method is not None and method not in params.ensemble:
        raise ConfigError(f"unknown ensemble '{method}'{suggestion(method, params.ensemble)}")
    context = Context(stage, params, base if not invented else _with_run(base, params, run), run=run or "", seed=seed)
    if fold is not None and fold >= params.folds.number:
        raise ConfigError(f"--fold {fold}: folds are 0..{params.folds.number - 1} (folds.number in params.yaml)")
    if snapshot is not None and not 1 <= snapshot <= params.snapshots_of(context.run):
        raise ConfigError(
            f"--snapshot {snapshot}: run '{run}' leaves {params.snapshots_of(context.run)} snapshots; "
            "schedule: restarts(cycles=N) leaves N"
        )
    if look is not None and not 1 <= look <= params.looks_of(context.run):
        raise ConfigError(
            f"--look {look}: a prediction of run '{run}' averages {params.looks_of(context.run)} looks; "
            "predict.passes, flips and scales say how many"
        )
    if look is not None and snapshot is not None:
        raise ConfigError("--look and --snapshot exclude each other; give one")
    context.fold, context.snapshot, context.look = fold, snapshot, look
    context.method, context.invented, context.overrides = method or "", invented, tuple(overrides or ())
    context.device, context.dry_run, context.as_json = device, dry_run, as_json
    return context


def more_of_ensemble(params: Params, method: str) -> list[str]:
    """Parameters that some ensembles depend on, and others do not."""
    refined = any(key.endswith("-crf") for key in params.members_of(method))
    return [*(_CRF if refined else ()), *(["folds.number"] if params.ensemble[method].folds else [])]


def _check_schemes(loss: str) -> None:
    """Refuse a loss that names class weights which nobody computes."""
    from segpipe import losses
    from segpipe.data.frequencies import SCHEMES

    for scheme in losses.scheme_names(loss):
        if scheme not in SCHEMES:
            raise ConfigError(f"unknown class weights '{scheme}'{suggestion(scheme, SCHEMES)}")


def invent(loss: str) -> str:
    """A run name for a loss given on the command line: its terms' names.

    A compound such as `0.25*ce + 0.75*jml` becomes `ce_jml`.
    """
    from segpipe import losses

    return "_".join(term.name for term in losses.parse(loss))


def inside_dvc() -> bool:
    """True in a command that DVC runs."""
    return "DVC_STAGE" in os.environ


def first_process() -> bool:
    """True unless a launcher such as torchrun made this a further process: only the first one writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def _with_run(base: Params, params: Params, run: str | None) -> Params:
    return base if run is None else base.model_copy(update={"runs": {**base.runs, run: params.runs[run]}})


def _lookup(params: Params, path: str) -> Any:
    """The value at a dotted path, as plain data, without parameters that cannot change a result."""
    value: Any = params.model_dump(mode="json")
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return _without_neutral(value)


def _without_neutral(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_neutral(item) for key, item in value.items() if key not in _NEUTRAL}
    return value


def card_digest(dataset: str) -> str:
    """What a dataset's card says of files and labels; none where there is no card, which the stage will say."""
    import tomllib
    from importlib import resources

    own = Path("cards") / f"{dataset}.toml"
    card = own if own.is_file() else resources.files("segpipe.data.cards") / f"{dataset}.toml"
    try:
        values = tomllib.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return files.digest_json({key: str(value) for key, value in values.items() if key not in _OF_PEOPLE})
