"""Stacking (Wolpert 1992): a learner over the members' log-probabilities, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.core.opencv import cv2
from segpipe.ensembles import learners
from segpipe.ensembles.samples import Sample

FLOOR = 1e-6  # of a probability whose logarithm is a feature
_BLOCK = 2**12  # pixels at a time: features and scores of some members stay in the cache


class Stacker:
    """A learner that turns the members' probabilities into new ones.

    learner: logistic, linear_svm, rbf_svm, forest or mlp. entropy: each member's entropy is a feature too;
    position: so are row and column, from 0 to 1.
    """

    def __init__(self, learner: str = "logistic", *, entropy: bool = False, position: bool = False, seed: int = 0):
        self.learner, self.entropy, self.position, self.seed = learner, entropy, position, seed
        self.arrays: learners.Arrays = {}

    def fit(self, sample: Sample) -> Stacker:
        """Fit on pixels that no member was trained on.

        Raises:
            ValueError: fewer than two members, no pixel. ConfigError: an unknown learner.
        """
        members, classes, _ = sample.probs.shape
        if members < 2:
            raise ValueError(f"stacking wants at least two members, found {members}; name more")
        features = self.features(sample.probs, sample.place)
        self.arrays = learners.fit(
            self.learner, np.ascontiguousarray(features.T), sample.target, sample.weight, classes, self.seed
        )
        return self

    def predict(self, members: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities (C, H, W) of members (M, C, H, W), block by block.

        Raises:
            ValueError: not fitted, or another number of members or classes than in the fit.
        """
        if not self.arrays:
            raise ValueError("the stacker was not fitted; call fit first")
        count, classes, height, width = members.shape
        if classes != int(self.arrays["num_classes"]) or self.width(count, classes) != len(self.arrays["mean"]):
            raise ValueError(
                f"members are {members.shape}, wanted {int(self.arrays['num_classes'])} classes and the fit's members"
            )
        flat = members.reshape(count, classes, -1)
        found = np.empty((classes, height * width), np.float32)
        for first in range(0, found.shape[1], _BLOCK):
            part = slice(first, min(first + _BLOCK, found.shape[1]))
            place = None
            if self.position:
                rows, columns = np.divmod(np.arange(part.start, part.stop), width)
                place = np.stack([(rows + 0.5) / height, (columns + 0.5) / width]).astype(np.float32)
            found[:, part] = learners.predict(self.arrays, self.features(flat[:, :, part], place))
        return found.reshape(classes, height, width)

    def features(self, probs: NDArray[Any], place: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """(F, P) of probabilities (M, C, P) and places (2, P)."""
        members, classes, pixels = probs.shape
        logs = np.empty((self.width(members, classes), pixels), np.float32)
        own = logs[: members * classes]
        # OpenCV's are twice as fast as NumPy's.
        flat = np.asarray(probs, np.float32).reshape(members * classes, pixels)
        cv2.max(flat, FLOOR, dst=own)  # type: ignore[call-overload]
        cv2.log(own, dst=own)
        end = len(own)
        if self.entropy:
            each = own.reshape(members, classes, pixels)
            logs[end : end + members] = -(np.exp(each) * each).sum(1)
            end += members
        if self.position:
            assert place is not None
            logs[end:] = place
        return logs

    def width(self, members: int, classes: int) -> int:
        """The number of features."""
        return members * (classes + int(self.entropy)) + 2 * int(self.position)
