"""One call of a stage: its parameters, selectors and places."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segpipe.config import code, depends
from segpipe.config import params as parameters
from segpipe.config.schema import Params
from segpipe.config.sections import Run
from segpipe.core import files, outputs
from segpipe.core.errors import ConfigError, DataError, suggestion
from segpipe.core.parallel import Pool

ADHOC = Path("runs/adhoc")
HIDDEN = Path(".segpipe")  # locks and checkpoints: outside of DVC's outputs
_DATA = ("download", "prepare", "stats")  # stages of the data, which all runs share
_SUFFIX = re.compile(r"(snap|look|crf)(\d*)")


@dataclass(frozen=True)
class Context:
    """One call of a stage. `base` is params.yaml, `params` it with overrides."""

    params: Params
    base: Params
    run: str = ""
    seed: int = 0
    fold: int | None = None  # held out of the training
    snapshot: int | None = None  # of the training, from 1
    look: int | None = None  # of the prediction, from 1: one alone, instead of the mean of all
    refined: bool = False  # what the CRF made of the prediction
    crossed: bool = False  # the train images, each through the network that was trained without its fold
    method: str = ""  # an ensemble
    rule: str = ""  # the score whose rule reads the labels
    invented: bool = False  # the run comes from --loss, not from params.yaml
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    jobs: int | None = None
    scheduler: str | None = None
    quiet: bool = False  # stdout carries JSON, so that words go to stderr

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
    def imported(self) -> bool:
        """True of a run whose predictions another tool has made."""
        return self.run in self.params.imports

    @property
    def kind(self) -> str:
        """The kind of result that is evaluated, which is also its folder: runs, crf, folds, ensembles or decided."""
        return "decided" if self.rule else self.origin

    @property
    def origin(self) -> str:
        """The kind of result without a rule."""
        if self.method:
            return "ensembles"
        return "crf" if self.refined else "folds" if self.crossed else "runs"

    @property
    def source(self) -> str:
        """The stage that wrote the predictions."""
        return "decide" if self.rule else self.probabilities

    @property
    def probabilities(self) -> str:
        """The stage that wrote what a rule reads."""
        return {"ensembles": "ensemble", "crf": "crf", "runs": "predict", "folds": "predict"}[self.origin]

    @property
    def teacher(self) -> Context | None:
        """The context of the run that gives targets to this one."""
        name = self.params.runs[self.run].teacher if self.run in self.params.runs else None
        return None if name is None else self.member(f"{name}-{self.seed}")

    def digest(self, stage: str, *, base: bool = False) -> str:
        """A name for all parameters that an output depends on."""
        part = {"evaluate": f" {self.kind}", "decide": ""}.get(stage)
        kind = "" if part is None else f"{part} {self.origin}" if self.rule else part
        return depends.output_digest(
            self.base if base else self.params, f"{stage}{kind}", run=self.run, seed=self.seed, fold=self.fold,
            snapshot=self.snapshot, look=self.look, method=self.method,
            rule=self.rule if stage in ("decide", "evaluate") else "",
        )  # fmt: skip

    def is_adhoc(self, stage: str) -> bool:
        """True when the output differs from what params.yaml asks for, so DVC's folders stay untouched."""
        runs = {"", *self.base.runs, *self.base.imports}
        known = self.run in runs and self.method in {"", *self.base.ensemble}
        if stage not in _DATA and (self.invented or not known):
            return True
        return self.digest(stage) != self.digest(stage, base=True)

    def path(self, stage: str) -> Path:
        """Where `stage` writes for this call's run, seed, method and parameters."""
        adhoc = self.is_adhoc(stage)
        if stage in _DATA:
            return self._path_of_data(stage, adhoc)
        if stage == "evaluate":
            # Below results, for the scores of a CRF would lie where its predictions lie.
            top = (ADHOC / "results" if adhoc else Path("results")) / self.kind
            return top / self.rule / self._decided if self.rule else top / (self.method or self.key)
        if stage == "decide":
            return (ADHOC if adhoc else Path("data")) / stage / self.rule / self._decided
        if stage == "report":
            return ADHOC / "report" if adhoc else Path("results")
        name = self.method or (self.trained_key if stage == "train" else self.key)
        if stage == "train" and adhoc:
            return ADHOC / name
        return (ADHOC if adhoc else Path("data")) / stage / name

    @property
    def _decided(self) -> str:
        """What is decided on."""
        return self.method or self.key + ("-crf" if self.refined else "")

    def _path_of_data(self, stage: str, adhoc: bool) -> Path:
        name = f"{stage}-{self.digest(stage)[:8]}"
        if stage == "download":
            dataset = self.params.download.dataset
            return ADHOC / name / dataset if adhoc else Path("data/download") / dataset
        if stage == "stats":
            return ADHOC / f"{name}.json" if adhoc else Path("data/stats.json")
        return ADHOC / name if adhoc else Path("data/prepare")

    def member(self, key: str, fold: int | None = None) -> Context:
        """The context of a member (`run-seed`, with -snapN, -lookN or -crf) under the same parameters."""
        run, seed, *more = key.split("-")
        match = _SUFFIX.fullmatch(more[0]) if more else None
        kind, number = match.groups() if match else ("", "")
        return Context(
            self.params, self.base, run=run, seed=int(seed), fold=fold, overrides=self.overrides,
            snapshot=int(number) if kind == "snap" else None, look=int(number) if kind == "look" else None,
            refined=kind == "crf",
        )  # fmt: skip

    def of_folds(self, key: str) -> Context:
        """The context of the cross-validation of a `run-seed` under the same parameters."""
        return replace(self.member(key), crossed=True)

    def of_ensemble(self, method: str) -> Context:
        """The context of an ensemble under the same parameters."""
        return Context(self.params, self.base, method=method, overrides=self.overrides)

    def decided(self, name: str, rule: str) -> Context:
        """The context of a rule on a `run-seed`, a `run-seed-crf` or an ensemble."""
        source = self.of_ensemble(name) if name in self.params.ensemble else self.member(name)
        return replace(source, rule=rule)

    def require(self, stage: str) -> Path:
        """The output of an earlier stage, complete and made with these parameters."""
        path = self.path(stage)
        if not self.is_fresh(stage, path):
            state = "was made with other parameters" if path.exists() and _digest_at(path) else "is missing"
            raise DataError(f"{path} {state}; run `{self.command(stage)}`")
        return path

    def describe(self, stage: str) -> dict[str, str]:
        """What a stage's output says of itself: its parameters, and the command that makes it anew."""
        return {"config": self.digest(stage), "command": self.command(stage)}

    def command(self, stage: str) -> str:
        """The command line of a stage with this call's selectors and overrides."""
        words = ["segpipe", stage]
        if stage == "predict" and self.imported:
            words = ["segpipe", "import", self.run, "--seed", str(self.seed)]
        elif self.method and stage in ("ensemble", "evaluate", "decide"):
            words += ["--method" if stage == "ensemble" else "--ensemble", self.method]
        elif self.run and stage in ("train", "predict", "crf", "evaluate", "decide"):
            words += ["--loss", str(self.params.runs[self.run].loss)] if self.invented else ["--run", self.run]
            words += ["--seed", str(self.seed)]
            words += ["--crf"] if self.refined and stage in ("evaluate", "decide") else []
            words += ["--folds"] if self.crossed and stage == "evaluate" else []
            words += [] if self.fold is None else ["--fold", str(self.fold)]
            words += ["--snapshot", str(self.snapshot)] if self.snapshot and stage == "predict" else []
            words += ["--look", str(self.look)] if self.look and stage == "predict" else []
        words += ["--rule", self.rule] if self.rule and stage in ("decide", "evaluate") else []
        for override in self.overrides:
            words += ["--set", override]
        return shlex.join(words)

    def is_fresh(self, stage: str, path: Path) -> bool:
        """True when the output is complete and its recorded parameters are these."""
        return _digest_at(path) == self.digest(stage)

    @contextmanager
    def writing(self, path: Path, *, wait: bool = False) -> Iterator[None]:
        """Hold the lock of an output while it is written."""
        name = path.as_posix().replace("/", "__")
        with files.lock(HIDDEN / "locks" / f"{name}.lock", str(path), wait=wait):
            yield

    def log(self, message: str) -> None:
        """A line for people."""
        print(message, file=sys.stderr if self.quiet else sys.stdout, flush=True)

    def pool(self, setup: Any = None) -> Pool:
        """Workers for the images: --jobs, or as many as params.threads; or a cluster's."""
        return Pool(self.jobs or self.params.threads, self.scheduler, setup)


def _digest_at(path: Path) -> str | None:
    """The parameters that an output names as its own; None when it is incomplete."""
    if path.suffix == ".json":
        return outputs.unsealed(files.read_json(path), path).get("config") if path.is_file() else None
    marker = outputs.description(path)
    return marker.get("config") if marker else None


def start(
    *,
    run: str | None = None,
    loss: str | None = None,
    seed: int = 0,
    fold: int | None = None,
    snapshot: int | None = None,
    look: int | None = None,
    refined: bool = False,
    crossed: bool = False,
    method: str | None = None,
    rule: str | None = None,
    overrides: Sequence[str] | None = None,
    device: str = "auto",
    jobs: int | None = None,
    scheduler: str | None = None,
    quiet: bool = False,
) -> Context:
    """Load and check everything that a stage call says.

    Raises:
        ConfigError: a selector names nothing, or params.yaml is wrong.
    """
    base = parameters.load()
    params = parameters.load(overrides=overrides) if overrides else base
    if inside_dvc():
        code.read()  # refuses a dvc.yaml of an older segpipe
    if inside_dvc() and overrides:
        raise ConfigError("--set inside dvc.yaml would hide a parameter from DVC; put it into params.yaml")
    if run is not None and loss is not None:
        raise ConfigError("--run and --loss exclude each other; give one")
    if loss is not None:
        invented = Run.of_loss(loss)
        run = "_".join(term.name for term in invented.loss.terms)  # 0.25*ce + 0.75*jml becomes ce_jml
        params, base = (p.model_copy(update={"runs": {**p.runs, run: invented}}) for p in (params, base))
    if run is not None and run not in params.runs and run not in params.imports:
        raise ConfigError(f"unknown run '{run}'{suggestion(run, (*params.runs, *params.imports))}")
    if method is not None and method not in params.ensemble:
        raise ConfigError(f"unknown ensemble '{method}'{suggestion(method, params.ensemble)}")
    context = Context(
        params, base, run=run or "", seed=seed, fold=fold, snapshot=snapshot, look=look, refined=refined,
        crossed=crossed, method=method or "", rule=rule or "", invented=loss is not None,
        overrides=tuple(overrides or ()), device=device, jobs=jobs, scheduler=scheduler, quiet=quiet,
    )  # fmt: skip
    _check_selectors(context)
    return context


def _check_selectors(context: Context) -> None:
    """ConfigError when a fold, snapshot or look does not exist."""
    params, run = context.params, context.run
    if context.imported and context.seed not in params.seeds_of(run):
        raise ConfigError(
            f"--seed {context.seed}: import '{run}' has the seeds {', '.join(map(str, params.seeds_of(run)))}, one for "
            f"each folder in imports.{run}.predictions"
        )
    fold, snapshot, look = context.fold, context.snapshot, context.look
    if fold is not None and fold >= params.folds.number:
        raise ConfigError(f"--fold {fold}: folds are 0..{params.folds.number - 1} (folds.number in params.yaml)")
    if context.crossed and run not in {key.rpartition("-")[0] for key in params.fold_keys()}:
        raise ConfigError(f"--folds: run '{run}' is trained on no folds; add it to folds.runs in params.yaml")
    if context.imported and (context.refined or context.rule) and run not in params.refinable():
        raise ConfigError(
            f"import '{run}' lacks probabilities of val and test, which a CRF and rules are fitted to; import those"
        )
    if context.imported and (fold, snapshot, look) != (None, None, None):
        raise ConfigError(f"run '{run}' is imported: it has no folds, snapshots or looks")
    if snapshot is not None and not 1 <= snapshot <= params.snapshots_of(run):
        raise ConfigError(
            f"--snapshot {snapshot}: run '{run}' leaves {params.snapshots_of(run)} snapshots; "
            "schedule: restarts(cycles=N) leaves N"
        )
    if look is not None and not 1 <= look <= params.looks_of(run):
        raise ConfigError(
            f"--look {look}: a prediction of run '{run}' averages {params.looks_of(run)} looks; "
            "predict.passes, flips and scales say how many"
        )
    if look is not None and snapshot is not None:
        raise ConfigError("--look and --snapshot exclude each other; give one")


def first_run(context: Context) -> Context:
    """The same call for the first run of params.yaml, trained or imported."""
    return replace(context, run=next(iter({**context.params.runs, **context.params.imports})))


def refuse_import(context: Context) -> None:
    """ConfigError where a run would be trained or asked whose predictions are imported."""
    if context.imported:
        raise ConfigError(f"run '{context.run}' is imported, without its network; name a run of section runs")


def inside_dvc() -> bool:
    """True in a command that DVC runs."""
    return "DVC_STAGE" in os.environ


def first_process() -> bool:
    """True unless a launcher such as torchrun made this a further process: only the first one writes and speaks."""
    return os.environ.get("RANK", "0") == "0"
