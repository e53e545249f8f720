"""What losses of other libraries keep of our promises: python tests/bench/promises.py

Wants segmentation-models-pytorch, monai and kornia beside segpipe; prints the table of
docs/losses.md. Each is called the way its documentation tells, with void 255 where it knows void.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.metadata import version

from segpipe import losses
from segpipe.losses import contract


def subjects():
    """The peers' losses as subjects."""
    smp = import_module("segmentation_models_pytorch").losses
    monai, kornia = import_module("monai.losses"), import_module("kornia.losses")
    found = [
        contract.Subject(f"smp {name}", getattr(smp, name)("multiclass", ignore_index=255))
        for name in ("DiceLoss", "JaccardLoss", "TverskyLoss", "FocalLoss", "LovaszLoss")
    ]
    found.append(
        contract.Subject("smp SoftCrossEntropyLoss", smp.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=255))
    )
    for name in ("DiceLoss", "GeneralizedDiceLoss", "TverskyLoss"):
        criterion = getattr(monai, name)(to_onehot_y=True, softmax=True, batch=True)
        found.append(contract.Subject(f"MONAI {name}", lambda z, y, c=criterion: c(z, y[:, None])))
    focal = monai.FocalLoss(to_onehot_y=True, use_softmax=True)
    found.append(contract.Subject("MONAI FocalLoss", lambda z, y: focal(z, y[:, None])))
    found.append(
        contract.Subject(
            "kornia FocalLoss", kornia.FocalLoss(alpha=None, gamma=2.0, reduction="mean", ignore_index=255)
        )
    )
    found.append(contract.Subject("kornia DiceLoss", kornia.DiceLoss(ignore_index=255)))
    found.append(contract.Subject("kornia TverskyLoss", kornia.TverskyLoss(0.3, 0.7, ignore_index=255)))
    found.append(contract.Subject("kornia LovaszSoftmaxLoss", kornia.LovaszSoftmaxLoss()))
    return found


def main():
    warnings.simplefilter("ignore")
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
