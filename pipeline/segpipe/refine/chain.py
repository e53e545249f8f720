"""Chains of rules such as `temperature + weights`: fitted on val, judged out of fold, refused where unsure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe import refine
from segpipe.core import registry
from segpipe.core.argmax import label_and_confidence
from segpipe.metrics.comparison import compare
from segpipe.metrics.counts import Counts, count
from segpipe.metrics.jackknife import Tables
from segpipe.refine import ARGMAX
from segpipe.refine.base import Rule
from segpipe.refine.evidence import Evidence, Part, Shown, each
from segpipe.refine.weighting import score_of

FOLDS = 5  # of the groups of val, at most
LEVEL = 0.8  # of the interval whose lower end must exceed 0 for a rule to be taken
FEWEST = 4  # groups without which nothing can be fitted and judged


class Chain:
    """Rules one behind the other; without any it is the plain arg max."""

    def __init__(self, links: Sequence[tuple[str, Rule]]) -> None:
        self.links = list(links)

    @staticmethod
    def read(text: str) -> Chain:
        """Of a text such as `temperature + rankseg(metric=dice)` or `argmax`.

        Raises:
            ConfigError: a name or option that is unknown, a weight, or a refiner that is no rule.
        """
        return Chain([(entry.name, _rule(entry, options)) for entry, options in refine.links(text)])

    @staticmethod
    def restore(described: Sequence[dict[str, Any]]) -> Chain:
        """What `describe` told."""
        return Chain([(link["name"], _rule(refine.find(link["name"]), link["numbers"])) for link in described])

    def describe(self) -> list[dict[str, Any]]:
        """The links with their numbers, as JSON holds them."""
        return [{"name": name, "numbers": link.describe()} for name, link in self.links]

    def fit(self, evidence: Evidence, metric: str) -> None:
        """Each link on what those before it make of val."""
        for position, (_, link) in enumerate(self.links):
            link.learn(_Behind(evidence, Chain(self.links[:position])), metric)

    def refine(self, image: NDArray[np.uint8], probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """The probabilities (C, H, W) that its labels are read from."""
        found = np.asarray(probs, np.float32)
        for _, link in self.links:
            found = link.apply(image, found)
        return found

    def pointwise(self) -> tuple[float, list[float]] | None:
        """(exponent, weights): that of each pixel p^exponent times a weight a class is all it does; None where not."""
        exponent, weights = 1.0, np.ones(1)
        for _, link in self.links:
            factors = link.factors()
            if factors is None:
                return None
            exponent *= factors[0]
            weights = weights ** factors[0] * np.array(factors[1])
        return exponent, [float(weight) for weight in weights]

    def labels(self, image: NDArray[np.uint8], probs: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The labels (H, W) of an image; ties go to the lowest class."""
        before = Chain(self.links[:-1]).refine(image, probs)
        last = self.links[-1][1] if self.links else None
        weights = None if last is None else last.weights_of(before)
        refined = before if last is None or weights is not None else last.apply(image, before)
        found = np.asarray(label_and_confidence(refined, weights)[0], np.uint8)
        for _, link in self.links:
            found = link.settle(refined, found)
        return found


def _rule(entry: registry.Entry, numbers: dict[str, Any]) -> Rule:
    made: Rule = entry.load()(**numbers)
    return made


class _Behind(Evidence):
    """Val as the first links of a chain leave it."""

    def __init__(self, evidence: Evidence, chain: Chain) -> None:
        self.evidence, self.chain, self.groups = evidence, chain, evidence.groups

    def __len__(self) -> int:
        return len(self.evidence)

    def __getitem__(self, position: int) -> Shown:
        shown = self.evidence[position]
        return Shown(shown.image, self.chain.refine(shown.image, shown.probs), shown.target)


@dataclass(frozen=True)
class Judged:
    """A chain on val: its score on images that it was not fitted on, that of arg max, and whether it is taken.

    low: lower end of the interval of the difference; None where val tells nothing, with the reason.
    """

    chain: str
    score: float
    score_of_argmax: float
    low: float | None
    taken: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """The chain that is taken, fitted on all of val, and how every candidate did."""

    chain: Chain
    text: str
    judged: list[Judged]


def decide(candidates: Sequence[str], evidence: Evidence, metric: str) -> Decision:
    """The candidate of the highest cross-fitted score among those that are surely better than arg max, else arg max."""
    judged = [judge(text, evidence, metric) for text in candidates if text != ARGMAX]
    best = max((j for j in judged if j.taken), key=lambda j: j.score, default=None)
    text = ARGMAX if best is None else best.chain
    chain = Chain.read(text)
    chain.fit(evidence, metric)
    return Decision(chain, text, judged)


def refused(candidates: Sequence[str], evidence: Evidence, metric: str, reason: str) -> Decision:
    """Arg max, for a reason that holds for every candidate."""
    score = score_of(_counts(Chain([]), evidence), metric)
    judged = [Judged(text, score, score, None, taken=False, reason=reason) for text in candidates]
    return Decision(Chain([]), ARGMAX, judged)


def judge(text: str, evidence: Evidence, metric: str) -> Judged:
    """One candidate, fitted without the fold of groups that it is judged on."""
    plain = _counts(Chain([]), evidence)
    before = score_of(plain, metric)
    folds = _folds(evidence.groups)
    if len(set(evidence.groups)) < FEWEST:
        number = len(set(evidence.groups))
        reason = (
            f"val holds {number} independent group{'s' if number > 1 else ''} of images (a clip is one), wanted "
            f"{FEWEST} to fit a rule on some and judge it on others"
        )
        return Judged(text, before, before, None, taken=False, reason=reason)
    parts: list[tuple[int, Counts]] = []
    for fold in range(max(folds) + 1):
        inside = [i for i, f in enumerate(folds) if f == fold]
        chain = Chain.read(text)
        chain.fit(Part(evidence, [i for i, f in enumerate(folds) if f != fold]), metric)
        counts = _counts(chain, Part(evidence, inside))
        parts += [(i, counts[[place]]) for place, i in enumerate(inside)]
    crossed = Counts.concat([counts for _, counts in sorted(parts, key=lambda pair: pair[0])])
    score = score_of(crossed, metric)
    tables = {text: [Tables(crossed)], ARGMAX: [Tables(plain)]}
    (difference,) = compare(tables, evidence.groups, [metric], level=LEVEL)
    low = difference.low
    taken = low is not None and low > 0
    reason = "better" if taken else difference.caution or "not surely better than arg max"
    return Judged(text, score, before, low, taken=taken, reason=reason)


def _folds(groups: Sequence[str]) -> list[int]:
    """A fold for every image: groups in the order of their first image, dealt out in turn."""
    order = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    number = min(FOLDS, len(order))
    return [order[group] % number for group in groups]


def _counts(chain: Chain, evidence: Evidence) -> Counts:
    """A row for each image."""
    return Counts.concat(
        [count(chain.labels(s.image, s.probs)[None], s.target[None], len(s.probs)) for s in each(evidence)]
    )
