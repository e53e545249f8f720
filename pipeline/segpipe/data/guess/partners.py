"""Images without a mask, masks without an image, and masks that share one."""

from __future__ import annotations

import re
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.data.guess.card import Guess
from segpipe.data.guess.several import KIND

SIGN = re.compile(r"[^A-Za-z0-9]")  # between an image's name and the ending of its mask
_FEW = 0.1  # of the images may have no mask and are left out, with a word


def refuse_seconds(masks: list[Path], paired: set[Path], stems: set[str]) -> None:
    """DataError where images have several masks, of which one alone would be read."""
    for path in masks:
        ends = {path.stem[m.start() + 1 :] for m in SIGN.finditer(path.stem) if path.stem[: m.start()] in stems}
        if path not in paired and ends and not any(KIND.fullmatch(end) for end in ends):
            raise DataError(
                f"{path} is one of several masks of an image, of which one alone would be read; put all images into "
                "one folder and convert them to one type, or keep one mask an image"
            )


def leave_out(alone: list[Path], masks: list[Path], pairs: int, found: Guess) -> None:
    """Say which files have no partner; images without a mask are left out where they are few, or where it was said.

    Raises:
        DataError: more than one image, and more than a tenth, has no mask.
    """
    if alone and len(alone) > max(1, _FEW * (len(alone) + pairs)) and not found.leaves_out:
        raise DataError(
            f"{alone[0]} has no mask, as {len(alone)} of {len(alone) + pairs} images; add masks, correct the names, or "
            "say --unlabelled leave-out"
        )
    if alone:
        found.keys["unlabelled"] = "leave out"
        why = "no mask has their name"
        found.say(f"{len(alone)} of {len(alone) + pairs} images are left out: {_some(alone)}", why, "add their masks")
    if masks:
        why = "no image has their name"
        found.say(f"{len(masks)} of {len(masks) + pairs} masks are left out: {_some(masks)}", why, "add their images")


def _some(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
