"""The methods that params.yaml names by text, such as `weighted(by=nll)`; each turns members into one prediction.

A method may be fitted once, on a sample of pixels that no member was trained on; what it learned is a dictionary
of plain numbers and one of arrays, which is all that `restore` needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core import registry, spec
from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import ConfigError, suggestion
from segpipe.core.registry import register
from segpipe.core.void import VOID
from segpipe.ensembles import learners, pixelwise, weights
from segpipe.ensembles.samples import Sample
from segpipe.ensembles.stacking import Stacker
from segpipe.metrics import measures
from segpipe.metrics.counts import Counts
from segpipe.metrics.scores import counted_names, options_of, summarize

Array = NDArray[Any]


def create(text: str) -> Method:
    """The method that a text such as `weighted(by=nll)` names.

    Raises:
        ConfigError: an unknown method or option, or a value out of range.
    """
    entry, given = spec.choose(__name__, "ensemble method", text)
    found: Method = entry.load()(**given)
    return found


class Method(ABC):
    """Members (M, C, H, W) in, probabilities (C, H, W) or labels (H, W) out; the base of all."""

    votes = False  # gives labels; 255 where it rejects
    draws = "none"  # what it is fitted on: "uniform" or "stratified" pixels
    fewest = 1  # members
    pixels = 0  # of each class and image, where they are stratified
    grows: bool = False  # any of the members can be combined by it

    def __init__(self) -> None:
        self.learned: dict[str, Any] = {}
        self.arrays: dict[str, Array] = {}

    def check(self, members: int) -> None:
        """ConfigError when so many members cannot be combined."""
        if members < self.fewest:
            raise ConfigError(f"wanted at least {self.fewest} members, found {members}; name more of them")

    def numbers(self, members: int, classes: int) -> int:
        """Numbers of four bytes that a fit keeps of each pixel, copies included."""
        return 3 * members * classes

    def fit(self, sample: Sample | None, scores: Sequence[Counts]) -> None:
        """Learn from pixels and from each member's counts on the same images; nothing, unless a method says more."""
        del sample, scores
        self.learned = {}

    @abstractmethod
    def combine(self, probs: Array) -> Array:
        """One image."""

    def restore(self, learned: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Take up what another call learned; ValueError when something of it is missing."""
        self.learned, self.arrays = learned, arrays


class _Fixed(Method):
    """Weights given, or equal."""

    def __init__(self, given: Sequence[float] | None = None) -> None:
        super().__init__()
        self.given = given
        self.grows = given is None  # the first members, equally weighted, are an ensemble too

    def check(self, members: int) -> None:
        """Also as many weights as members, not all 0."""
        super().check(members)
        _check_weights(self.given, members)


@register("average", source="arithmetic or geometric mean of probabilities")
class Average(_Fixed):
    """Mean probabilities; kind geometric averages their logarithms, so one confident no vetoes."""

    def __init__(self, *, kind: str = "arithmetic", weights: Sequence[float] | None = None) -> None:
        super().__init__(weights)
        if kind not in ("arithmetic", "geometric"):
            raise ConfigError(f"kind is '{kind}', wanted arithmetic or geometric")
        self.kind = kind

    def combine(self, probs: Array) -> Array:
        """Probabilities."""
        return pixelwise.average(probs, self.given, self.kind)


@register("weighted", source="Caruana et al. 2004 (greedy); mixture by expectation maximisation (nll)")
class Weighted(Method):
    """Weights fitted on val: by nll (the likeliest mixture), greedy (best metric, with replacement) or score."""

    def __init__(
        self,
        *,
        by: str = "nll",
        metric: str = "miou_dataset",
        steps: int = 25,
        sharpness: float = 0.0,
        kind: str = "arithmetic",
    ) -> None:
        super().__init__()
        if by not in ("nll", "greedy", "score"):
            raise ConfigError(f"by is '{by}', wanted nll, greedy or score; given weights go to average(weights=[...])")
        if kind not in ("arithmetic", "geometric"):
            raise ConfigError(f"kind is '{kind}', wanted arithmetic or geometric")
        if steps < 1 or sharpness < 0:
            raise ConfigError(f"steps is {steps} and sharpness {sharpness}, wanted steps >= 1 and sharpness >= 0")
        if kind == "geometric" and by != "score":
            raise ConfigError(f"weights by {by} are fitted for the arithmetic mean; use by=score with kind=geometric")
        _check_metric(metric)
        self.by, self.metric, self.steps, self.sharpness, self.kind = by, metric, steps, sharpness, kind
        self.draws = "none" if by == "score" else "uniform"

    def fit(self, sample: Sample | None, scores: Sequence[Counts]) -> None:
        """Find the weights."""
        reached = [_score(counts, self.metric) for counts in scores]
        if self.by == "score":
            self.learned = {"weights": weights.by_score(reached, self.sharpness).tolist()}
            return
        assert sample is not None
        if self.by == "nll":
            found = weights.fit_weights(sample.of_true, sample.weight)
            even = np.full(len(found), 1 / len(found))
            share = sample.weight / sample.weight.sum()
            nll = [
                float(-(share @ np.log(np.maximum(w @ sample.of_true.astype(np.float64), weights.FLOOR))))
                for w in (even, found)
            ]
            self.learned = {"weights": found.tolist(), "nll_even": nll[0], "nll": nll[1]}
            return
        probs, target, each = _by_image(sample)
        found, sequence, gained = weights.greedy(
            probs, target, metric=self.metric, steps=self.steps, image_weights=each
        )
        self.learned = {"weights": found.tolist(), "sequence": sequence, "scores": gained}

    def combine(self, probs: Array) -> Array:
        """Probabilities."""
        return pixelwise.average(probs, self.learned["weights"], self.kind)

    def restore(self, learned: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Also checks that the weights are there."""
        super().restore(learned, arrays)
        if not learned.get("weights"):
            raise ValueError("the members' weights are missing")


@register("majority", source="strictly more than half of the total weight, else rejected", votes=True)
class Majority(_Fixed):
    """The label that more than half of the members give; other pixels are rejected, void, and cost coverage."""

    votes = True

    def __init__(self, *, weights: Sequence[float] | None = None) -> None:
        super().__init__(weights)

    def combine(self, probs: Array) -> Array:
        """Labels, 255 where rejected."""
        return pixelwise.majority(_labels(probs), self.given)


@register("plurality", source="most votes; ties by summed probability, then the lowest class", votes=True)
class Plurality(_Fixed):
    """The label that most members give; a tie goes to the larger summed probability, then the lowest class."""

    votes = True

    def __init__(self, *, weights: Sequence[float] | None = None) -> None:
        super().__init__(weights)

    def combine(self, probs: Array) -> Array:
        """Labels."""
        share = pixelwise.shares(len(probs), self.given)
        summed = np.tensordot(share.astype(np.float32), probs, 1)
        return pixelwise.plurality(_labels(probs), self.given, summed)


@register("stacking", source="Wolpert 1992")
class Stacking(Method):
    """A learner over the members' log-probabilities, fitted on `pixels` of each class and image.

    learner: logistic, linear_svm, rbf_svm, forest or mlp; entropy, position: more features; folds: fitted out of
    fold on the train images instead of on val, which costs one training more for each member and fold.
    """

    draws, fewest = "stratified", 2

    def __init__(
        self,
        *,
        learner: str = "logistic",
        pixels: int = 200,
        entropy: bool = False,
        position: bool = False,
        folds: bool = False,
    ) -> None:
        super().__init__()
        registry.find(learners.__name__, "learner", learner)
        if pixels < 1:
            raise ConfigError(f"pixels is {pixels}, wanted at least 1 of each class and image")
        self.pixels, self.folds, self.learner = pixels, folds, learner
        self.stacker = Stacker(learner, entropy=entropy, position=position)

    def numbers(self, members: int, classes: int) -> int:
        """Also the learner's own: features in double precision, and those of the kernel."""
        return 6 * members * classes + (1400 if self.learner == "rbf_svm" else 0)

    def fit(self, sample: Sample | None, scores: Sequence[Counts]) -> None:
        """Fit the learner."""
        del scores
        assert sample is not None
        self.arrays = self.stacker.fit(sample).arrays
        seen = np.bincount(sample.target, minlength=sample.probs.shape[1])
        self.learned = {
            "pixels": len(sample),
            "absent": np.flatnonzero(seen == 0).tolist(),
            "multiply_adds": learners.multiply_adds(self.arrays),
        }

    def combine(self, probs: Array) -> Array:
        """Probabilities."""
        return self.stacker.predict(probs)

    def restore(self, learned: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Also the learner's arrays."""
        super().restore(learned, arrays)
        if not arrays:
            raise ValueError("the learner's arrays are missing")
        self.stacker.arrays = arrays


def _labels(probs: Array) -> Array:
    return np.stack([label_and_confidence(member)[0] for member in probs])


def _check_weights(given: Sequence[float] | None, members: int) -> None:
    if given is None:
        return
    try:
        pixelwise.shares(members, given)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"weights: {error}") from None


def _check_metric(metric: str) -> None:
    options = options_of([metric])
    known = counted_names(options["quantiles"], options["thresholds"], measures.names())
    if metric not in known:
        raise ConfigError(f"unknown metric '{metric}' of counts{suggestion(metric, known)}")


def _score(counts: Counts, metric: str) -> float:
    options: dict[str, Any] = options_of([metric])
    found = summarize(counts, **options, measures=measures.named_in([metric])).get(metric)
    return float(found) if isinstance(found, float) else float("nan")


def _by_image(sample: Sample) -> tuple[Array, Array, list[float]]:
    """Members (M, N, C, P, 1), target (N, P, 1) and weights (N,) of a sample; void fills images with fewer pixels."""
    if not len(sample):
        raise ValueError("there is no pixel to fit on: all labels are void")
    images, first, sizes = np.unique(sample.image, return_index=True, return_counts=True)
    members, classes, _ = sample.probs.shape
    probs = np.zeros((members, len(images), classes, sizes.max(), 1), np.float32)
    target = np.full((len(images), sizes.max(), 1), VOID, np.uint8)
    for n, (image, size) in enumerate(zip(images, sizes, strict=True)):
        here = sample.image == image
        probs[:, n, :, :size, 0] = sample.probs[:, :, here]
        target[n, :size, 0] = sample.target[here]
    return probs, target, sample.weight[first].tolist()
