"""Claims of the articles as planned comparisons, each a pair of runs of a profile and a metric.

`tests/readme.py` writes docs/claims.md from what `docs/profiles.py` found for them in results/profiles/*/claims.json.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from segpipe.core.files import read_json
from segpipe.metrics.comparison import Difference
from segpipe.metrics.naming import digits, lower_is_better, pretty, scale
from segpipe.report.judgement import judge

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Claim:
    """`better` beats `other` in `metric`; where `equal`, the claim is that they are the same."""

    text: str
    source: str
    profile: str
    metric: str
    better: str
    other: str
    equal: bool = False


@dataclass(frozen=True)
class Finding:
    """A claim that is no pair of runs: `ask` answers, from a workspace, with what was looked at, effect, verdict."""

    text: str
    source: str
    profiles: tuple[str, ...]
    ask: Callable[[Path], tuple[str, str, str]]


_SOFT = "Wang et al. 2023 (JML, DML)"
_TRIPLE = "Wang et al. 2023 (fine-grained mIoUs)"
_TRICKS = "the article of tricks"
_LOSSES = "the article of losses"
CLAIMS = (
    Claim("DML equals soft Dice on hard labels", _SOFT, "targets", "miou_dataset", "dml_hard", "dice_hard", equal=True),
    Claim("DML beats soft Dice on smoothed labels", _SOFT, "targets", "miou_dataset", "dml_smooth", "dice_smooth"),
    Claim(
        "DML beats soft Dice on distilled labels", _SOFT, "targets", "miou_dataset", "dml_distilled", "dice_distilled"
    ),
    Claim("DML beats soft Dice on several annotators", _SOFT, "targets", "miou_dataset", "dml_raters", "dice_raters"),
    Claim("smoothed labels improve calibration", _SOFT, "targets", "ece_dataset", "ce_smooth", "ce_hard"),
    Claim("distillation improves calibration", _SOFT, "targets", "ece_dataset", "jml_distilled", "jml_hard"),
    Claim("annotators' means improve calibration", _SOFT, "targets", "ece_dataset", "jml_raters", "jml_hard"),
    Claim("a region loss beside CE beats CE", _SOFT, "targets", "miou_dataset", "jml_hard", "ce_hard"),
    Claim("half the epochs suffice for JDT", _SOFT, "schedules", "miou_dataset", "jdt_half", "ce_double"),
    Claim(
        "half the epochs of JDT are as good as all", _SOFT, "schedules", "miou_dataset", "jdt_half", "jdt_double", True
    ),
    Claim("0.25*CE + 0.75*JML beats CE", _SOFT, "weights", "miou_dataset", "jml75", "ce"),
    Claim("0.25/0.75 beats JML alone", _SOFT, "weights", "miou_dataset", "jml75", "jml"),
    Claim("0.25/0.75 beats 0.5/0.5", _SOFT, "weights", "miou_dataset", "jml75", "jml50"),
    Claim("ASPP helps mIoU^D", _TRIPLE, "models", "miou_dataset", "jpu_aspp", "jpu_fcn"),
    Claim("a decoder with a skip helps mIoU^I", _TRIPLE, "models", "miou_image", "deeplabv3plus", "deeplabv3"),
    Claim("a decoder with a skip helps mIoU^C", _TRIPLE, "models", "miou_class", "deeplabv3plus", "deeplabv3"),
    Claim("dropout of .5 improves", "the dropout article", "dropout", "miou_dataset", "ce_dropout05", "ce_dropout0"),
    Claim("the composite loss improves", "the dropout article", "dropout", "miou_dataset", "wce05", "ce_dropout0"),
    Claim(
        "Monte Carlo passes improve",
        "the dropout article",
        "dropout",
        "miou_dataset",
        "bayesian_segnet_mc",
        "bayesian_segnet",
    ),
    Claim("loss max-pooling beats CE", "Rota Bulo et al. 2017", "lmp", "miou_dataset", "lmp", "ce"),
    Claim("LMP raises the classes' mean accuracy", "Rota Bulo et al. 2017", "lmp", "macc_dataset", "lmp", "ce"),
    Claim("its sampling improves LMP", "Rota Bulo et al. 2017", "lmp", "miou_dataset", "lmp_sampling", "lmp"),
    Claim("averaging beats a single network", _TRICKS, "ensembles", "miou_dataset", "ensemble: average", "ce_jml"),
    Claim("stacking beats averaging", _TRICKS, "ensembles", "miou_dataset", "ensemble: logistic", "ensemble: average"),
    Claim("random scale improves", _TRICKS, "augmentation", "miou_dataset", "scale", "none"),
    Claim("random scale beats flips", _TRICKS, "augmentation", "miou_dataset", "scale", "flip"),
    Claim("random scale beats colour shifts", _TRICKS, "augmentation", "miou_dataset", "scale", "color"),
    Claim("random scale beats rotation", _TRICKS, "augmentation", "miou_dataset", "scale", "rotation"),
    Claim("random scale beats cutout", _TRICKS, "augmentation", "miou_dataset", "scale", "cutout"),
    Claim("random scale beats crops", _TRICKS, "augmentation", "miou_dataset", "scale", "crop"),
    Claim("focal loss beats CE", "Lin et al. 2017", "focal", "miou_dataset", "focal2", "ce"),
    Claim("OHEM beats CE", "Shrivastava et al. 2016", "focal", "miou_dataset", "ohem", "ce"),
    Claim("a tuned alpha beats inverse frequency", _LOSSES, "focal", "miou_dataset", "focal2_tuned", "focal2_inverse"),
    Claim("the loss averaged as mIoU^D wins it", _TRIPLE, "matched", "miou_dataset", "jml_dataset", "jml_class"),
    Claim("the loss averaged as mIoU^I wins it", _TRIPLE, "matched", "miou_image", "jml_image", "jml_dataset"),
    Claim("the loss averaged as mIoU^C wins it", _TRIPLE, "matched", "miou_class", "jml_class", "jml_dataset"),
    Claim(
        "without sums over processes (here: one image each) mIoU^D falls",
        _TRIPLE,
        "matched",
        "miou_dataset",
        "jml_dataset",
        "jml_image",
    ),
    Claim(
        "CRF layers trained end to end beat a CRF after the network",
        "Zheng et al. 2015",
        "crf",
        "miou_dataset",
        "ce_crf_layer",
        "ce + CRF",
    ),
    Claim("a CRF after the network improves", "Chen et al. 2015", "crf", "miou_dataset", "ce + CRF", "ce"),
    Claim("JML equals soft Jaccard on hard labels", _SOFT, "losses", "miou_dataset", "jml", "jaccard", equal=True),
    Claim("the Lovasz loss beats CE", "Berman et al. 2018", "losses", "miou_dataset", "lovasz", "ce"),
    Claim("focal Tversky beats Tversky", "Abraham and Khan 2019", "losses", "miou_dataset", "focal_tversky", "tversky"),
    Claim("0.25*CE + 0.75*JML beats CE", _SOFT, "camvid", "miou_dataset", "ce_jml", "ce"),
    Claim("0.25/0.75 beats JML alone", _SOFT, "camvid", "miou_dataset", "ce_jml", "jml"),
    Claim("the loss averaged as mIoU^D wins it", _TRIPLE, "camvid", "miou_dataset", "ce_jml", "jml_class"),
    Claim("the loss averaged as mIoU^C wins it", _TRIPLE, "camvid", "miou_class", "jml_class", "ce_jml"),
    Claim("the Lovasz loss beats CE", "Berman et al. 2018", "camvid", "miou_dataset", "lovasz", "ce"),
    Claim("class weights raise the classes' mean accuracy", _LOSSES, "camvid", "macc_dataset", "ce_weighted", "ce"),
    Claim("focal loss beats CE", "Lin et al. 2017", "camvid", "miou_dataset", "focal", "ce"),
    Claim("loss max-pooling beats CE", "Rota Bulo et al. 2017", "camvid", "miou_dataset", "lmp", "ce"),
    Claim("LMP raises the classes' mean accuracy", "Rota Bulo et al. 2017", "camvid", "macc_dataset", "lmp", "ce"),
    Claim("a CRF after the network improves", "Chen et al. 2015", "camvid", "miou_dataset", "ce + CRF", "ce"),
    Claim("averaging beats a single network", _TRICKS, "camvid", "miou_dataset", "ensemble: average", "ce_jml"),
)


def tested(profile: str, workspace: Path) -> list[dict[str, Any]]:
    """Each claim about a profile, with the difference of its runs on test in a workspace; each finding's answer.

    A claim is one planned comparison, so its interval is the plain one; the spread of trainings is that of all runs.
    """
    found = []
    for claim in (c for c in CLAIMS if c.profile == profile):
        names = dict.fromkeys((*_runs(workspace), claim.better, claim.other))
        judged = judge({name: _folders(workspace, name) for name in names}, [claim.metric])
        pair = alone(judged.between(claim.better, claim.other, claim.metric), claim.better)
        numbers = {k: getattr(pair, k) for k in ("value", "low", "high", "p", "claim", "word")}
        found.append({**asdict(claim), **numbers})
    for finding in (f for f in FINDINGS if profile in f.profiles):
        what, effect, answer = finding.ask(workspace)
        row = {"text": finding.text, "source": finding.source, "profile": profile}
        found.append({**row, "what": what, "effect": effect, "answer": answer})
    return found


def alone(pair: Difference, first: str) -> Difference:
    """A pair as if it had been compared alone, `first` minus the other."""
    low, high = pair.alone or (None, None)
    pair = replace(pair, low=low, high=high, pairs=1)
    if pair.first == first or pair.value is None or low is None or high is None:
        return pair
    return replace(pair, first=pair.second, second=pair.first, value=-pair.value, low=-high, high=-low)


def _folders(workspace: Path, name: str) -> list[Path]:
    """The results of a run's seeds, of a run with CRF, or of an ensemble."""
    if name.startswith("ensemble: "):
        return [workspace / "results" / "ensembles" / name.removeprefix("ensemble: ")]
    kind = "crf" if name.endswith(" + CRF") else "runs"
    seeds = yaml.safe_load((workspace / "params.yaml").read_text())["seeds"]
    return [workspace / "results" / kind / f"{name.removesuffix(' + CRF')}-{seed}" for seed in seeds]


def _runs(workspace: Path) -> dict[str, list[Path]]:
    """All runs of a workspace."""
    return {run: _folders(workspace, run) for run in yaml.safe_load((workspace / "params.yaml").read_text())["runs"]}


def _winners(workspace: Path) -> tuple[str, str, str]:
    """Has no run the best point of all averages, the worst case and calibration? A description."""
    metrics = ("miou_dataset", "miou_image", "miou_class", "miou_image_q5", "ece_dataset", "nll_dataset")
    judged = judge(_runs(workspace), metrics)
    best = {metric: judged.twins(metric)[0] for metric in metrics}
    scores = judged.sample.scores
    effect = ", ".join(
        f"{pretty(metric)} {' = '.join(f'`{name}`' for name in names)}" for metric, names in best.items()
    )
    different = len({tuple(scores[run][metric].tobytes() for metric in metrics) for run in scores})
    answer = "not seen" if set.intersection(*(set(names) for names in best.values())) else "seen"
    number = f"{different} different" if different < len(judged.scores) else f"{different}"
    return f"best of {number} runs", effect, answer


def _worst_case(workspace: Path) -> tuple[str, str, str]:
    """How far below the mean are the worst images of the best run?"""
    judged = judge(_runs(workspace), ["miou_image", "miou_image_q5"])
    best = judged.order("miou_image")[0]
    mean, worst = (judged.sample.scores[best][metric].mean(0) for metric in ("miou_image", "miou_image_q5"))
    gap = mean - worst
    value, error = gap[0], float((judged.sample.units.deviations(gap[1:]) ** 2).sum()) ** 0.5
    half = float(stats.t.ppf(0.975, judged.sample.units.freedom)) * error
    low, high = value - half, value + half
    effect = f"{-100 * value:+.1f} points ({-100 * high:+.1f} to {-100 * low:+.1f})"
    return f"worst 5 % - mean mIoU^I of `{best}`", effect, "seen" if value > FAR else "not seen"


def _spread(workspace: Path) -> tuple[str, str, str]:
    """Do the seeds of the class-averaged loss lie further apart than those of the pooled one?"""
    each = {}
    for name in ("jml_class", "jml_dataset"):
        scores = [read_json(folder / "headline.json")["test"]["miou_dataset"] for folder in _folders(workspace, name)]
        each[name] = np.std(scores, ddof=1), len(scores)
    (wide, n), (narrow, m) = each["jml_class"], each["jml_dataset"]
    p = float(stats.f.sf((wide / narrow) ** 2, n - 1, m - 1))
    effect = f"{100 * wide:.1f} against {100 * narrow:.1f} points (F test over {n} seeds, p = {p:.2f})"
    return "seeds' standard deviation of mIoU^D, `jml_class` against `jml_dataset`", effect, _by(p)


def _by(p: float) -> str:
    return "shown" if p <= 0.05 else "contradicted" if p >= 0.95 else "not shown"


def _borders(workspace: Path) -> tuple[str, str, str]:
    """Does the CRF raise mIoU^D within a pixel of the labels' borders under every seed? A description."""
    run = next(iter(sorted((workspace / "results" / "crf").iterdir()))).name.rpartition("-")[0]
    sides = []
    for name in (run, f"{run} + CRF"):
        each = [read_json(folder / "metrics.json")["test"]["borders"] for folder in _folders(workspace, name)]
        sides.append([one["trimap_miou_dataset"]["1"] for one in each])
    gains = [100 * (after - before) for before, after in zip(*sides, strict=True)]
    effect = " and ".join(f"{gain:+.1f}" for gain in gains) + " points, by seed"
    answer = "seen" if min(gains) > 0 else "not seen"
    return f"mIoU^D within 1 px of a border, `{run} + CRF` - `{run}`", effect, answer


FAR = 0.05  # mIoU^I of the worst images that is far below the mean
FINDINGS = (
    Finding("no run wins every metric", _TRIPLE, ("losses", "camvid"), _winners),
    Finding("the worst case is far below the mean", _TRIPLE, ("losses", "camvid"), _worst_case),
    Finding("averaging by class is unstable under extreme imbalance", _TRIPLE, ("matched",), _spread),
    Finding("a CRF sharpens borders", "Kraehenbuehl and Koltun 2011", ("crf", "camvid"), _borders),
)


def verdict(row: dict[str, Any]) -> str:
    """shown, contradicted, practically equal or undecided; seen or not seen where there is no interval."""
    if "answer" in row:
        return str(row["answer"])
    if row["word"] == "the same":
        return "shown: identical" if row["equal"] else "contradicted: identical"
    if row["word"] != "better":
        equal = row["equal"] and row["word"] == "practically equal"
        return "shown: practically equal" if equal else str(row["word"])
    ahead = row["value"] < 0 if lower_is_better(row["metric"]) else row["value"] > 0
    return "shown" if ahead and not row["equal"] else "contradicted"


def table(data: str) -> str:
    """A row for each claim that was tested on "scenes" or "CamVid"."""
    header = ("claim", "from", "tested as", "effect (95 % interval)", "about these", "verdict")
    rows = [f"| {' | '.join(header)} |", "| :- | :- | :- | -: | :- | :- |"]
    sources = {claim.text: claim.source for claim in (*CLAIMS, *FINDINGS)}
    profiles = [name for name in dict.fromkeys(_profiles()) if (name == "camvid") == (data == "CamVid")]
    for name in profiles:
        path = kept(name) / "claims.json"
        for row in read_json(path) if path.is_file() else ():
            what, effect = (row["what"], row["effect"]) if "answer" in row else _told(row)
            told = row.get("claim", "–")
            rows.append(f"| {row['text']} | {sources[row['text']]} | {what} | {effect} | {told} | **{verdict(row)}** |")
    return "\n".join(rows)


def _profiles() -> list[str]:
    """In the order in which claims first name them."""
    return [claim.profile for claim in CLAIMS] + [name for finding in FINDINGS for name in finding.profiles]


def kept(profile: str) -> Path:
    """Where a profile's results are kept."""
    return RESULTS / "camvid" if profile == "camvid" else RESULTS / "profiles" / profile


def _told(row: dict[str, Any]) -> tuple[str, str]:
    factor, unit = scale(row["metric"])
    decimals = digits(factor)
    effect = f"{factor * row['value']:+.{decimals}f}{unit}"
    if row["low"] is not None:
        effect += f" ({factor * row['low']:+.{decimals}f} to {factor * row['high']:+.{decimals}f})"
    return f"{pretty(row['metric'])} of `{row['better']}` - `{row['other']}`", effect
