"""Which images an epoch shows, in which order; drawn from (seed, epoch) and what was learned before it.

`find` gives present (N, C): whether an image holds a class. An image's class-balanced share is
(1 / C) sum_c [c in image] / n_c: a class is drawn evenly, then an image that holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.errors import ConfigError
from segpipe.core.registry import register

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Sampling:
    """All images once, in random order; the base of all others."""

    learns = False  # wants to be told what training batches had right and wrong

    def __init__(self, images: int, find: Callable[[], Bools]) -> None:
        self.images, self._find = images, find

    @cached_property
    def present(self) -> Bools:
        """Looked up at the first use: it takes a pass over all labels."""
        return self._find()

    @property
    def number(self) -> int:
        """Images an epoch, the same in each: schedules count on it."""
        return self.images

    def order(self, random: np.random.Generator) -> Ints:
        """The positions of an epoch's images."""
        return random.permutation(self.images)

    def learn(self, tp: Ints, fp: Ints, fn: Ints) -> None:
        """Pixels of each class (C,) that an epoch's training batches had right and wrong."""

    def state_dict(self) -> dict[str, Any]:
        """What `learn` left, as plain numbers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""

    def _balanced(self) -> NDArray[np.float64]:
        """The class-balanced shares; they sum to one."""
        images = self.present.sum(0)
        known = images > 0
        shares: NDArray[np.float64] = (self.present[:, known] / images[known]).sum(1)
        if not known.any():
            raise ConfigError("no training image holds a label; sampling by class needs some")
        shares /= shares.sum()
        return shares


@register("uniform", source="all images alike often")
class Uniform(Sampling):
    """Every image `times` an epoch: more than once where images are few and crops are small."""

    def __init__(self, images: int, find: Callable[[], Bools], *, times: int = 1) -> None:
        super().__init__(images, find)
        if times < 1:
            raise ConfigError(f"sampling 'uniform': times is {times}, wanted at least 1")
        self.times = times

    @property
    def number(self) -> int:
        """All images, `times`."""
        return self.images * self.times

    def order(self, random: np.random.Generator) -> Ints:
        """One order behind the other."""
        return np.concatenate([random.permutation(self.images) for _ in range(self.times)])


@register("oversample", source="Shen et al. 2016, arXiv:1512.05830, sec. 3 (class-aware sampling)")
class Oversample(Sampling):
    """As many images as there are, drawn with replacement by class-balanced shares."""

    def order(self, random: np.random.Generator) -> Ints:
        """Drawn anew each epoch."""
        return random.choice(self.images, self.images, p=self._balanced())


@register("undersample", source="class-balanced shares as acceptance rates; without replacement")
class Undersample(Sampling):
    """Fewer images, none twice, drawn so that those of a larger share come first more often."""

    @property
    def number(self) -> int:
        """The expected number of accepted images."""
        shares = self._balanced()
        return max(1, round(float((shares / shares.max()).sum())))

    def order(self, random: np.random.Generator) -> Ints:
        """A weighted draw without replacement (Efraimidis and Spirakis 2006)."""
        shares = self._balanced()
        keys = np.full(len(shares), -np.inf)
        held = shares > 0
        keys[held] = np.log(random.random(int(held.sum()))) / shares[held]
        return np.argsort(-keys, kind="stable")[: self.number]


@register("lmp", source="Rota Bulo et al. 2017, arXiv:1704.02966, sec. 5; reconstructed: the paper gives no formula")
class ByPerformance(Sampling):
    """Uniform draws mixed with draws by how badly an image's classes are known.

    Image i has the probability (1 - mix) / N + mix q_i / sum q, q_i the mean over its classes of
    1 - IoU_c, the IoU of the training batches, remembered with `decay` from epoch to epoch; uniform before
    the first epoch.
    """

    learns = True

    def __init__(self, images: int, find: Callable[[], Bools], *, mix: float = 0.5, decay: float = 0.5) -> None:
        if not 0 <= mix <= 1 or not 0 <= decay < 1:
            raise ConfigError(f"sampling 'lmp': wanted mix in 0..1 and decay in [0, 1), found {mix} and {decay}")
        super().__init__(images, find)
        self.mix, self.decay = mix, decay
        self.table = np.zeros((3, self.present.shape[1]))  # remembered tp, fp, fn

    def learn(self, tp: Ints, fp: Ints, fn: Ints) -> None:
        """Fade what is remembered and add this epoch."""
        self.table = self.decay * self.table + np.stack([tp, fp, fn])

    def order(self, random: np.random.Generator) -> Ints:
        """Drawn with replacement."""
        return random.choice(self.images, self.images, p=self.probabilities())

    def probabilities(self) -> NDArray[np.float64]:
        """Of each image, summing to one."""
        union = self.table.sum(0)
        badness = 1 - np.divide(self.table[0], union, out=np.zeros_like(union), where=union > 0)
        classes = self.present.sum(1)
        q = np.divide(self.present @ badness, classes, out=np.zeros(len(classes)), where=classes > 0)
        uniform = np.full(len(q), 1 / len(q))
        return uniform if not union.any() or q.sum() == 0 else (1 - self.mix) * uniform + self.mix * q / q.sum()

    def state_dict(self) -> dict[str, Any]:
        """The remembered table."""
        return {"table": self.table.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.table = np.array(state["table"])
