"""An ensemble that is asked for new images: its members' networks and what it learned, read back and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.core.errors import DataError

_MEMBER = {"train", "seed", "snapshot", "predict", "crf", "model"}


class Combined:
    """The ensemble that an `ensemble.json` defines; `config` is that of its first member.

    Raises:
        DataError: no definition, a member's weights are missing or other than those it was made with.
    """

    def __init__(self, definition: Path, device: Any) -> None:
        import io

        import numpy as np

        from segpipe.core import files
        from segpipe.ensembles import methods

        described = files.read_json(definition)
        known = isinstance(described, dict) and described.keys() >= {"method", "members", "learned", "classes"}
        if not known or not all(member.keys() >= _MEMBER for member in described["members"]):
            raise DataError(f"{definition} defines no ensemble; give the ensemble.json of stage ensemble")
        self.method = methods.create(described["method"])
        self.method.check(len(described["members"]))
        arrays: dict[str, Any] = {}
        if "arrays" in described:
            path = definition.parent / "arrays.npz"
            content = path.read_bytes() if path.is_file() else b""
            if files.digest(content) != described["arrays"]:
                raise DataError(f"{path} is missing or damaged; run `segpipe ensemble` again")
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                arrays = dict(stored)
        self.method.restore(described["learned"], arrays)
        weights = described["learned"].get("weights") or [1.0] * len(described["members"])
        if len(weights) != len(described["members"]):
            raise DataError(f"{definition} has {len(weights)} weights for {len(described['members'])} members")
        self.members = [  # who has no weight is not asked
            (_predictor(member, described["classes"], device), member["crf"]) if weight > 0 else None
            for member, weight in zip(described["members"], weights, strict=True)
        ]
        self.config: dict[str, Any] = files.read_json(Path(described["members"][0]["train"]) / "config.json")

    def predict(self, image: Any, number: int) -> tuple[Any, Any]:
        """Labels (H, W), and probabilities (C, H, W) or None where the ensemble votes."""
        import numpy as np

        from segpipe.core.argmax import label_and_confidence
        from segpipe.crf.dense import dense_crf
        from segpipe.training.inference import image_probs

        shape = (len(self.config["classes"]), *image.shape[:2])
        members = np.zeros((len(self.members), *shape), np.float32)
        for probs, member in zip(members, self.members, strict=True):
            if member is not None:
                predictor, tuned = member
                probs[:] = image_probs(predictor, image, self.config["size"], number, fitted=True)[0]
                if tuned is not None:
                    probs[:] = dense_crf(image, probs, **tuned)
        found = self.method.combine(members)
        return (found, None) if self.method.votes else (label_and_confidence(found)[0], found)


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


def _predictor(member: dict[str, Any], classes: list[str], device: Any) -> Any:
    from segpipe.core import files
    from segpipe.data.normalize import curve
    from segpipe.training import inference, trained

    folder = Path(member["train"])
    weights = trained.weights_of(folder, member["snapshot"])
    if not weights.is_file() or files.digest_file(weights) != member["model"]:
        raise DataError(f"{weights} is missing or not what the ensemble was made with; run `segpipe ensemble` again")
    network, config = trained.load(folder, member["snapshot"])
    if config["classes"] != classes:
        raise DataError(f"{folder} knows other classes than the ensemble; run `segpipe ensemble` again")
    return inference.Predictor(
        network,
        curve(config["normalization"]),
        inference.Options(**member["predict"]),
        device=device,
        seed=member["seed"],
    )
