"""Command compare: is the difference between evaluated runs real?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segpipe.cli import options
from segpipe.core.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from segpipe.metrics.comparison import Difference
    from segpipe.report.judgement import Judgement

METRICS = ("miou_dataset", "miou_image", "miou_class")


NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Runs (ce), their seeds (ce-0), 'ce+crf', ensembles, result folders; default: all of params.yaml.",
        show_default=False,
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A score from counts, or ece_, nll_, brier_; repeatable; default: mIoU^D, ^I, ^C.", show_default=False
    ),
]
SplitOption = Annotated[
    Literal["val", "test", "folds"],
    typer.Option(help="The split that is compared; folds: the train images by cross-validation, see folds.runs."),
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        help="Compare predictions from any framework, given as NAME=FOLDER, against the label maps in this folder.",
        show_default=False,
    ),
]
ClassesOption = Annotated[
    int | None,
    typer.Option(
        help="With --labels: number of classes; default: inferred from the label maps.",
        min=1,
        max=255,
        show_default=False,
    ),
]
GroupOption = Annotated[
    str | None,
    typer.Option(
        help="With --labels: regular expression whose brackets capture an image's group; default: inferred from names.",
        show_default=False,
    ),
]
CountsOption = Annotated[
    Path | None,
    typer.Option(help="With --labels: also write the counts of every image to this .csv.", show_default=False),
]
IgnoreOption = Annotated[
    int | None, typer.Option(help="With --labels: value of void in the label maps; default: 255.", show_default=False)
]
JobsOption = Annotated[
    int | None, typer.Option(help="With --labels: images at once; default: one per core.", min=1, show_default=False)
]
PageOption = Annotated[
    Path | None,
    typer.Option(
        help="With --labels: write a page of verdicts, scores per class and failures to this .html.", show_default=False
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(help="With --page: the folder of the images, named as their label maps.", show_default=False),
]
FigureOption = Annotated[
    Path | None,
    typer.Option(help="Write a figure of how far all are behind the best to this .svg.", show_default=False),
]
CsvOption = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        help="Compare the runs of this table of anybody's counts or scores of each image instead; its columns: "
        "docs/statistics.md.",
        show_default=False,
    ),
]
LowerOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A column of --csv of which lower is better; repeatable, beside those called hd95, rmse, loss and such.",
        show_default=False,
    ),
]
EquivalenceOption = Annotated[
    float | None,
    typer.Option(
        help="Points within which a difference does not matter (scores of --csv: in their own unit); default: "
        "report.equivalence or 1 point, with --csv 0.",
        min=0,
        show_default=False,
    ),
]


def compare(
    names: NamesArgument = None,
    metric: MetricOption = None,
    split: SplitOption = "test",
    equivalence: EquivalenceOption = None,
    table: CsvOption = None,
    lower: LowerOption = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    ignore_index: IgnoreOption = None,
    group: GroupOption = None,
    counts: CountsOption = None,
    jobs: JobsOption = None,
    page: PageOption = None,
    images: ImagesOption = None,
    figure: FigureOption = None,
    as_json: options.Json = False,
) -> None:
    """Say in words whether runs differ: better, practically equal or undecided, as networks and as methods."""
    from segpipe.core.files import write_text

    for option, path, ending in (("--figure", figure, ".svg"), ("--page", page, ".html")):
        if path is not None and path.suffix != ending:
            raise ConfigError(f"{option} {path}: wanted a name that ends with {ending}")
    if images is not None and page is None:
        raise ConfigError("--images goes with --page FILE.html")
    if labels is not None:
        from segpipe.cli.compare_folders import Options, compare_folders

        if table is not None or lower or split != "test":
            raise ConfigError("--labels goes with NAME=FOLDER, and without --csv, --lower and --split")
        given = Options(classes, 255 if ignore_index is None else ignore_index, group, counts, page, images, jobs)
        found = compare_folders(
            labels, names or [], metric or METRICS, 1.0 if equivalence is None else equivalence, given
        )
    elif any(option is not None for option in (classes, ignore_index, group, counts, jobs, page)):
        raise ConfigError("--classes, --ignore-index, --group, --counts, --page and --jobs go with --labels FOLDER")
    elif table is not None:
        found = _elsewhere(table, names or [], metric or [], equivalence, lower or [])
    else:
        found = _of_results(names or [], metric or [], split, equivalence)
    metrics = list(found.sample.metrics)
    if figure is not None:
        write_text(figure, _figure(found, metrics[0]))
    if as_json:
        print(json.dumps(_plain(found), allow_nan=False))
    elif len(found.scores) == 2:
        _print_two(found, "the table" if table else "the label maps" if labels else split)
    else:
        _print_many(found, metrics)


def _of_results(names: list[str], metric: list[str], split: str, equivalence: float | None) -> Judgement:
    """The named results of params.yaml or folders, compared."""
    from segpipe.cli.named import folders_of, imported
    from segpipe.report import judgement

    if split == "folds":
        return _of_folds(names, metric, equivalence)
    folders = folders_of(names)
    if split == "val":
        folders = _with_val(folders)
    if len(folders) < 2:
        raise ConfigError(f"found {len(folders)} result, wanted at least two to compare")
    metrics = list(dict.fromkeys(metric or METRICS))
    return judgement.judge(folders, metrics, split=split, equivalence=_region(equivalence) / 100, imported=imported())


def _with_val(folders: dict[str, tuple[Path, ...]]) -> dict[str, tuple[Path, ...]]:
    """Results that are scored on val; a line names each one that is not."""
    from segpipe.core.files import read_json

    found = {
        name: some for name, some in folders.items() if all("val" in read_json(f / "headline.json") for f in some)
    }  # fmt: skip
    for name in folders.keys() - found.keys():
        print(f"left out: {name}: it has no predictions of val", file=sys.stderr)
    return found


def _of_folds(names: list[str], metric: list[str], equivalence: float | None) -> Judgement:
    """The runs that were trained on folds, compared on the train images."""
    from segpipe.config.context import start
    from segpipe.report.collect import judge_folds

    context = start(overrides=None if equivalence is None else [f"report.equivalence={equivalence}"])
    found = judge_folds(context, list(dict.fromkeys(metric or METRICS)))
    if found is None:
        raise ConfigError("fewer than two runs are trained on folds; add runs to folds.runs in params.yaml")
    for name in names:
        if name not in found.scores:
            raise ConfigError(f"run '{name}' is trained on no folds{suggestion(name, found.scores)}")
    if len(set(names)) == 1:
        raise ConfigError("found 1 result, wanted at least two to compare")
    return found.only(names) if names else found


def _region(points: float | None) -> float:
    """The region of equivalence in points: as given, of params.yaml, or 1."""
    from segpipe.config.params import load

    if points is not None:
        return points
    return load().report.equivalence if Path("params.yaml").is_file() else 1.0


def _elsewhere(
    path: Path, names: list[str], metric: list[str], equivalence: float | None, lower: list[str]
) -> Judgement:  # fmt: skip
    """The runs of a table from elsewhere, compared."""
    from segpipe.metrics.elsewhere import read_elsewhere
    from segpipe.report import judgement

    read = read_elsewhere(path, lower)
    unknown = [name for name in names if name not in read.runs]
    if unknown:
        raise ConfigError(f"{path} has no run '{unknown[0]}'{suggestion(unknown[0], read.runs)}")
    runs = {name: read.runs[name] for name in names or read.runs}
    if len(runs) < 2:
        raise ConfigError(f"{path}: found {len(runs)} run, wanted at least two to compare")
    metrics = list(dict.fromkeys(metric or read.columns or METRICS))
    if not read.columns:
        region = (1.0 if equivalence is None else equivalence) / 100
        return judgement.judge_tables(runs, read.groups, metrics, equivalence=region)
    unknown = [name for name in metrics if name not in read.columns]
    if unknown:
        raise ConfigError(f"{path} has no score '{unknown[0]}'{suggestion(unknown[0], read.columns)}")
    called = [read.columns[name] for name in metrics]
    return judgement.judge_tables(runs, read.groups, called, equivalence=equivalence or 0.0)


def _figure(found: Judgement, metric: str) -> str:
    """How far all results are behind the best."""
    from segpipe.report.analysis import behind_the_best

    drawn = behind_the_best(found, metric)
    if drawn is None:
        raise ConfigError(f"no difference in {metric} is defined, so that there is nothing to draw")
    return drawn.svg


def _print_two(found: Judgement, split: str) -> None:
    """The verdicts on two results, and what the same networks would do on other images."""
    for difference in found.differences:
        print(difference.verdict)
        if difference.claim == "methods" and not difference.caution:
            print(_of_networks(difference))
    first = found.differences[0]
    seeds = f"{first.seeds[0]} and {first.seeds[1]} seeds" if len(set(first.seeds)) > 1 else _seeds(first.seeds[0])
    of = {"folds": "train, each scored by a network that did not see it", "the table": "the table"}.get(split, split)
    said = "Nothing is claimed: see above." if all(d.caution for d in found.differences) else _said(first.claim)
    print(f"\n{first.units} {first.unit}s of {of}, {seeds}. {said}")
    for note in found.notes:
        print(f"note: {note}")


def _of_networks(difference: Difference) -> str:
    """What these networks alone would differ by on other images, the one ahead first."""
    from segpipe.metrics.naming import digits, lower_is_better, scale

    factor, unit = scale(difference.metric)
    names, bounds = [difference.first, difference.second], difference.fixed or (0.0, 0.0)
    if (difference.value or 0) * (-1 if lower_is_better(difference.metric) else 1) < 0:
        names, factor = names[::-1], -factor
    low, high = sorted(factor * bound for bound in bounds)
    shown = f"{low:+.{digits(abs(factor))}f} to {high:+.{digits(abs(factor))}f}{unit}"
    return f"    these networks alone, on other images: {' - '.join(names)} is {shown}"


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds each"


def _said(claim: str) -> str:
    """What a claim is about, and how to make the other."""
    if claim == "methods":
        return "These methods: the interval holds for new trainings and new images."
    return (
        "These networks: the interval holds for these weights on new images. About new trainings only runs of several "
        "seeds say something; an ensemble or a CRF is made of given networks."
    )


def _print_many(found: Judgement, metrics: list[str]) -> None:
    """A table by metric, and what leads."""
    from segpipe.report import judgement
    from segpipe.report.runs import REFINED

    runs = [name for name, made_of in found.sample.networks.items() if made_of == name and REFINED not in name]
    alone = found.only(runs) if 1 < len(runs) < len(found.scores) else None
    for name in metrics:
        if alone is not None and len(alone.order(name)) > 1:
            print(f"Runs alone. {judgement.sentence(alone, name)}")
            print(f"{judgement.ranking_table(alone, name).markdown()}\nAll results.")
        print(judgement.sentence(found, name))
        print(judgement.ranking_table(found, name).markdown())
    print(
        f"{found.units} {found.unit}s. Intervals of differences hold together in a table. These methods: new trainings "
        "and new images; these networks: new images alone."
    )
    for note in found.notes:
        print(f"note: {note}")


def _plain(found: Judgement) -> dict[str, Any]:
    return {
        "scores": {n: {m: None if isnan(v) else v for m, v in row.items()} for n, row in found.scores.items()},
        "caution": found.caution,
        "notes": found.notes,
        "intervals": found.bounds,
        "differences": [
            {**asdict(d), "shown": d.shown, "word": d.word, "verdict": d.verdict} for d in found.differences
        ],
        "best": {metric: chances.best for metric, chances in found.chances.items()},
    }
