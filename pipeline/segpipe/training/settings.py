"""The numbers of one training, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from segpipe.data.normalize import Curve

Row = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """Numbers of one training; texts name parts, see `training.parts`.

    accumulate: batches whose gradients one step adds. lookahead_steps: 0 for none. clip: largest norm of the gradient.
    encoder_rate: factor of the learning rate of the encoder. decay_norms: whether weight decay pulls at norms and
    biases. frozen_norms: the encoder's batch norms keep their statistics. patience: epochs without a better score after
    which training ends. precision: of autocast; auto is float16 on CUDA, else float32. sizes: factors of the input's
    size that a batch draws from.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    seed: int
    curve: Curve
    optimizer: str = "adamw"
    schedule: str = "polynomial"
    warmup_epochs: float = 0
    accumulate: int = 1
    lookahead_steps: int = 0
    lookahead_rate: float = 0.5
    clip: float | None = None
    averaging: str = "none"
    patience: int | None = None
    sampling: str = "uniform"
    targets: str = "hard"
    encoder_rate: float = 1.0
    decay_norms: bool = True
    frozen_norms: bool = False
    sizes: Sequence[float] = (1.0,)
    precision: str = "auto"
    channels_last: bool = True
    compile: bool = False
    workers: int = 0


@dataclass(frozen=True)
class Fitted:
    """The best epoch's weights, its score on val (mIoU^D), the history, one row an epoch, and the snapshots."""

    state: dict[str, Tensor]
    best_epoch: int
    best_score: float
    history: list[Row]
    snapshots: list[dict[str, Tensor]]
    warnings: list[str] = field(default_factory=list)
