"""What stages predict, import, crf and ensemble wrote of each image."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import DataError
from segpipe.core.files import read_json
from segpipe.data.dataset import Row
from segpipe.data.geometry import restore, softmax
from segpipe.data.maps import open_maps


def read_probs(predicted: Path, split: str, row: Row, position: int) -> NDArray[np.float32]:
    """The probabilities (C, H, W) of one image at its original size, from logits or from stored maps.

    Of label maps alone 1 for the class that is predicted, which is how an ensemble that votes counts them.

    Raises:
        DataError: label maps that leave pixels without a class.
    """
    if _holds_logits(predicted, split):
        return restore(open_maps(predicted / f"{split}_logits")[position], row.geometry)
    if not _holds_probs(predicted, split):
        return _certain(predicted, split, position)
    return softmax(open_maps(predicted / f"{split}_probs")[position])


def read_stored(
    predicted: Path, split: str, row: Row, position: int
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]:
    """(labels or None, probabilities or None) of an image: from logits, or from the stored maps.

    Stored labels are taken as they are: the probabilities are rounded, and their arg max would break ties anew.
    """
    if _holds_logits(predicted, split):
        return None, read_probs(predicted, split, row, position)
    labels = open_maps(predicted / f"{split}_labels")[position]
    return labels, read_probs(predicted, split, row, position) if _holds_probs(predicted, split) else None


def _certain(predicted: Path, split: str, position: int) -> NDArray[np.float32]:
    """(C, H, W) 1 for the predicted class."""
    labels, classes = open_maps(predicted / f"{split}_labels")[position], read_json(predicted / "made.json")["classes"]
    if labels.max() >= len(classes):
        raise DataError(
            f"{predicted} predicts nothing for some pixels of image {position + 1} of {split}, and votes need a class "
            "everywhere; leave it out of the ensemble's members"
        )
    return np.asarray(labels == np.arange(len(classes), dtype=np.uint8)[:, None, None], np.float32)


def _holds_probs(predicted: Path, split: str) -> bool:
    return (predicted / f"{split}_probs.json").exists()


def _holds_logits(predicted: Path, split: str) -> bool:
    return (predicted / f"{split}_logits.json").exists()


def read_predicted_labels(predicted: Path, split: str, row: Row, position: int) -> NDArray[np.uint8]:
    """The predicted label map (H, W) of one image at its original size."""
    labels, probs = read_stored(predicted, split, row, position)
    if labels is not None:
        return labels
    assert probs is not None
    return label_and_confidence(probs)[0]


def refuse_leak(predicted: Path, ids: Collection[str], purpose: str) -> None:
    """DataError when a fit would use images that the network was trained on: its probabilities flatter there."""
    shared = sorted(set(read_json(predicted / "train_ids.json")["ids"]) & set(ids))
    if shared:
        raise DataError(
            f"{predicted} was trained on {', '.join(shared[:3])}, which would also {purpose}; "
            "fit on images that no member has seen"
        )
