"""Stage report: the listed results as one HTML page and as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.stages import options
from segpipe.stages.context import Context, start

# Scores that do not follow from what is stored of each image, so nothing can be resampled.
NOT_RESAMPLED = ("sce_dataset", "sce_image", "ace", "aurc")


def report(settings: options.Set = None, dry_run: options.DryRun = False, as_json: options.Json = False) -> None:
    """Write results/report.html and results/tables from all results of params.yaml."""
    context = start("report", overrides=settings, dry_run=dry_run, as_json=as_json)
    if dry_run:
        context.announce(context.path("report"))
        return
    with context.writing(context.path("report") / "report"):
        result = write(context)
    context.finish(result, [result["summary"], f"report: {result['path']}"], f"open {result['path']} in a browser")


def write(context: Context) -> dict[str, Any]:
    """Read the results that params.yaml lists, nothing else that lies around; write page and tables."""
    from segpipe.core import files
    from segpipe.reporting import analysis, ensembling, judgement, page, refinement

    entries = gather(context)
    out, metric = context.path("report"), context.params.report.metric
    prepared = context.require("prepare")
    index = files.read_json(prepared / "index.json")
    judged = judge(entries, context)
    refined = _refined(context)
    combined = _combined(context)
    answers = {
        "Ensembles": ensembling.parts(combined, entries, judged),
        "Dense CRF": refinement.parts(refined, index["classes"]),
    }
    html = page.build(
        entries,
        metric,
        dataset=index["dataset"],
        images={split: len(rows) for split, rows in index["splits"].items()},
        classes=index["classes"],
        palette=index["palette"],
        figures=_figures(context, entries, metric, index["classes"]),
        pictures=_pictures(entries, index, prepared),
        sections=[*analysis.sections(entries, judged, metric), *(pair for pair in answers.items() if pair[1])],
        tie=judgement.sentence(judged, metric),
    )
    tables = _tables(entries, metric, index["classes"])
    tables |= {"ranking.md": judgement.ranking_table(judged, metric), "pairs.csv": judgement.pairs_csv(judged)}
    tables |= {"calibration.md": analysis.calibration_table(entries), "borders.md": analysis.borders_table(entries)}
    tables["crf.md"] = refinement.tables(refined, index["classes"])
    tables["ensembles.md"] = ensembling.tables(combined, entries, judged)
    for name, text in tables.items():
        files.write_text(out / "tables" / name, text)
    files.write_text(out / "report.html", html)
    summary = f"{page.summary(entries, metric)} {judgement.sentence(judged, metric)}".strip()
    return {"path": str(out / "report.html"), "summary": summary}


def judge(entries: list[Any], context: Context) -> Any:
    """All entries compared on test, by the report's metric and the three averages of IoU."""
    from segpipe.reporting import judgement

    metrics = dict.fromkeys([context.params.report.metric, "miou_dataset", "miou_image", "miou_class"])
    folders = {entry.name: entry.folders for entry in entries}
    usable = [name for name in metrics if name not in NOT_RESAMPLED]
    return judgement.judge(folders, usable, resamples=context.params.evaluate.resamples)


def gather(context: Context) -> list[Any]:
    """All entries of params.yaml, in its order: runs, runs with CRF, ensembles."""
    from segpipe.reporting.results import entry

    params = context.params
    found = []
    refined = params.crf_keys()
    for kind, suffix in (("run", ""), ("crf", " + CRF")):
        for run, section in params.runs.items():
            keys = [f"{run}-{seed}" for seed in params.seeds]
            if kind == "run" or keys[0] in refined:
                folders = [
                    context.member(key).require("evaluate", variant="crf" if kind == "crf" else "") for key in keys
                ]
                found.append(entry(run + suffix, kind, section.loss + suffix, folders))
    for method in params.ensemble:
        member = Context("evaluate", params, context.base, method=method, overrides=context.overrides)
        found.append(entry(f"ensemble: {method}", "ensemble", method, [member.require("evaluate")]))
    return found


def _figures(context: Context, entries: list[Any], metric: str, classes: list[str]) -> list[tuple[str, str]]:
    from segpipe.reporting import figures
    from segpipe.reporting.results import COLUMNS, read_history

    params = context.params
    histories = {
        run: [read_history(context.member(f"{run}-{seed}").require("train")) for seed in params.seeds]
        for run in params.runs
    }
    bars = {e.name: _mean_over_seeds([m["test"]["per_class"]["iou_dataset"] for m in e.metrics]) for e in entries}
    values = [e.values(metric) for e in entries]
    title = COLUMNS.get(metric, metric)
    return [
        (f"{title} on test: a dot a seed, a bar at the mean.", figures.dots([e.name for e in entries], values, title)),
        ("IoU of each class on test, pixels of all images pooled, mean over seeds.", figures.class_bars(classes, bars)),
        ("Training: one line a seed. Losses have scales of their own.", figures.curves(histories)),
    ]


def _mean_over_seeds(rows: list[list[float | None]]) -> list[float | None]:
    means: list[float | None] = []
    for values in zip(*rows, strict=True):
        defined = [value for value in values if value is not None]
        means.append(sum(defined) / len(defined) if defined else None)
    return means


def _pictures(entries: list[Any], index: dict[str, Any], prepared: Path) -> list[tuple[str, list[tuple[str, bytes]]]]:
    """Input, label and each entry's prediction (first seed) of the kept test images."""
    from segpipe.core.files import read_array
    from segpipe.data.files import png_bytes
    from segpipe.reporting.pictures import colorize

    images, labels = (read_array(prepared / f"test_{name}.npy") for name in ("images", "labels"))
    found = []
    for i, row in enumerate(index["splits"]["test"]):
        predictions = [(e.name, e.folders[0] / "pictures" / f"{row['id']}.png") for e in entries]
        if predictions[0][1].exists():
            size = (slice(row["geometry"]["resized_height"]), slice(row["geometry"]["resized_width"]))
            pair = [
                ("image", png_bytes(images[i][size])),
                ("label", png_bytes(colorize(labels[i][size], index["palette"]))),
            ]
            found.append((row["id"], pair + [(name, path.read_bytes()) for name, path in predictions]))
    return found


def _refined(context: Context) -> dict[str, Any]:
    """By run-seed, what stage crf found."""
    from segpipe.core.files import read_json

    return {key: read_json(context.member(key).require("crf") / "crf.json") for key in context.params.crf_keys()}


def _combined(context: Context) -> dict[str, Any]:
    """By ensemble, what stage evaluate found about its members."""
    from segpipe.core.files import read_json

    found = {}
    for method in context.params.ensemble:
        own = Context("evaluate", context.params, context.base, method=method, overrides=context.overrides)
        found[method] = read_json(own.require("evaluate") / "members.json")
    return found


def _tables(entries: list[Any], metric: str, classes: list[str]) -> dict[str, str]:
    """results/tables: the scores and the IoU of each class, as Markdown and CSV."""
    from segpipe.reporting.results import COLUMNS, format_cell, ranked
    from segpipe.reporting.tables import csv_text, markdown

    order = ranked(entries, metric)
    scores = markdown(
        ["what", *COLUMNS.values()], [[e.name, *(format_cell(e, column) for column in COLUMNS)] for e in order]
    )
    by_seed = csv_text(
        ["what", "kind", "loss", "folder", *COLUMNS],
        [
            [e.name, e.kind, e.loss, folder.as_posix(), *(m["test"].get(column) for column in COLUMNS)]
            for e in order
            for folder, m in zip(e.folders, e.metrics, strict=True)
        ],
    )
    means = {e.name: _mean_over_seeds([m["test"]["per_class"]["iou_dataset"] for m in e.metrics]) for e in order}
    of_class = markdown(
        ["IoU^D", *classes], [[name, *("–" if v is None else f"{v:.3f}" for v in row)] for name, row in means.items()]
    )
    per_class = csv_text(["what", *classes], [[name, *row] for name, row in means.items()])
    return {"scores.md": scores, "scores.csv": by_seed, "classes.md": of_class, "classes.csv": per_class}
