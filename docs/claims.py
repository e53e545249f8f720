"""Claims of the articles as planned comparisons, each a pair of runs of a profile and a metric.

`tests/readme.py` writes docs/claims.md from what `docs/profiles.py` found for them in results/profiles/*/claims.json.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segpipe.core.files import read_json
from segpipe.metrics.comparison import digits, lower_is_better, pretty, scale
from segpipe.reporting.judgement import judge

PROFILES = Path(__file__).parents[1] / "results" / "profiles"


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


_SOFT = "Wang et al. 2023 (JML, DML)"
_TRIPLE = "Wang et al. 2023 (fine-grained mIoUs)"
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
    Claim(
        "averaging beats a single network",
        "the article of tricks",
        "ensembles",
        "miou_dataset",
        "ensemble: average",
        "ce_jml",
    ),
    Claim(
        "stacking beats averaging",
        "the article of tricks",
        "ensembles",
        "miou_dataset",
        "ensemble: logistic",
        "ensemble: average",
    ),
)


def tested(profile: str, workspace: Path) -> list[dict[str, Any]]:
    """Each claim about a profile, with the difference of its runs on test in a workspace."""
    found = []
    for claim in (c for c in CLAIMS if c.profile == profile):
        folders = {name: _folders(workspace, name) for name in (claim.better, claim.other)}
        pair = judge(folders, [claim.metric]).differences[0]
        found.append({**asdict(claim), **{k: getattr(pair, k) for k in ("value", "low", "high", "p", "shown")}})
    return found


def _folders(workspace: Path, name: str) -> list[Path]:
    """The results of a run's seeds, or of an ensemble."""
    if name.startswith("ensemble: "):
        return [workspace / "results" / "ensembles" / name.removeprefix("ensemble: ")]
    return [workspace / "results" / "runs" / f"{name}-{seed}" for seed in (0, 1)]


def verdict(row: dict[str, Any]) -> str:
    """shown, not shown or contradicted."""
    if row["equal"]:
        same = row["value"] == 0 or not row["shown"]
        return "shown: identical" if row["value"] == 0 else "no difference shown" if same else "contradicted"
    if not row["shown"]:
        return "not shown"
    ahead = row["value"] < 0 if lower_is_better(row["metric"]) else row["value"] > 0
    return "shown" if ahead else "contradicted"


def table() -> str:
    """A row for each claim that was tested."""
    rows = ["| claim | from | tested as | effect (95 % interval) | verdict |", "| :- | :- | :- | -: | :- |"]
    for claim in CLAIMS:
        path = PROFILES / claim.profile / "claims.json"
        for row in read_json(path) if path.is_file() else ():
            if row["text"] == claim.text:
                factor, unit = scale(row["metric"])
                decimals = digits(factor)
                value, low, high = (factor * row[k] for k in ("value", "low", "high"))
                effect = f"{value:+.{decimals}f}{unit} ({low:+.{decimals}f} to {high:+.{decimals}f})"
                pair = f"{pretty(row['metric'])} of `{row['better']}` - `{row['other']}`"
                rows.append(f"| {claim.text} | {claim.source} | {pair} | {effect} | **{verdict(row)}** |")
    return "\n".join(rows)
