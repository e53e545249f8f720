"""What losses of other libraries keep of our promises: python tests/bench/promises.py

Wants segmentation-models-pytorch, monai and kornia beside segpipe; prints the table of
docs/losses.md. Each is called the way its documentation tells, with void 255 where it knows void.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.metadata import version

import torch

from segpipe import losses
from segpipe.losses import contract


def subjects():
    """The peers' losses as subjects. Where one knows no void, void pixels are given to it as class 0."""
    smp = import_module("segmentation_models_pytorch").losses
    monai, kornia = import_module("monai.losses"), import_module("kornia.losses")

    def without_void(criterion, channel):
        def loss(z, y):
            y = y if y.is_floating_point() else torch.where(y == 255, 0, y)
            return criterion(z, y[:, None] if channel and y.ndim == 3 else y)

        return loss

    found = {f"smp {name}": getattr(smp, name)("multiclass", ignore_index=255) for name in (
        "DiceLoss", "JaccardLoss", "TverskyLoss", "FocalLoss", "LovaszLoss"
    )}  # fmt: skip
    lovasz = found["smp LovaszLoss"]
    found["smp LovaszLoss"] = lambda z, y: lovasz(z.float(), y)  # it takes no float64
    found["smp SoftCrossEntropyLoss"] = smp.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=255)
    for name in ("DiceLoss", "GeneralizedDiceLoss", "TverskyLoss"):
        found[f"MONAI {name}"] = without_void(getattr(monai, name)(to_onehot_y=True, softmax=True, batch=True), True)
    found["MONAI FocalLoss"] = without_void(monai.FocalLoss(to_onehot_y=True, use_softmax=True), True)
    found["kornia FocalLoss"] = kornia.FocalLoss(alpha=None, gamma=2.0, reduction="mean", ignore_index=255)
    found["kornia DiceLoss"] = kornia.DiceLoss(ignore_index=255)
    found["kornia TverskyLoss"] = kornia.TverskyLoss(0.3, 0.7, ignore_index=255)
    found["kornia LovaszSoftmaxLoss"] = without_void(kornia.LovaszSoftmaxLoss(), False)
    return [contract.Subject(name, function) for name, function in found.items()]


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = {subject.name: list(contract.check_loss(subject)) for subject in subjects()}
    rows["segpipe (worst of all)"] = [
        max(found, key=lambda f: ("holds", "-", "fails").index(f.verdict) if f.verdict != "-" else -1)
        for found in zip(*(contract.check_loss(contract.subject_of(name)) for name in losses.names()), strict=True)
    ]
    first = next(iter(rows.values()))
    signs = {"holds": "yes", "fails": "**no**", "-": "–"}
    print("| | " + " | ".join(str(i) for i in range(1, len(first) + 1)) + " |")
    print("| :- |" + " :-: |" * len(first))
    for name, found in rows.items():
        print(f"| {name} | " + " | ".join(signs[f.verdict] for f in found) + " |")
    print()
    for number, finding in enumerate(first, 1):
        print(f"{number}. {finding.promise}")
    names = ("segmentation-models-pytorch", "monai", "kornia", "torch")
    print("\n" + ", ".join(f"{name} {version(name)}" for name in names) + "\n")
    for name, found in rows.items():
        for number, finding in enumerate(found, 1):
            if finding.verdict == "fails":
                print(f"- {name}, {number}: {finding.detail}")


if __name__ == "__main__":
    main()
