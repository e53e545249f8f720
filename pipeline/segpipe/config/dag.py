"""dvc.yaml from params.yaml: DVC can template a matrix, but not a fan-in, so segpipe writes it.

Between the two marks the text is generated; what stands outside is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpipe.config.code import FILE as CODE
from segpipe.config.depends import READS, more_of_ensemble
from segpipe.config.entry import RESULTS, quoted, stage
from segpipe.config.schema import Params
from segpipe.core.errors import ConfigError, suggestion
from segpipe.data import catalog
from segpipe.ensembles import methods
from segpipe.metrics.naming import lower_is_better
from segpipe.metrics.scores import NOT_BY_IMAGE, names
from segpipe.refine.chain import Chain

FILE = Path("dvc.yaml")
SOURCE = Path("pipeline/segpipe")  # in a clone
BEGIN = "# >>> written by `segpipe dag --write`; own stages go into a dvc.yaml of another folder"
END = "# <<<"
_FOLD = "--fold ${item.fold}"
_KEY = "${item.run}-${item.seed}"
_RUN = "--run ${item.run} --seed ${item.seed}"


def is_fresh(params: Params) -> bool:
    """True when dvc.yaml holds what `segpipe dag --write` would put there."""
    old = FILE.read_text(encoding="utf-8") if FILE.is_file() else ""
    return bool(old) and old == text(params, old)


def check_names(params: Params) -> None:
    """ConfigError when a dataset or metric is unknown, or an ensemble cannot be: said now, not after the last training.

    Here and not in the schema, so that a stage depends on no code that it does not run.
    """
    catalog.card(params.download.dataset)
    for method, section in params.ensemble.items():
        try:
            methods.create(section.method).check(len(params.members_of(method)))
        except ConfigError as error:
            raise ConfigError(f"ensemble.{method}: {error}") from None
    for rule in params.decide.rules:
        Chain.read(rule)
    known = names(params.evaluate.quantiles, params.evaluate.thresholds, params.evaluate.measures)
    counted = [name for name in known if not lower_is_better(name)]
    by_image = [name for name in known if name not in NOT_BY_IMAGE]
    for path, name, choice in (
        ("report.metric", params.report.metric, by_image),
        ("crf.tune.metric", params.crf.tune.metric, counted),
        *(("decide.metrics", name, counted) for name in params.decide.metrics),
    ):
        if name not in choice:
            raise ConfigError(f"{path}: unknown metric '{name}'{suggestion(name, choice)}")


def text(params: Params, old: str = "") -> str:
    """The content of dvc.yaml; the parts of `old` outside the marks are kept."""
    before, after = "", ""
    if old.strip() and BEGIN not in old:
        raise ConfigError(f"{FILE} was not written by segpipe and would be lost; move it away")
    if BEGIN in old:
        before, rest = old.split(BEGIN, 1)
        if f"\n{END}\n" not in rest:
            raise ConfigError(f"{FILE} has no end mark '{END}'; restore it or delete the file")
        after = rest.split(f"\n{END}\n", 1)[1]
    return f"{before}{BEGIN}\n{_body(params)}{_plots(params)}{END}\n{after}"


def in_repository() -> bool:
    """True in a clone of segpipe, whose source DVC can watch."""
    return (SOURCE / "config/dag.py").is_file()


def _body(params: Params) -> str:
    dataset, every = "data/download/${download.dataset}", "run: ${runs}\nseed: ${seeds}"
    source = [quoted(params.download.source)] if params.download.source else []
    predicted, refined_by = f"data/predict/{_KEY}", f"data/crf/{_KEY}"
    data = [dataset, "data/prepare"]
    parts = [
        _code(),
        stage("download", "download", "", source, outs=[dataset]),
        stage("prepare", "prepare", "", [dataset], outs=["data/prepare"]),
        stage("stats", "stats", "", data, outs=["data/stats.json"]),
        *_trainings(params, every),
    ]
    if params.runs:
        known, scores = ["data/prepare", f"data/train/{_KEY}"], f"results/runs/{_KEY}"
        parts += [
            stage("predict", "predict", _RUN, known, outs=[predicted], matrix=every),
            stage("evaluate", "evaluate", _RUN, [*data, predicted], results=scores, matrix=every),
        ]
    parts += _imports(params, data)
    parts += _folds(params, data)
    for ending, some in _matrices(params, list(dict.fromkeys(key.rpartition("-")[0] for key in params.crf_keys()))):
        results = f"results/crf/{_KEY}"
        parts += [
            stage(f"crf{ending}", "crf", _RUN, [*data, predicted], outs=[refined_by], matrix=some),
            stage(
                f"evaluate_crf{ending}", "evaluate", f"{_RUN} --crf", [*data, refined_by], results=results, matrix=some
            ),
        ]
    parts += _ensembles(params)
    parts += _decided(params, data)
    parts.append(_report(params, data))
    return "stages:\n" + "\n".join(parts)


def _matrices(params: Params, runs: Sequence[str]) -> list[tuple[str, str]]:
    """The matrices of some runs: one of all that are trained, and of each import, whose folders are its seeds; with
    the end of their stages' names.
    """
    trained = [run for run in runs if run in params.runs]
    found = [("", f"run: [{', '.join(trained)}]\nseed: ${{seeds}}")] if trained else []
    return found + [
        (f"_import_{run}", f"run: [{run}]\nseed: [{', '.join(map(str, params.seeds_of(run)))}]")
        for run in runs
        if run in params.imports
    ]


def _imports(params: Params, data: list[str]) -> list[str]:
    """Predictions of other tools, and what is scored of them."""
    parts = []
    for run, section in params.imports.items():
        [(ending, each)] = _matrices(params, [run])
        folders, predicted = [quoted(folder) for folder in section.predictions], f"data/predict/{_KEY}"
        select = "${item.run} --seed ${item.seed}"
        known = ["data/prepare", *folders]
        parts += [
            stage(f"import_{run}", "import", select, known, outs=[predicted], matrix=each, run=run),
            stage(
                f"evaluate{ending}", "evaluate", _RUN, [*data, predicted], results=f"results/runs/{_KEY}", matrix=each
            ),
        ]
    return parts


def _folds(params: Params, data: list[str]) -> list[str]:
    """Trainings and predictions of each fold, and what they say of the train images."""
    held_out = list(dict.fromkeys(key.rpartition("-")[0] for key in params.fold_keys()))
    if not held_out:
        return []
    numbers = ", ".join(map(str, range(params.folds.number)))
    each = f"run: [{', '.join(held_out)}]\nseed: ${{seeds}}\nfold: [{numbers}]"
    trained, found = f"data/train/{_KEY}-fold${{item.fold}}", f"data/predict/{_KEY}-fold${{item.fold}}"
    inputs, select = _training_inputs(params), f"{_RUN} {_FOLD}"
    return [
        stage("train_fold", "train", select, inputs, outs=[trained], matrix=each, more=["folds.number"]),
        stage(
            "predict_fold", "predict", select, [inputs[0], trained], outs=[found], matrix=each, more=["folds.number"]
        ),
        stage(
            "evaluate_folds",
            "evaluate",
            f"{_RUN} --folds",
            [*data, *(f"data/predict/{_KEY}-fold{fold}" for fold in range(params.folds.number))],
            results=f"results/folds/{_KEY}",
            matrix=f"run: [{', '.join(held_out)}]\nseed: ${{seeds}}",
            more=["folds.number"],
        ),
    ]


def _report(params: Params, data: list[str]) -> str:
    """Stage report, which reads everything."""
    evaluated = [f"results/runs/{key}" for key in params.all_keys()]
    evaluated += [f"results/folds/{key}" for key in params.fold_keys()]
    evaluated += [f"results/crf/{key}" for key in params.crf_keys()] + [
        f"results/ensembles/{m}" for m in params.ensemble
    ]
    decided = [f"{rule}/{key}" for rule in params.decide.metrics for key in params.decided_keys()]
    evaluated += [f"results/decided/{name}" for name in decided]
    inputs = [
        *data,
        *(f"data/{kind}/{key}" for key in params.trained_keys() for kind in ("train", "predict")),
        *(f"data/predict/{key}" for run in params.imports for key in params.keys_of(run)),
        *(f"data/crf/{key}" for key in params.crf_keys()),
        *(f"data/ensemble/{method}" for method in params.ensemble),
        *(f"data/decide/{name}" for name in decided),
        *(f"data/predict/{key}-fold{fold}" for key in params.fold_keys() for fold in range(params.folds.number)),
    ]
    inputs += [f"{folder}/{name}" for folder in evaluated for name in RESULTS]
    inputs += [f"results/ensembles/{method}/members.json" for method in params.ensemble]
    inputs += [f"results/decided/{name}/decide.json" for name in decided]
    # The page prints all parameters.
    unread = {path.split(".")[0] for path in READS["report"]} | {"log"} | (set() if params.imports else {"imports"})
    more = [name for name in type(params).model_fields if name not in unread]
    return stage("report", "report", "", inputs, kept=["results/report.html", "results/tables"], more=more)


def _training_inputs(params: Params) -> list[str]:
    """What every training reads: data, class weights, and the files of weights that any run starts from."""
    weights = {params.model_of(run).weights for run in params.runs} - {None}
    return ["data/prepare", "data/stats.json", *(quoted(str(path)) for path in sorted(map(str, weights)))]


def _trainings(params: Params, every: str) -> list[str]:
    """Stage train; a group more for each teacher's students, and one for the predictions of snapshots."""
    students, inputs = params.students(), _training_inputs(params)
    taught = {run for group in students.values() for run in group}
    alone = [run for run in params.runs if run not in taught]
    matrix = every if not taught else f"run: [{', '.join(alone)}]\nseed: ${{seeds}}"
    parts = [stage("train", "train", _RUN, inputs, outs=[f"data/train/{_KEY}"], matrix=matrix)] if alone else []
    for teacher, group in students.items():
        each = f"run: [{', '.join(group)}]\nseed: ${{seeds}}"
        known = [*inputs, f"data/train/{teacher}-${{item.seed}}"]
        parts.append(
            stage(f"train_taught_by_{teacher}", "train", _RUN, known, outs=[f"data/train/{_KEY}"], matrix=each)
        )
    for run in params.runs:
        if count := params.snapshots_of(run):
            each = f"seed: ${{seeds}}\nsnapshot: [{', '.join(str(i + 1) for i in range(count))}]"
            select = f"--run {run} --seed ${{item.seed}} --snapshot ${{item.snapshot}}"
            known, out = ["data/prepare", f"data/train/{run}-${{item.seed}}"], f"data/predict/{run}-${{item.seed}}"
            outs = [f"{out}-snap${{item.snapshot}}"]
            parts.append(
                stage(f"predict_snapshots_of_{run}", "predict", select, known, outs=outs, matrix=each, run=run)
            )
    return parts


def _ensembles(params: Params) -> list[str]:
    """Stages ensemble and evaluate_ensemble, a group for all methods that read the same; looks that members name."""
    keys = {key: None for method in params.ensemble for key in params.members_of(method)}
    looks: dict[str, list[str]] = {}  # of each run, as items of a matrix
    for key in keys:
        run, seed, *suffix = key.split("-")
        if suffix and suffix[0].startswith("look"):
            looks.setdefault(run, []).append(f"{{seed: {seed}, number: {suffix[0].removeprefix('look')}}}")
    parts = []
    for run, named in looks.items():
        select = f"--run {run} --seed ${{item.look.seed}} --look ${{item.look.number}}"
        known = ["data/prepare", f"data/train/{run}-${{item.look.seed}}"]
        outs = [f"data/predict/{run}-${{item.look.seed}}-look${{item.look.number}}"]
        each = f"look: [{', '.join(dict.fromkeys(named))}]"
        parts.append(stage(f"predict_looks_of_{run}", "predict", select, known, outs=outs, matrix=each, run=run))
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for method in params.ensemble:
        groups.setdefault((_inputs_of(params, method), tuple(more_of_ensemble(params, method))), []).append(method)
    for number, ((read, more), alike) in enumerate(groups.items()):
        group, results = f"method: [{', '.join(alike)}]", "results/ensembles/${item.method}"
        ending, made = f"_{alike[0]}" if number else "", "data/ensemble/${item.method}"
        data = ["data/download/${download.dataset}", "data/prepare"]
        name, select = "ensemble" + ending, "--method ${item.method}"
        parts.append(stage(name, "ensemble", select, [*data, *read], outs=[made], matrix=group, more=more))
        name, select = "evaluate_ensemble" + ending, "--ensemble ${item.method}"
        parts.append(stage(name, "evaluate", select, [*data, made], results=results, matrix=group))
    return parts


def _decided(params: Params, data: list[str]) -> list[str]:
    """Stages decide and evaluate_decided: a group for runs, one for what the CRF made of them, one for ensembles."""
    keys, rules = params.decided_keys(), f"rule: [{', '.join(params.decide.metrics)}]"
    methods = [key for key in keys if key in params.ensemble]
    runs = {crf: [k for k in keys if k not in methods and k.endswith("-crf") == crf] for crf in (False, True)}
    parts: list[str] = []
    for ending, of, read, key, selectors in (
        ("runs", runs[False], f"data/predict/{_KEY}", _KEY, _RUN),
        ("crf", runs[True], f"data/crf/{_KEY}", f"{_KEY}-crf", f"{_RUN} --crf"),
        ("ensembles", methods, "data/ensemble/${item.method}", "${item.method}", "--ensemble ${item.method}"),
    ):
        names = list(dict.fromkeys(name.split("-")[0] for name in of))
        matrices = [("", f"method: [{', '.join(names)}]")] if of is methods else _matrices(params, names)
        for more, each in matrices if of else ():
            name = f"_{ending}{more}" if parts else more  # the first group is called as the stage
            parts += _decision(name, selectors, [*data, read], key, f"{each}\n{rules}")
    return parts


def _decision(name: str, selectors: str, read: list[str], key: str, matrix: str) -> list[str]:
    """Fitting a rule, and what is scored of it."""
    made, selectors = f"data/decide/${{item.rule}}/{key}", f"{selectors} --rule ${{item.rule}}"
    results = f"results/decided/${{item.rule}}/{key}"
    return [
        stage(f"decide{name}", "decide", selectors, read, outs=[made], matrix=matrix),
        stage(f"evaluate_decided{name}", "evaluate", selectors, [*read[:2], made], results=results, matrix=matrix),
    ]


def _inputs_of(params: Params, method: str) -> tuple[str, ...]:
    """The folders of an ensemble's members, those of every fold where it is fitted out of fold."""
    found = []
    for key in params.members_of(method):
        plain = key.removesuffix("-crf")
        found += [f"data/predict/{plain}"] + ([f"data/crf/{plain}"] if key != plain else [])
        folds = range(params.folds.number) if params.ensemble[method].folds else ()
        found += [f"data/predict/{key}-fold{fold}" for fold in folds]
    return tuple(dict.fromkeys(found))


def _code() -> str:
    """Stage code, before all others. In a clone DVC watches the source; elsewhere it is asked each time, since a path
    of this machine would not do on another.
    """
    paths = ["params.yaml", SOURCE.as_posix(), *(["cards"] if Path("cards").is_dir() else [])]
    watched = "    deps:\n" + "".join(f"      - {path}\n" for path in paths)
    when = watched if in_repository() else "    always_changed: true\n"
    return f"  code:\n    cmd: segpipe code\n{when}    outs:\n      - {CODE.as_posix()}\n"


def _plots(params: Params) -> str:
    """What `dvc plots show` draws."""
    if not params.runs:
        return ""
    lines = ["plots:", "  - validation mIoU^D:", "      x: epoch", "      y:"]
    lines += [f"        data/train/{key}/history.csv: val_miou_dataset" for key in params.trained_keys()]
    return "\n" + "\n".join(lines) + "\n"
