"""Rules that read labels from probabilities: by frequencies, by fitted weights, by the expected score of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.refine import expected, weighting
from segpipe.refine.base import Rule
from segpipe.refine.evidence import Evidence, raised

TAUS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


class _Weighted(Rule):
    """A weight for every class, which multiplies its probability."""

    def __init__(self, values: Sequence[float] | None) -> None:
        self.values = None if values is None else [float(value) for value in values]

    def apply(self, image: NDArray[np.uint8], probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """Weighted and normalised.

        Raises:
            ValueError: weights of another number of classes.
        """
        del image
        return weighting.weigh(probs, self.weights_of(probs))

    def weights_of(self, probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """The weights; ValueError as `apply`."""
        if self.values is None:
            raise ValueError("the rule was not fitted; give it val images first")
        if len(self.values) != len(probs):
            raise ValueError(f"the rule knows {len(self.values)} classes, the prediction has {len(probs)}; fit it anew")
        return np.array(self.values, np.float32)

    def factors(self) -> tuple[float, Sequence[float]] | None:
        """The weights alone."""
        return 1.0, self.values or [1.0]

    def describe(self) -> dict[str, Any]:
        """The weights."""
        return {"values": self.values}


@register("weights", source="Koyejo et al. 2014, Narasimhan et al. 2015: a weighted arg max is best for IoU and Dice")
class Weights(_Weighted):
    """One weight a class, fitted to the score by exact coordinate ascent, see `refine.weighting`."""

    def __init__(self, *, values: Sequence[float] | None = None) -> None:
        super().__init__(values)

    def learn(self, evidence: Evidence, metric: str) -> None:
        """Weights of the highest score."""
        pixels = evidence.pixels()
        found = weighting.fitted(pixels, metric, len(pixels[0].probs))
        self.values = [float(f"{value:.6g}") for value in found]


@register(
    "prior", source="Menon et al. 2021, arXiv:2007.07314, applied after training: p_c / frequency_c^tau", given=("tau",)
)
class Prior(_Weighted):
    """Rare classes raised by their frequency to the power `tau`: one number, so little to fit wrongly.

    tau below 0 is fitted, of 0 to 1.
    """

    def __init__(self, *, values: Sequence[float] | None = None, tau: float = -1.0) -> None:
        super().__init__(values)
        if tau > 2:
            raise ConfigError(f"rule 'prior': tau is {tau}, wanted 0 to 2, or -1 to fit it")
        self.tau = tau

    def learn(self, evidence: Evidence, metric: str) -> None:
        """The tau of the highest score; a class that no label holds counts as frequent as the others on average."""
        pixels = evidence.pixels()
        classes = len(pixels[0].probs)
        held = sum(
            (np.bincount(p.target, minlength=classes) * p.valid / max(len(p.target), 1) for p in pixels),
            np.zeros(classes),
        )
        usual = math.exp(np.log(held[held > 0]).mean()) if held.any() else 1.0
        share = np.where(held > 0, held, usual) / max(held.sum(), 1)
        taus = TAUS if self.tau < 0 else (self.tau,)
        scores = []
        for tau in taus:
            weights = (share**-tau).astype(np.float32)
            tables = [weighting.counted(p, weights) for p in pixels]
            scores.append(weighting.score_of(raised(tables, pixels), metric))
        self.tau = float(taus[int(np.argmax(scores))])
        self.values = [float(f"{value:.6g}") for value in share**-self.tau]

    def describe(self) -> dict[str, Any]:
        """tau and the weights that follow."""
        return {"values": self.values, "tau": self.tau}


@register(
    "rankseg", source="Dai and Li 2023, JMLR 24:224; reciprocal moments as in Wang and Dai 2025", given=("metric",)
)
class RankSeg(Rule):
    """In each image the labels of the largest expected IoU or Dice. Nothing is fitted.

    Every class has a threshold, see `refine.expected`; a pixel goes to the class whose threshold it exceeds most.
    """

    def __init__(self, *, metric: str = "iou") -> None:
        if metric not in ("iou", "dice"):
            raise ConfigError(f"rule 'rankseg': metric is {metric!r}, wanted iou or dice")
        self.metric = metric

    def learn(self, evidence: Evidence, metric: str) -> None:
        """Nothing."""
        del evidence, metric

    def apply(self, image: NDArray[np.uint8], probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """Probabilities over their class's threshold, normalised."""
        del image
        return weighting.weigh(probs, self.weights_of(probs))

    def weights_of(self, probs: NDArray[np.floating]) -> NDArray[np.float32]:
        """One over the thresholds."""
        return np.asarray(1 / expected.thresholds(probs, self.metric), np.float32)
