"""The report: entries, comparisons and failures of params.yaml, as tables and as sections of the page."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from segpipe.config.context import Context
from segpipe.core.files import read_json
from segpipe.data.dataset import Index
from segpipe.metrics.naming import pretty
from segpipe.report import (
    advice,
    analysis,
    benchmark,
    decisions,
    ensembling,
    failures,
    figures,
    judgement,
    pairs,
    provenance,
    refinement,
    results,
)
from segpipe.report.audit import Part, pieces
from segpipe.report.audited import Audited
from segpipe.report.collect import MissingResults, collect_results, costs, judge_entries, judge_folds, untried
from segpipe.report.html import Code, Figure, Fold, Group, Heading, Legend, Piece
from segpipe.report.page import Answer, Section
from segpipe.report.suspects import suspects
from segpipe.report.tables import Table

WORST = 4  # images shown with a slider, and cases of each kind of the audit
FAILS = 0.5  # mean IoU below which a run fails on an image
SMALLEST = 12  # pixels of a suspect region
ALIKE = 0.98  # correlation of near-duplicates
SAME = 1e-6  # largest difference of a score from what its counts give
_WIDEST = 720  # pixels of a picture with a slider
# What counts, in words, of the goals of `segpipe recommend`.
_COUNTS = {
    "D": "all pixels together (mIoU^D)",
    "I": "every image alike (mIoU^I)",
    "C": "every class of every image alike (mIoU^C)",
    "worst": "the worst 5 % of images",
    "calibration": "confidence that can be believed (ECE^D)",
    "likelihood": "probabilities (NLL^D)",
    "speed": "speed, where mIoU^D is not shown to be worse",
}


class ReportBuilder:
    """Everything is read once; `missing` says what a partial report does without."""

    def __init__(self, context: Context, *, partial: bool = False) -> None:

        self.context, self.metric = context, context.params.report.metric
        self.missing, self.suspects = MissingResults(strict=not partial), ""
        self.entries = collect_results(context, self.missing)
        self.classes: list[str] = self.entries[0].metrics[0]["passport"]["classes"]
        self.kinds = {entry.name: entry.kind for entry in self.entries}
        evaluate = context.params.evaluate
        self.columns = [
            *("acc", "macc_dataset", "miou_dataset", "miou_image", "miou_class"),
            *(f"miou_image_q{quantile:g}" for quantile in evaluate.quantiles),
            *(f"share_iou_ge_{threshold:g}" for threshold in evaluate.thresholds),
            *("ece_dataset", "nll_dataset"),
        ]
        self.judged = judge_entries(self.entries, context, list(dict.fromkeys([self.metric, *self.columns])))
        runs = [entry.name for entry in self.entries if entry.kind in ("run", "import")]
        self.collapsed = {entry.name: entry.collapsed for entry in self.entries if entry.collapsed}
        sound = [name for name in self.judged.scores if name not in self.collapsed]
        self.sound = self.judged.only(sound) if 0 < len(sound) < len(self.judged.scores) else self.judged
        self.runs_alone = self.judged.only(runs) if 1 < len(runs) < len(self.entries) else None
        self.crossed = judge_folds(context, [self.metric], self.missing)
        self.refined = {
            key: read_json(folder / "crf.json")
            for key in context.params.crf_keys()
            if (folder := self.missing.read(lambda key=key: context.member(f"{key}-crf").require("evaluate")))  # type: ignore[misc]
        }
        self.decisions = self._read_decisions()
        self.combined = {
            entry.name.removeprefix("ensemble: "): read_json(entry.folders[0] / "members.json")
            for entry in self.entries
            if entry.kind == "ensemble"
        }

    def _read_decisions(self) -> dict[str, dict[str, Any]]:
        """What stage decide wrote, by score and result."""
        found: dict[str, dict[str, Any]] = {}
        for rule in self.context.params.decide.metrics:
            for key in self.context.params.decided_keys():
                own = self.context.decided(key, rule)
                folder = self.missing.read(lambda own=own: own.require("evaluate"))  # type: ignore[misc]
                if folder is not None:
                    found.setdefault(rule, {})[key] = read_json(folder / "decide.json")
        return found

    @cached_property
    def index(self) -> Index:
        """The images, which pictures need and tables do not."""
        return Index.read(self.context.require("prepare"))

    def summary(self) -> str:
        """The best and its ties in words."""
        return f"{results.summary(self.entries, self.metric)} {judgement.sentence(self.judged, self.metric)}".strip()

    def answer(self) -> Answer:
        """The first screen."""
        question = f"Which one to take, by {pretty(self.metric)} on test?"
        if not self.sound.order(self.metric):
            return Answer(question, "Nothing: no result defines it.", [])
        if len(self.collapsed) == len(self.entries):
            return Answer(question, "Nothing: every result has collapsed to one class.", [("next", "train longer")])
        found = advice.advise(
            "report",
            self.sound,
            costs(self.context, self.entries),
            untried(self.context),
            self.kinds,
            metric=self.metric,
        )
        told = advice.words(found, self.sound)
        title = next(heading for heading, _ in told if heading.startswith("take "))
        about = {entry.name: entry.loss for entry in self.entries}[found.take or found.best]
        lines = [("evidence" if heading == title else heading, text) for heading, text in told]
        what = [("what", about)] if found.take else []
        alone = judgement.sentence(self.runs_alone, self.metric) if self.runs_alone else ""
        runs = [("runs alone", alone)] if alone else []
        return Answer(question, title[:1].upper() + title[1:], [*what, *lines, *runs, ("limits", self._limits())])

    def warnings(self) -> list[str]:
        """What a reader must know before the first number."""
        found = [f"Left out: {message}." for message in self.missing]
        for name, what in self.collapsed.items():
            found.append(f"{name} has collapsed: one of its networks finds {what} on test. It is not recommended.")
        for entry in self.entries:
            for metric in ("miou_dataset", "miou_image", "miou_class", self.metric):
                missing, mean = len(entry.metrics) - len(entry.values(metric)), entry.mean(metric)
                again = self.judged.scores[entry.name].get(metric)
                if 0 < missing < len(entry.metrics) or (missing and metric != self.metric):
                    found.append(
                        f"{entry.name}: {metric} is undefined for {missing} of {len(entry.metrics)} seeds, so it has "
                        "no mean here."
                    )
                elif mean is not None and again is not None and abs(mean - again) > SAME and not self.judged.notes:
                    found.append(
                        f"{entry.name}: metrics.json says {metric} {mean:.4f}, counts.csv gives {again:.4f}; evaluate "
                        "it again (`segpipe evaluate`)."
                    )
        if max(len(entry.folders) for entry in self.entries) == 1 and any(e.kind == "run" for e in self.entries):
            found.append(
                "One seed only: every comparison is about these networks on other images. Whether one loss is better "
                "than another cannot be concluded; add seeds to params.yaml."
            )
        return list(dict.fromkeys(found))

    def sections(self) -> list[Section]:
        """All that follows the first screen."""
        return [
            Section("If something else counts", self._goals()),
            Section("Scores", self._scores()),
            *analysis.sections(self.entries, self.judged, self.runs_alone, self.metric),
            Section("Cross-validation", analysis.crossed(self.crossed, self.metric)),
            Section("Ensembles", ensembling.parts(self.combined, self.entries, self.judged) if self.combined else []),
            Section("Dense CRF", refinement.parts(self.refined, self.classes, judgement.region_of(self.judged))),
            Section("Decision rules", decisions.parts(self.decisions)),
            Section("Where does it fail?", self._failures()),
            Section("Training", self._training()),
            Section("Pictures", failures.gallery(self.context, self.index, self.entries)),
            Section("Reproduce", self._reproduce()),
        ]

    def tables(self) -> dict[str, str]:
        """results/tables, after the sections."""
        classes = self.classes
        return {
            **results.tables(self.entries, self.metric, classes),
            "ranking.md": judgement.ranking_table(self.judged, self.metric).markdown(),
            "runs.md": judgement.ranking_table(self.runs_alone or self.judged, self.metric).markdown(),
            "pairs.csv": pairs.pairs_csv(self.judged),
            "calibration.md": analysis.calibration_table(self.entries).markdown(),
            "borders.md": analysis.borders_table(self.entries).markdown(),
            "crf.md": refinement.tables(self.refined, classes, judgement.region_of(self.judged)),
            **({"decisions.md": decisions.tables(self.decisions)} if self.decisions else {}),
            "ensembles.md": ensembling.tables(self.combined, self.entries, self.judged),
            **({"folds.md": judgement.ranking_table(self.crossed, self.metric).markdown()} if self.crossed else {}),
            **({"label_suspects.csv": self.suspects} if self.suspects else {}),
        }

    def _limits(self) -> str:
        judged, seeds = self.judged, sorted({len(e.folders) for e in self.entries if e.kind in ("run", "crf")})
        trained = f"{' or '.join(map(str, seeds))} seed{'s' if seeds != [1] else ''} a run" if seeds else "no run"
        return (
            f"{self.index.dataset}, {len(self.index.splits['test'])} test images ({judged.units} {judged.unit}s), "
            f"{trained}; all tuning used the val split. The ranking may change on other data."
        )

    def _goals(self) -> list[Piece]:

        rows, cost = [], costs(self.context, self.entries)
        for goal, words in _COUNTS.items():
            if self.sound.order(advice.GOALS[goal]):
                found = advice.advise(goal, self.sound, cost, [], self.kinds)
                taken = found.take or found.best
                share = found.shares.get(taken, 0.0)
                ties = judgement.listed([n for n in (found.best, *found.same, *found.ties) if n != taken], 12)
                sure = ["–", "–"] if found.caution else [f"{100 * share:.0f} %", ties or "none"]
                told = [advice.scored(found, self.sound), *sure]
                rows.append([words, found.take or "nothing yet", *told])
        header = ["what counts", "take", "score on test", "best", "tied with it"]
        return [
            Table(header, rows),
            "Best: the probability that it truly is; results of the same numbers share it. Speed counts multiply-adds; "
            "the work of CRFs and rules is not counted, so results with one are not among them. `segpipe recommend "
            "--goal D` (or I, C, worst, calibration, likelihood, speed) says more, and what to run next.",
        ]

    def _scores(self) -> list[Piece]:

        order, classes = results.ranked(self.entries, self.metric), self.classes
        columns = [c for c in self.columns if any(e.mean(c) is not None for e in order)]
        cells = benchmark.cells(order, self.judged, columns, classes)
        title = pretty(self.metric)
        bounds = [self.judged.bounds[e.name].get(self.metric) for e in order]
        means = results.by_class(order)
        shown = dict(list(means.items())[:8])
        return [
            benchmark.scores_table([e.name for e in order], columns, cells),
            "Mean ± standard deviation over seeds. Bold: the best of a column; =: tied with it, "
            "over all pairs. mIoU^D pools the pixels of all images, mIoU^I averages over images, mIoU^C over the "
            "images of each class, then classes; a class absent from an image's label is left out there. "
            "Votes have no probabilities, so no calibration.",
            Figure(
                figures.dots(
                    [e.name for e in order], [e.values(self.metric) for e in order], bounds, figures.mathematical(title)
                ),
                f"{title} on test: a dot a seed, a bar at their mean, a band for its 95 % interval.",
            ),
            Heading("IoU of each class"),
            *Table(
                ["IoU^D", *classes],
                [[name, *("–" if v is None else f"{v:.3f}" for v in row)] for name, row in means.items()],
            ).narrow(),
            Figure(
                figures.class_bars(classes, shown),
                "IoU of each class on test, pixels of all images pooled, mean over seeds"
                f"{'' if len(shown) == len(means) else f'; the first {len(shown)} by {title}'}.",
            ),
        ]

    def _training(self) -> list[Piece]:

        histories: dict[str, list[Any]] = {}
        for entry in (e for e in self.entries if e.kind == "run"):
            for folder in entry.folders:
                member = self.context.member(folder.name)
                trained = self.missing.read(lambda member=member: member.require("train"))  # type: ignore[misc]
                if trained is not None:
                    histories.setdefault(entry.name, []).append(results.read_history(trained))
        drawn, which = results.foremost([entry for entry in self.entries if entry.name in histories], self.metric)
        caption = f"Training: one line a seed. Losses have scales of their own.{which}"
        return [Figure(figures.curves({e.name: histories[e.name] for e in drawn}), caption)] if drawn else []

    def _failures(self) -> list[Piece]:

        audited = self.missing.read(lambda: Audited(self.context, "test", self.entries))
        if audited is None:
            return ["The images are not there: see the top of this page."]
        taken = (self.judged.order(self.metric) or [self.entries[0].name])[0]
        found = self.missing.read(lambda: failures.sliders(audited, taken, WORST, _WIDEST))
        told: list[Piece] = [] if found is None else [
            Heading(f"Worst images of {taken}"),
            "Lowest mean IoU over the classes in the label, mean over seeds; left of the line the label, right of it "
            "the prediction of the first seed, both over the image.",
            Legend(self.index.classes, self.index.palette),
            Group("sliders", found),
        ]  # fmt: skip
        for find in (
            lambda: failures.common_failures(audited, WORST, FAILS),
            lambda: self._suspects(audited),
            lambda: failures.duplicates(audited, WORST, ALIKE),
        ):
            part = self.missing.read(find)
            if part is not None:
                text, *rest = pieces(part)
                told += [Heading(part.heading), text]
                told += [Fold(f"{len(part.cases)} shown", rest)] if rest else []
        return [*told, "`segpipe audit` shows more of them, the worst pairs of image and class, and val."]

    def _suspects(self, audited: Audited) -> Part:
        part, self.suspects = suspects(audited, 1, SMALLEST)
        return part

    def _reproduce(self) -> list[Piece]:

        return [
            "All of it, in the folder of params.yaml; only what is missing or changed runs:",
            Code(
                "dvc repro             # or: segpipe repro -j 2\nsegpipe verify        # against the committed results"
            ),
            "One by one, with what each stage reads made before:",
            Fold("every command", [Code("\n".join(provenance.commands(self.context)))]),
            Fold("versions, where this page was made", [provenance.versions(self.context)]),
            Fold("parameters", [Code(provenance.parameters(self.context))]),
        ]
