"""Losses by arg max and each under the rule that is fitted for it: keep the counts of a workspace of profile `rules` or
`camvid_rules`, and make the tables of docs/benchmark.md from what is kept: `python docs/rule_tables.py NAME WORKSPACE`.

The rules of `rules` are those that stage decide chose. CamVid's val is one clip, to which decide fits nothing, so here
FORCED are fitted to it all the same, without a look at other images.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import claims

from segpipe.config.context import Context, start
from segpipe.core.files import write_bytes, write_json, write_text
from segpipe.core.spreadsheet import csv_text
from segpipe.data.dataset import Index
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.elsewhere import COUNTED, KEYS, read_elsewhere
from segpipe.metrics.tables import Line, counts_rows, read_tables
from segpipe.refine.chain import Chain
from segpipe.refine.evidence import each
from segpipe.report.agreement import environment
from segpipe.report.collect import collect_results
from segpipe.report.judgement import Judgement, judge_tables
from segpipe.report.runs import seed_of
from segpipe.stages.decide import _Split

METRIC = "miou_dataset"
RULE = " + rule"
FORCED = ("prior", "weights")


def keep(name: str, workspace: Path) -> None:
    """Write results/profiles/NAME: the parameters, and the counts of every test image, packed."""
    out = claims.kept(name)
    with chdir(workspace):
        context = start()
        if context.params.decide.of:
            entries = collect_results(context)
            lines = [line for entry in entries for folder in entry.folders for line in _lines(entry.name, folder)]
        else:
            lines = [line for key in context.params.all_keys() for line in _forced(context.member(key))]
        write_json(out.absolute() / "environment.json", environment(context.params.threads))
        parameters = Path("params.yaml").read_text(encoding="utf-8")
    packed = gzip.compress(csv_text((*KEYS, *COUNTED), lines).encode(), mtime=0)
    write_bytes(out / "counts.csv.gz", packed)
    write_text(out / "params.yaml", re.sub(r"^(  source: )\S+", r"\1null", parameters, flags=re.MULTILINE))


def _lines(name: str, folder: Path) -> Iterator[Line]:
    """The counts of a result of one seed on test."""
    found = read_tables(folder, "test")
    images = list(zip(found.images, found.groups, strict=True))
    yield from counts_rows(found.tables.counts, name, seed_of(folder), images, found.classes)


def _forced(member: Context) -> Iterator[Line]:
    """The counts of a run of one seed on test by arg max, and by rules that are fitted to the whole of val."""
    index, source = Index.read(member.require("prepare")), member.require("predict")
    val, test = (_Split(member, index, source, split) for split in ("val", "test"))
    chains = {member.run: Chain([])} | {f"{member.run} + {rule}": Chain.read(rule) for rule in FORCED}
    for chain in list(chains.values())[1:]:
        chain.fit(val, METRIC)
    found: dict[str, list[Counts]] = {name: [] for name in chains}
    for shown in each(test):
        for name, chain in chains.items():
            labels = chain.labels(shown.image, shown.probs)
            found[name].append(count(labels[None], shown.target[None], len(index.classes)))
    images = [(row.id, row.group) for row in index.splits["test"]]
    for name, counts in found.items():
        yield from counts_rows(Counts.concat(counts), name, str(member.seed), images, index.classes)


def judged(name: str, rule: str = RULE) -> tuple[Judgement, Judgement]:
    """The losses compared by arg max, and under a rule; each on its own, as if the other had not been asked."""
    read = read_elsewhere(claims.kept(name) / "counts.csv.gz")
    plain = {run: tables for run, tables in read.runs.items() if " + " not in run}
    ruled = {run.removesuffix(rule): tables for run, tables in read.runs.items() if run.endswith(rule)}
    return tuple(judge_tables(runs, read.groups, [METRIC]) for runs in (plain, ruled))  # type: ignore[return-value]


def table(name: str, rule: str = RULE) -> str:
    """A row for each loss: its score by arg max and under a rule, and how it stands to the best of each."""
    plain, ruled = judged(name, rule)
    title = "fitted rule" if rule == RULE else f"`{rule.removeprefix(' + ')}`"
    rows = [f"| loss | arg max | to the best | {title} | to the best | gain |", "| :- | -: | :- | -: | :- | -: |"]
    for run in ruled.order(METRIC):
        before, after = plain.scores[run][METRIC], ruled.scores[run][METRIC]
        cells = [f"{before:.3f}", _stands(plain, run), f"{after:.3f}", _stands(ruled, run)]
        rows.append(f"| {run} | {' | '.join(cells)} | {100 * (after - before):+.1f} |")
    return "\n".join(rows)


def _stands(found: Judgement, run: str) -> str:
    """How far a loss is behind the best, with its interval over all pairs, and the verdict."""
    best = found.order(METRIC)[0]
    if run == best:
        return "best"
    one = found.between(best, run, METRIC)
    if one.value is None or one.low is None or one.high is None:
        return "undefined"
    sign = 1 if one.first == best else -1
    low, high = sorted((100 * sign * one.low, 100 * sign * one.high))
    word = {"better": "**worse**"}.get(one.word, one.word)
    return f"{100 * sign * one.value:.1f} ({low:.1f} to {high:.1f}), {word}"


def summary(name: str, rule: str = RULE) -> str:
    """How many differences are significant by arg max and under the rules, and how far apart the losses are."""
    plain, ruled = judged(name, rule)
    shown = [sum(d.shown for d in found.differences) for found in (plain, ruled)]
    spans = [100 * (max(v) - min(v)) for v in ([s[METRIC] for s in found.scores.values()] for found in (plain, ruled))]
    seeds, pairs = next(iter(plain.seeds.values())), len(plain.differences)
    return (
        f"Of {pairs} pairs of losses ({seeds} seeds, {plain.units} {plain.unit}s of test images), {shown[0]} differ "
        f"by arg max and {shown[1]} under the rules. From the best loss to the worst it is {spans[0]:.1f} points by "
        f"arg max and {spans[1]:.1f} under the rules."
    )


def block(name: str, rule: str = RULE) -> str:
    """Both, as docs/benchmark.md shows them."""
    return f"{summary(name, rule)}\n\n{table(name, rule)}"


if __name__ == "__main__":
    keep(sys.argv[1], Path(os.path.abspath(sys.argv[2])))
