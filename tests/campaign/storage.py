"""What stored maps take: bytes of an image, against float16, and what rounding moves.

    python tests/campaign/storage.py [--classes 150] [--side 512] [--images 8] [--stride 4] [--crf]

Logits are drawn as a network gives them: each class's place in a drawn label map, blurred and scaled by `sure` nats,
with slow and fast noise. `sure` 14 is a trained network, 2 one that has learned little. An average is over three such
networks. --crf also refines every image with the dense CRF, which takes seconds per image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import scale

from segpipe import crf
from segpipe.data.geometry import Geometry, restore, softmax
from segpipe.data.packed import Packed
from segpipe.metrics.confidence import Calibration

HALF = 2  # bytes of a float16


def logits(random, mask, classes, stride, sure):
    """(C, h, w) of a label map (H, W)."""
    side = mask.shape[0] // stride
    found = np.empty((classes, side, side), np.float32)
    for k in range(classes):
        place = cv2.resize((mask == k).astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        slow = cv2.resize(random.normal(0, 1.5, (8, 8)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        found[k] = sure * cv2.GaussianBlur(place, (0, 0), 1.5) + slow + random.normal(0, 0.15, (side, side))
    return found


def scored(maps, masks, classes):
    """Calibration of probabilities against labels."""
    calibration = Calibration(classes, 15)
    for probs, mask in zip(maps, masks, strict=True):
        calibration.add(probs, mask)
    found = calibration.table().weighted(np.ones((1, len(masks))))
    return {name: float(found[name][0]) for name in ("ece_dataset", "nll_dataset", "brier_dataset")}


def main() -> None:
    """Draw, pack, unpack, and print a line for each kind of map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("classes", 150), ("side", 512), ("images", 8), ("stride", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--crf", action="store_true")
    given = parser.parse_args()
    random, geometry = np.random.default_rng(0), Geometry(*(given.side,) * 6)
    with tempfile.TemporaryDirectory() as folder:
        scale.draw(Path(folder), given.images, given.side, given.classes)
        images = [cv2.imread(str(path))[..., ::-1].copy() for path in sorted(Path(folder).glob("images/*"))]
        masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(Path(folder).glob("masks/*"))]
    print(f"{'map':24} {'bytes an image':>15} {'of float16':>11} {'pack s':>7} {'unpack s':>9}  what rounding moves")
    for sure in (14, 2):
        kinds: dict[str, list] = {"logits": [], "average": [], **({"crf": []} if given.crf else {})}
        for image, mask in zip(images, masks, strict=True):
            drawn = [logits(random, mask, given.classes, given.stride, sure) for _ in range(3)]
            kinds["logits"].append(drawn[0])
            probs = [restore(one, geometry) for one in drawn]
            kinds["average"].append(np.mean(probs, 0))
            if given.crf:
                kinds["crf"].append(crf.dense_crf(image, probs[0], bi_xy_std=30, bi_rgb_std=13))
        for kind, maps in kinds.items():
            pack = Packed.scores if kind == "logits" else Packed.probs
            began = time.process_time()
            packed = [pack(one) for one in maps]
            middle = time.process_time()
            found = [one.unpack() for one in packed]
            end = time.process_time()
            finish = (lambda z: restore(z, geometry)) if kind == "logits" else softmax
            before = maps if kind != "logits" else [restore(z, geometry) for z in maps]
            sides = [scored(side, masks, given.classes) for side in (before, map(finish, found))]
            moved = {name: f"{sides[1][name] - sides[0][name]:+.0e}" for name in sides[0]}
            size = np.mean([len(one.content) for one in packed])
            times = [(middle - began) / len(maps), (end - middle) / len(maps)]
            print(f"{kind + f', sure {sure}':24} {size:15.0f} {size / (HALF * maps[0].size):11.3f} {times[0]:7.2f} "
                  f"{times[1]:9.2f}  {moved}")  # fmt: skip
        labels = np.mean([len(Packed.labels(mask).content) for mask in masks])
        print(f"{'labels':24} {labels:15.0f} {labels / masks[0].size:11.3f} of a byte a pixel")


if __name__ == "__main__":
    main()
