"""What the logits are compared with: one mechanism for hard, smoothed, distilled, pseudo and raters' labels.

A source turns a batch into parts; the loss of the batch is the sum over parts of
weight T^2 criterion(logits / T, target, keep). T^2 keeps the size of gradients that a temperature
shrinks (Hinton et al. 2015, arXiv:1503.02531, sec. 2).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segpipe import losses
from segpipe.core import distributed
from segpipe.core.errors import ConfigError
from segpipe.core.registry import register
from segpipe.core.seeding import generator
from segpipe.core.upsample import upsample
from segpipe.core.void import VOID
from segpipe.losses.targets import boundary_label_smoothing, check_smoothing, one_hot
from segpipe.training.averaging import ExponentialAverage

_RATER = 4  # stream of the seed


@dataclass(frozen=True)
class Given:
    """One batch for a source.

    labels: (N, A, H, W) uint8 on the device. images: normalised (N, 3, H, W), with colours changed; weak:
    with the geometry changed alone. indices: positions in the training set. progress: share of the steps done.
    """

    labels: Tensor
    images: Tensor
    weak: Tensor
    indices: Sequence[int]
    epoch: int
    progress: float


@dataclass(frozen=True)
class Part:
    """A target, hard (N, H, W) or soft (N, C, H, W), where it counts (N, H, W), its weight and temperature.

    criterion: None is the loss of the run.
    """

    target: Tensor
    keep: Tensor | None = None
    weight: float | Tensor = 1.0
    temperature: float = 1.0
    criterion: nn.Module | None = None


@dataclass(frozen=True)
class Setup:
    """What sources are made of: the network in training, a trained teacher, ids and label maps of the images."""

    num_classes: int
    model: nn.Module
    ids: Sequence[str]
    seed: int = 0
    teacher: nn.Module | None = None
    agreement: NDArray[np.float32] | None = None  # (N, A) of each annotator with the majority


class Source:
    """The base: hard labels, and nothing to remember."""

    annotators = False  # wants one label map an annotator
    extents = False  # wants a last label map that is 0 where the image is and void beyond
    teacher = False  # wants a trained teacher

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def parts(self, given: Given) -> list[Part]:
        """The targets of a batch."""
        return [Part(given.labels[:, 0])]

    def after_step(self, model: nn.Module) -> None:
        """Take the weights after a step."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""


@register("hard", source="class ids as they are")
class Hard(Source):
    """The labels."""


@register("smoothing", source="Szegedy et al. 2016, arXiv:1512.00567, sec. 7")
class Smoothing(Source):
    """(1 - epsilon) onehot + epsilon / C at every pixel."""

    def __init__(self, setup: Setup, *, epsilon: float = 0.1) -> None:
        super().__init__(setup)
        check_smoothing(epsilon)
        self.epsilon = epsilon

    def parts(self, given: Given) -> list[Part]:
        """One soft part."""
        soft, keep = one_hot(given.labels[:, 0], self.setup.num_classes)
        return [Part(soft.mul_(1 - self.epsilon).add_(self.epsilon / self.setup.num_classes), keep)]


@register("boundary_smoothing", source="Wang et al. 2023, arXiv:2302.05666, sec. 4")
class BoundarySmoothing(Source):
    """Label smoothing where another class is near, see `losses.targets.boundary_label_smoothing`."""

    def __init__(self, setup: Setup, *, epsilon: float = 0.5, size: int = 3) -> None:
        super().__init__(setup)
        check_smoothing(epsilon, size)
        self.epsilon, self.size = epsilon, size

    def parts(self, given: Given) -> list[Part]:
        """One soft part."""
        soft, keep = boundary_label_smoothing(
            given.labels[:, 0], self.setup.num_classes, epsilon=self.epsilon, size=self.size
        )
        return [Part(soft, keep)]


@register("distillation", source="Hinton et al. 2015, arXiv:1503.02531; for region losses arXiv:2302.05666, sec. 4")
class Distillation(Source):
    """The labels with weight `hard`, and the teacher's probabilities at `temperature` with weight `soft`."""

    teacher = True

    def __init__(self, setup: Setup, *, temperature: float = 1.0, hard: float = 0.5, soft: float = 0.5) -> None:
        super().__init__(setup)
        if temperature <= 0 or min(hard, soft) < 0 or hard + soft == 0:
            raise ConfigError(
                "targets 'distillation': wanted temperature > 0 and weights hard and soft >= 0, not both 0, found "
                f"{temperature}, {hard} and {soft}"
            )
        self.temperature, self.hard, self.soft = float(temperature), float(hard), float(soft)

    def parts(self, given: Given) -> list[Part]:
        """A hard and a soft part."""
        labels = given.labels[:, 0]
        found = [Part(labels, weight=self.hard)] if self.hard else []
        if self.soft:
            assert self.setup.teacher is not None
            probs = probabilities(self.setup.teacher, given.images, labels.shape[-2:], self.temperature)
            found.append(Part(probs, labels != VOID, self.soft, self.temperature))
        return found


@register("semi_supervised", source="Sohn et al. 2020, arXiv:2001.07685; teacher: Tarvainen and Valpola 2017")
class SemiSupervised(Source):
    """Labels of a share of the images; on the others what an average of the network itself is sure of.

    The teacher, an exponential moving average, sees an image before colours are changed. Pixels where
    its largest probability reaches `confidence` count, padding never does; the part weighs as much as
    their share of the pixels without a label (Sohn et al., eq. 4, divide by all of them), so that a
    teacher who is sure of little teaches little. Which images keep their
    labels follows from their ids: a smaller share is a subset of a larger one, for every seed.

    loss: the loss of this part, by name; "run" for the loss of the run. Sohn et al. take cross-entropy to the most
    probable class, here it is to all of the teacher's probabilities. A region loss over the sure pixels alone knows
    neither the misses nor the false alarms at the others.
    ramp: share of the training over which the weight of the second part rises, as exp(-5 (1 - t)^2).
    """

    extents = True

    def __init__(
        self, setup: Setup, *, labelled: float = 0.25, confidence: float = 0.99, weight: float = 1.0,
        ramp: float = 1.0, decay: float = 0.99, loss: str = "ce",
    ) -> None:  # fmt: skip
        super().__init__(setup)
        if not (0 < labelled <= 1 and 0 <= confidence <= 1 and weight >= 0 and 0 <= ramp <= 1 and 0 <= decay < 1):
            raise ConfigError(
                "targets 'semi_supervised': wanted labelled in (0, 1], confidence and ramp in 0..1, weight >= 0 and "
                f"decay in [0, 1), found {labelled}, {confidence}, {ramp}, {weight} and {decay}"
            )

        self.confidence, self.weight, self.ramp = confidence, weight, ramp
        self.criterion = None if loss == "run" else _soft(loss)
        self.labelled = labelled_images(setup.ids, labelled)
        self.average = ExponentialAverage(setup.model, 1, decay=decay)

    def parts(self, given: Given) -> list[Part]:
        """The known labels, and pseudo labels elsewhere."""
        known = torch.tensor([self.labelled[i] for i in given.indices], device=given.labels.device)[:, None, None]
        labels = given.labels[:, 0].masked_fill(~known, VOID)
        left = max(0.0, 1 - given.progress / self.ramp) if self.ramp else 0.0
        weight = self.weight * math.exp(-5 * left**2)
        probs = probabilities(self.average.model, given.weak, labels.shape[-2:])
        without = ~known & (given.labels[:, -1] != VOID)
        sure = (probs.amax(1) >= self.confidence) & without
        counts = distributed.all_sum(torch.stack([sure.sum(), without.sum()]).double())
        return [Part(labels), Part(probs, sure, weight * counts[0] / counts[1].clamp(min=1), criterion=self.criterion)]

    def after_step(self, model: nn.Module) -> None:
        """The teacher follows."""
        self.average.after_step(model)

    def state_dict(self) -> dict[str, Any]:
        """The teacher."""
        return self.average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.average.load_state_dict(state)


def _soft(loss: str) -> nn.Module:
    """A loss by name; ConfigError unless it takes soft labels."""
    if not losses.takes_soft_labels(loss):
        raise ConfigError(f"targets 'semi_supervised': loss is {loss!r}, wanted run, ce or another loss of soft labels")
    return losses.create(loss)


@register(
    "annotators", source="Wang et al. 2023, arXiv:2302.05666, sec. 4; random: Jensen et al. 2019, arXiv:1910.08083"
)
class Annotators(Source):
    """Several annotators of each image: `combine` is mean, agreement or random.

    mean: the share of the annotators that chose a class, among those that chose any; agreement: the same
    with each weighted by its mean Dice with the majority on that image; random: one of them, drawn for
    each image and epoch.
    """

    annotators = True

    def __init__(self, setup: Setup, *, combine: str = "mean") -> None:
        super().__init__(setup)
        if combine not in ("mean", "agreement", "random"):
            raise ConfigError(f"targets 'annotators': combine is '{combine}', wanted mean, agreement or random")
        self.combine = combine

    def parts(self, given: Given) -> list[Part]:
        """One part, hard for a random annotator."""
        n, raters = given.labels.shape[:2]
        if self.combine == "random":
            chosen = [int(generator(self.setup.seed, _RATER, given.epoch, i).integers(raters)) for i in given.indices]
            return [Part(given.labels[torch.arange(n), chosen])]
        weights = torch.ones(n, raters, device=given.labels.device)
        if self.combine == "agreement":
            assert self.setup.agreement is not None
            weights = torch.from_numpy(self.setup.agreement[list(given.indices)]).to(weights)
        soft, total = torch.zeros(()), torch.zeros(())
        for rater in range(raters):
            one, keep = one_hot(given.labels[:, rater], self.setup.num_classes)
            share = weights[:, rater, None, None] * keep
            soft, total = soft + one * share[:, None], total + share
        keep = total > 0
        return [Part(soft / torch.where(keep, total, 1)[:, None], keep)]


@torch.no_grad()
def probabilities(model: nn.Module, images: Tensor, size: Sequence[int], temperature: float = 1.0) -> Tensor:
    """(N, C, H, W) float32 of a network in evaluation mode."""
    model.eval()
    return upsample(model(images).float().contiguous(), size).div_(temperature).softmax(1)


def labelled_images(ids: Sequence[str], share: float) -> list[bool]:
    """Which images keep their labels: those first in the order of their ids' hashes, at least one.

    >>> sum(labelled_images(["a", "b", "c", "d"], 0.5))
    2
    """
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(ids[i].encode()).hexdigest())
    chosen = set(order[: max(1, round(share * len(ids)))])
    return [i in chosen for i in range(len(ids))]


def agreement(labels: NDArray[np.uint8], majority: NDArray[np.uint8], num_classes: int) -> NDArray[np.float32]:
    """(A,) mean Dice over the majority's classes of each label map (A, H, W) with the majority (H, W).

    Pixels void in either do not count; an annotator that never agrees gets 0, and all get 1 where all get 0.
    """
    found = np.zeros(len(labels), np.float32)
    for rater, ids in enumerate(labels):
        valid = (ids != VOID) & (majority != VOID)
        own, wanted = ids[valid].astype(np.int64), majority[valid].astype(np.int64)
        both = np.bincount(own[own == wanted], minlength=num_classes)
        total = np.bincount(own, minlength=num_classes) + np.bincount(wanted, minlength=num_classes)
        held = np.bincount(wanted, minlength=num_classes) > 0
        found[rater] = float((2 * both[held] / total[held]).mean()) if held.any() else 0.0
    return found if found.any() else np.ones_like(found)
