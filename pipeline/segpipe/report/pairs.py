"""All comparisons as one table, for who wants more than the verdicts: results/tables/pairs.csv."""

from __future__ import annotations

from segpipe.core.spreadsheet import csv_text
from segpipe.report.judgement import Judgement

HEADER = (
    "metric", "first", "second", "claim", "difference", "low", "high", "pairs", "alone_low", "alone_high", "own_low",
    "own_high", "networks_low", "networks_high", "p", "p_holm", "verdict", "unit", "units", "seeds",
)  # fmt: skip


def pairs_csv(found: Judgement) -> str:
    """All pairs and metrics, a line each."""
    nothing = (None, None)
    return csv_text(
        HEADER,
        [
            [
                d.metric, d.first, d.second, d.claim, d.value, d.low, d.high, d.pairs, *(d.alone or nothing),
                *(d.own or nothing), *(d.fixed or nothing), d.p, d.p_holm, d.word, d.unit, d.units, min(d.seeds),
            ]
            for d in found.differences
        ],
    )  # fmt: skip
