"""Predictors for new images: a trained run or an ensemble, read back and checked.

Each has `config` (classes, palette, size, ...) and `predict(image, number)`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segpipe import refine
from segpipe.core import files, outputs
from segpipe.core.argmax import label_and_confidence
from segpipe.core.errors import DataError
from segpipe.data.geometry import softmax
from segpipe.data.normalize import curve
from segpipe.data.packed import Packed
from segpipe.ensembles import methods
from segpipe.refine.base import Refiner
from segpipe.refine.chain import Chain
from segpipe.training import inference, trained
from segpipe.training.inference import Options, Predictor, image_probs


@dataclass(frozen=True)
class Prediction:
    """Of one image: labels (H, W), 255 where rejected; probabilities (C, H, W), None of votes; uncertainty."""

    labels: NDArray[np.uint8]
    probs: NDArray[np.float32] | None = None
    uncertainty: NDArray[np.float32] | None = None


_MEMBER = {"train", "seed", "snapshot", "predict", "crf", "model"}


class RunPredictor:
    """A trained run, which looks at an image as `options` (of `segpipe.training.inference`) say."""

    votes = False

    def __init__(self, folder: Path, snapshot: int | None, options: Options, seed: int, device: torch.device) -> None:
        network, self.config = trained.load(folder, snapshot)
        self._predictor = _predictor(network, self.config, options, seed, device)

    def predict(self, image: NDArray[np.uint8], number: int) -> Prediction:
        """The image's labels, probabilities and uncertainty."""
        probs, uncertainty = image_probs(self._predictor, image, trained.grid(self.config), number)
        return Prediction(label_and_confidence(probs)[0], probs, uncertainty)


class EnsemblePredictor:
    """The ensemble that an `ensemble.json` defines; `config` is that of its first member.

    Raises:
        DataError: no definition, a member's weights are missing or other than those it was made with.
    """

    def __init__(self, definition: Path, device: torch.device) -> None:
        described = files.read_json(definition)
        if not _defines(described):
            raise DataError(f"{definition} defines no ensemble; give the ensemble.json of stage ensemble")
        self.method = methods.create(described["method"])
        self.method.check(len(described["members"]))
        self.votes = self.method.votes
        arrays: dict[str, Any] = {}
        if "arrays" in described:
            path = definition.parent / "arrays.npz"
            content = files.read_bytes(path) if path.is_file() else b""
            if outputs.digest(content) != described["arrays"]:
                raise DataError(f"{path} is missing or damaged; run `segpipe ensemble` again")
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                arrays = dict(stored)
        try:
            self.method.restore(described["learned"], arrays)
        except ValueError as error:
            raise DataError(f"{definition}: {error}; run `segpipe ensemble` again") from None
        if all(member["train"] is None for member in described["members"]):
            raise DataError(f"{definition}: all members are imported, so that no network of them is here")
        weights = described["learned"].get("weights") or [1.0] * len(described["members"])
        if len(weights) != len(described["members"]):
            raise DataError(f"{definition} has {len(weights)} weights for {len(described['members'])} members")
        self.members = [  # who has no weight is not asked
            (_asked(member, described["classes"], device), _refiner(member)) if weight > 0 else None
            for member, weight in zip(described["members"], weights, strict=True)
        ]
        trained_here = next(member["train"] for member in described["members"] if member["train"] is not None)
        self.config: dict[str, Any] = files.read_json(Path(trained_here) / "config.json")

    def predict(self, image: NDArray[np.uint8], number: int) -> Prediction:
        """The image's labels, and probabilities where the ensemble does not vote."""
        shape = (len(self.config["classes"]), *image.shape[:2])
        members = np.zeros((len(self.members), *shape), np.float32)
        for probs, member in zip(members, self.members, strict=True):
            if member is not None:
                predictor, refiner = member
                probs[:] = image_probs(predictor, image, trained.grid(self.config), number, fitted=True)[0]
                if refiner is not None:
                    probs[:] = softmax(Packed.probs(refiner.apply(image, probs)).unpack())  # as stage crf keeps them
        found = self.method.combine(members)
        return Prediction(found) if self.votes else Prediction(label_and_confidence(found)[0], found)


def chain_of(rule: str, result: str, made_of: Path, classes: list[str]) -> Chain:
    """The rule for a score that stage decide fitted to a result (run-seed, or an ensemble).

    made_of: the weights of the network, or the definition of the ensemble.

    Raises:
        DataError: there is none, or it was fitted to another network or for other classes.
    """
    known = [top / rule / result / "decide.json" for top in (Path("data/decide"), Path("runs/adhoc/decide"))]
    there = [path for path in known if path.is_file()]
    run, _, seed = result.rpartition("-")
    select = f"--run {run} --seed {seed}" if run else f"--ensemble {result}"
    again = f"run `segpipe decide {select} --rule {rule}`"
    if not there:
        raise DataError(f"--rule {rule}: nothing at {known[0].parent}; {again}")
    digest = outputs.digest_file(made_of)
    described = [files.read_json(path) for path in there]
    fitting = [one for one in described if one.get("made_of") == digest and one.get("classes") == classes]
    if not fitting:
        raise DataError(f"{there[0]} was fitted to another network than {made_of}; {again}")
    return Chain.restore(fitting[0]["links"])


def definition_of(ensemble: str) -> Path:
    """The ensemble.json of an ensemble given as file, as folder or by name.

    Raises:
        DataError: there is none.
    """
    known = [Path(ensemble), Path(ensemble) / "ensemble.json", Path("data/ensemble") / ensemble / "ensemble.json"]
    for path in known:
        if path.is_file():
            return path
    made = sorted(path.parent.name for path in Path().glob("data/ensemble/*/ensemble.json"))
    there = f"made here: {', '.join(made)}" if made else "make one with `segpipe ensemble`"
    raise DataError(
        f"--ensemble {ensemble}: no definition at {', '.join(path.as_posix() for path in known[1:])}; {there}"
    )


def _defines(described: Any) -> bool:
    """Whether a file's content is an ensemble's definition, by its shape."""
    if not isinstance(described, dict) or not described.keys() >= {"method", "members", "learned", "classes"}:
        return False
    members = described["members"]
    listed = isinstance(members, list) and isinstance(described["learned"], dict)
    return listed and all(isinstance(member, dict) and member.keys() >= _MEMBER for member in members)


def _asked(member: dict[str, Any], classes: list[str], device: torch.device) -> Any:
    if member["train"] is None:
        raise DataError(
            f"member {member.get('key')} is imported, without its network; make an ensemble of trained runs"
        )
    folder = Path(member["train"])
    weights = trained.weights_of(folder, member["snapshot"])
    if not weights.is_file() or outputs.digest_file(weights) != member["model"]:
        raise DataError(f"{weights} is missing or not what the ensemble was made with; run `segpipe ensemble` again")
    network, config = trained.load(folder, member["snapshot"])
    if config["classes"] != classes:
        raise DataError(f"{folder} knows other classes than the ensemble; run `segpipe ensemble` again")
    return _predictor(network, config, inference.Options(**member["predict"]), member["seed"], device)


def _refiner(member: dict[str, Any]) -> Refiner | None:
    """What refined the member's predictions."""
    return None if member["crf"] is None else refine.create(member.get("refiner", "crf"), **member["crf"])


def _predictor(network: nn.Module, config: dict[str, Any], options: Options, seed: int, device: torch.device) -> Any:
    return Predictor(network, curve(config["normalization"]), options, device=device, seed=seed)
