"""Which parameters a stage reads, which an output depends on, and the digest of their values."""

from __future__ import annotations

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from segpipe.config.schema import Params
from segpipe.core import outputs
from segpipe.metrics.measures import DEFAULT

_DECIDE = ("decide.rules", *(f"evaluate.{name}" for name in ("bins", "quantiles", "trimap")))
_CRF = ("crf.tune", *(f"evaluate.{name}" for name in ("bins", "quantiles", "trimap")))
# The parameters that a stage reads itself: what dvc.yaml names beside its inputs.
READS: dict[str, tuple[str, ...]] = {
    "download": ("download",),
    "prepare": ("prepare",),
    "stats": ("stats",),
    "train": ("threads", "model", "train", "runs.{run}"),
    "predict": ("threads", "predict", "runs.{run}"),
    "import": ("imports.{run}",),
    "crf": ("threads", *_CRF),
    "ensemble": ("seeds", "runs", "ensemble.{method}"),
    "decide": _DECIDE,
    "evaluate": ("evaluate",),
    "report": ("seeds", "runs", "crf.runs", "ensemble", "decide", "evaluate", "report"),
}
# The parameters that an output depends on, those of earlier stages included.
_DATA = ("download", "prepare", "stats")
_PREDICT = (*_DATA, "threads", "model", "train", "runs.{run}", "predict")
_IMPORT = ("download", "prepare", "imports.{run}")
_ENSEMBLE = (*_DATA, "threads", "model", "train", "predict", "seeds", "runs", "ensemble.{method}")
DEPENDS: dict[str, tuple[str, ...]] = {
    "download": ("download",),
    "prepare": ("download", "prepare"),
    "stats": _DATA,
    "train": _PREDICT[:-1],
    "predict": _PREDICT,
    "import": _IMPORT,
    "crf": (*_PREDICT, *_CRF),
    "ensemble": _ENSEMBLE,
    "evaluate runs": (*_PREDICT, "evaluate"),
    "evaluate crf": (*_PREDICT, "crf.tune", "evaluate"),
    "evaluate folds": (*_PREDICT, "evaluate", "folds.number"),
    "evaluate ensembles": (*_ENSEMBLE, "evaluate"),
    "decide runs": (*_PREDICT, *_DECIDE),
    "decide crf": (*_PREDICT, *_CRF, *_DECIDE),
    "decide ensembles": (*_ENSEMBLE, *_DECIDE),
    "evaluate decided runs": (*_PREDICT, "decide.rules", "evaluate"),
    "evaluate decided crf": (*_PREDICT, "crf.tune", "decide.rules", "evaluate"),
    "evaluate decided ensembles": (*_ENSEMBLE, "decide.rules", "evaluate"),
    "report": (*_ENSEMBLE[:-1], "imports", "crf", "ensemble", "decide", "evaluate", "report"),
}
_READ_CARD = ("download", "prepare")  # whose output is stale once the card says something else
_NEUTRAL = ("workers", "max_padding")  # parameters that cannot change a result
# Parameters that came later, with the value that outputs from before were made with.
_SINCE: dict[str, Any] = {
    "measures": list(DEFAULT), "refiner": "crf", "encoder_rate": 1.0, "decay_norms": True, "frozen_norms": False,
    "recipe": "scratch",
}  # fmt: skip
_CARD_TEXTS = ("title", "licence", "source", "instructions", "notes", "files", "images", "params")  # read by people


def output_digest(
    params: Params, stage: str, *, run: str, seed: int, fold: int | None, snapshot: int | None, look: int | None,
    method: str, rule: str = "",
) -> str:  # fmt: skip
    """A name for all parameters that an output depends on."""
    depends = DEPENDS[stage]
    of_run, of_method = "runs.{run}" in depends, "ensemble.{method}" in depends
    imported = of_run and run in params.imports
    if imported:  # nothing of it is trained here
        depends, of_run = (*_IMPORT, *(path for path in depends if path not in _PREDICT)), False
    paths = [path.format(run=run, method=method) for path in depends]
    if of_method:
        paths += more_of_ensemble(params, method)
    if of_run:
        paths += [f"runs.{name}" for name in params.teachers_of(run)]
    values: dict[str, Any] = {path: lookup(params, path) for path in paths}
    if stage in _READ_CARD:
        values["card"] = card_digest(params.download.dataset)
    weights = params.model_of(run).weights if of_run else None
    if weights is not None and Path(weights).expanduser().is_file():
        values["weights"] = outputs.digest_file(Path(weights).expanduser())
    values |= recipes(
        params, [run, *params.teachers_of(run)] if of_run else list(params.runs) if "runs" in paths else []
    )
    if rule:
        values["rule"] = rule
    if of_method:
        values["members"] = params.members_of(method)  # patterns expand through runs, crf.runs, predict
    if "crf.tune" in paths and params.crf.refiner != "crf":
        values["crf.refiner"] = params.crf.refiner
    if fold is not None and of_run:
        return config_digest({**values, "folds.number": params.folds.number}, (seed, fold))
    if stage == "predict" and (snapshot is not None or look is not None):
        part = ("snapshot", snapshot) if look is None else ("look", look)
        return config_digest(values, (seed, *part))
    return config_digest(values, seed if of_run or imported else None)


def recipes(params: Params, runs: list[str]) -> dict[str, Any]:
    """The optimisation of runs that take a recipe of their own, whose numbers their overrides do not show."""
    own = [run for run in runs if "recipe" in params.runs[run].train]
    return {f"recipe of {run}": params.train_of(run).model_dump(mode="json") for run in own}


def config_digest(*parts: Any) -> str:
    """A short name for a configuration: the first 16 hex digits of its sha256."""
    return outputs.digest_json([p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts])[:16]


def more_of_ensemble(params: Params, method: str) -> list[str]:
    """Parameters that some ensembles depend on, and others do not."""
    members = params.members_of(method)
    refined = any(key.endswith("-crf") for key in members)
    imported = {f"imports.{run}": None for run in (key.split("-")[0] for key in members) if run in params.imports}
    return [*(_CRF if refined else ()), *(["folds.number"] if params.ensemble[method].folds else []), *imported]


def lookup(params: Params, path: str) -> Any:
    """The value at a dotted path, as plain data, without parameters that cannot change a result."""
    value: Any = params.model_dump(mode="json")
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    value = _without_neutral(value)
    return known_before(value) if isinstance(value, dict) else value


def _without_neutral(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_neutral(item) for key, item in value.items() if key not in _NEUTRAL}
    return value


def known_before(values: dict[str, Any]) -> dict[str, Any]:
    """Plain data without the parameters that came later, where they are as it was before them: the same bytes."""
    kept = {key: item for key, item in values.items() if item != _SINCE.get(key, ...)}
    return {key: known_before(item) if isinstance(item, dict) else item for key, item in kept.items()}


def card_file(dataset: str) -> Path | Traversable:
    """The card of a dataset: the workspace's own, else the packaged one."""
    own = Path("cards") / f"{dataset}.toml"
    return own if own.is_file() else resources.files("segpipe.data.cards") / f"{dataset}.toml"


def card_digest(dataset: str) -> str:
    """What a dataset's card says of files and labels; none where there is no card, which the stage will say."""
    try:
        values = tomllib.loads(card_file(dataset).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return outputs.digest_json({key: str(value) for key, value in values.items() if key not in _CARD_TEXTS})
