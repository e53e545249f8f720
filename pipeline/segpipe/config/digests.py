"""What the code of each stage means, as digests that DVC compares: a change reruns what it means and nothing else.

Stage `code` writes them to data/code.json. A digest is made of the parts of the package that the stage's `run`
reaches, of what params.yaml chooses by name (losses, networks, methods), of the parameters with every default filled
in, and of the card, where the stage reads labels by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from segpipe import models, refine
from segpipe.config import code
from segpipe.config.context import Context, inside_dvc
from segpipe.config.depends import DEPENDS, READS, card_digest, card_file, lookup, recipes
from segpipe.config.meaning import Package
from segpipe.config.schema import Params
from segpipe.config.sections import METHODS, Model
from segpipe.core import outputs, registry, spec
from segpipe.core.errors import ConfigError
from segpipe.data import catalog
from segpipe.data.card import GENERATED, KINDS, LAYOUTS
from segpipe.losses.compound import PACKAGE as LOSSES
from segpipe.metrics import measures
from segpipe.training import parts

_READ_LABELS = (
    "download",
    "prepare",
    "stats",
    "crf",
    "ensemble",
    "decide",
    "evaluate",
    "report",
)  # by the dataset's card
# What chooses a stage and prints, not what it computes; and where outputs lie, which dvc.yaml says.
_LEFT_OUT = (
    "segpipe.cli",
    *(
        f"segpipe.config.{name}"
        for name in ("code", "dag", "entry", "depends", "digests", "meaning", "params", "source", "yaml")
    ),
)
_VALUES = tuple(f"segpipe.config.{name}" for name in ("sections", "imported", "names", "schema", "context"))
LEARNERS = "segpipe.ensembles.learners"
ENCODERS, DECODERS = "segpipe.models.blocks.encoders", "segpipe.models.blocks.decoders"
Root = tuple[str, str]


@cache
def _package() -> Package:
    return Package(code.ROOT, _LEFT_OUT, _VALUES)


def every(params: Params) -> dict[str, Any]:
    """The digest of each stage; of train and predict by run, of ensemble by method."""
    found: dict[str, Any] = {
        stage: digest(params, stage)
        for stage in ("download", "prepare", "stats", "crf", "decide", "evaluate", "report")
    }
    for stage in ("train", "predict"):
        found[stage] = {run: digest(params, stage, run=run) for run in params.runs}
    found["import"] = {run: digest(params, "import", run=run) for run in params.imports}
    found["ensemble"] = {method: digest(params, "ensemble", method=method) for method in params.ensemble}
    return found


def digest(params: Params, stage: str, *, run: str = "", method: str = "") -> str:
    """What the code of a stage means under these parameters, 16 hexadecimal digits."""
    module = "import_" if stage == "import" else stage  # the other is a word of Python's
    roots = [(f"segpipe.stages.{module}", "run"), *_chosen(params, stage, run, method)]
    values: dict[str, Any] = {
        path: lookup(params, path.format(run=run, method=method)) for path in READS[stage] if run or "{run}" not in path
    }
    # An output is named by these: with others, a later stage would refuse it.
    values["depends"] = {key: paths for key, paths in DEPENDS.items() if key.split()[0] == stage}
    values |= recipes(params, [run, *params.teachers_of(run)] if run in params.runs else [])
    if stage == "train":
        values["terms"] = [[term.name, term.weight, dict(term.options)] for term in params.runs[run].loss.terms]
    if stage in _READ_LABELS:
        dataset = params.download.dataset
        values["card"] = card_file(dataset).read_text("utf-8") if stage == "report" else card_digest(dataset)
    return outputs.digest_json([_package().digest(roots), values])[:16]


def _chosen(params: Params, stage: str, run: str, method: str) -> Iterator[Root]:
    """What the parameters choose by name."""
    if stage in _READ_LABELS:
        card = catalog.card(params.download.dataset)
        yield _root(registry.find(KINDS, "kind of labels", card.labels))
        if stage == "download" and card.layout != GENERATED:
            yield _root(registry.find(LAYOUTS, "layout", card.layout))
    if stage in ("train", "predict"):
        for name in {params.model_of(one).name for one in (run, *params.teachers_of(run))}:
            yield (
                ("segpipe.models.external", "create")
                if name.startswith("smp:")
                else _root(registry.find(models.PACKAGE, "model", name))
            )
    if stage in ("train", "predict"):
        for one in (run, *params.teachers_of(run)):
            yield from _parts_of(params.model_of(one))
    if stage == "train":
        yield from (_root(registry.find(LOSSES, "loss", term.name)) for term in params.runs[run].loss.terms)
        section = params.train_of(run)
        yield from (_root(spec.choose(at, kind, getattr(section, kind))[0]) for kind, at in parts.MODULES.items())
    if stage == "ensemble":
        entry, options = spec.choose(METHODS, "ensemble method", params.ensemble[method].method)
        yield _root(entry)
        learner = options.get("learner", entry.options.get("learner"))
        if learner is not None:
            yield _root(registry.find(LEARNERS, "learner", str(learner)))
    if stage == "crf":
        yield _root(params.crf.entry)
    if stage == "decide":
        found = {entry.name: entry for text in params.decide.rules for entry, _ in refine.links(text)}
        yield from (_root(found[name]) for name in sorted(found))
    if stage in ("crf", "ensemble", "decide", "evaluate", "report"):
        yield from (_root(measures.entry(name)) for name in _measures(params, stage, method))


def _parts_of(model: Model) -> Iterator[Root]:
    """Encoder and decoder of a composed network, which it finds by name."""
    if model.name != "encoder_decoder":
        return
    chosen = {**registry.find(models.PACKAGE, "model", model.name).options, **model.options}
    yield _root(registry.find(DECODERS, "decoder", str(chosen["decoder"])))
    encoder = str(chosen["encoder"])
    yield (
        ("segpipe.models.external", "encoder")
        if encoder.startswith("timm:")
        else _root(registry.find(ENCODERS, "encoder", encoder))
    )


def _measures(params: Params, stage: str, method: str) -> Iterator[str]:
    """The measures that a stage scores by: those that every comparison needs, and those that are asked for."""
    yield from ("acc", "iou")
    if stage in ("evaluate", "report"):
        yield from params.evaluate.measures
    asked = params.crf.tune.metric if stage == "crf" else params.ensemble[method].method if stage == "ensemble" else ""
    asked = " ".join(params.decide.metrics) if stage == "decide" else asked
    yield from (name for name in measures.names() if f"m{name}_" in asked)


def _root(entry: registry.Entry) -> Root:
    return entry.module, entry.function


def digest_of(context: Context, stage: str) -> str:
    """The digest of a stage's code for a call: under DVC the one that stage `code` has written.

    Raises:
        ConfigError: DVC runs a dvc.yaml that knows no stage `code`, or `code` has not run since a run was added.
    """
    if not inside_dvc():
        return digest(context.params, stage, run=context.run, method=context.method)
    found, key = code.read()[stage], context.run or context.method
    if isinstance(found, dict) and key not in found:
        raise ConfigError(f"{code.FILE} does not know {stage} of {key}; run `dvc repro code`, then dvc repro")
    return str(found[key] if isinstance(found, dict) else found)


def changed(params: Params) -> list[str]:
    """The stages whose code or parameters are others than when data/code.json was written; none where it is not."""
    if not code.FILE.exists():
        return []
    old, new = _flat(code.read()), _flat(every(params))
    return [name for name in new if new[name] != old.get(name)]


def _flat(digests: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for stage, value in digests.items():
        found |= {f"{stage} {key}": one for key, one in value.items()} if isinstance(value, dict) else {stage: value}
    return found
