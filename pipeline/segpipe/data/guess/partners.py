"""Images without a mask, masks without an image, and masks that share one."""

from __future__ import annotations

import re
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.data.guess.card import Guess

KIND = re.compile(
    r"(mask|label|seg|segmentation|gt|inst|instance|id|labelid|instanceid|color|colour)s?[ _-]?\d*", re.IGNORECASE
)  # of a mask: neither a class nor a person
SIGN = re.compile(r"[^A-Za-z0-9]")  # between an image's name and the ending of its mask
_FEW = 0.1  # of the images may lack a mask: they are left out, and named


def refuse_seconds(masks: list[Path], paired: set[Path], stems: set[str]) -> None:
    """DataError if an image has several masks, of which only one would be read."""
    for path in masks:
        ends = {path.stem[m.start() + 1 :] for m in SIGN.finditer(path.stem) if path.stem[: m.start()] in stems}
        if path not in paired and ends and not any(KIND.fullmatch(end) for end in ends):
            raise DataError(
                f"{path} is one of several masks of an image, of which only one would be read; put all images into "
                "one folder and convert them to one type, or keep one mask per image"
            )


def leave_out(alone: list[Path], masks: list[Path], pairs: int, found: Guess) -> None:
    """Name files without a partner; images without a mask are left out if they are few, or if the user wants it.

    Raises:
        DataError: more than one image, and more than a tenth of all, have no mask.
    """
    if alone and len(alone) > max(1, _FEW * (len(alone) + pairs)) and not found.leaves_out:
        raise DataError(
            f"{alone[0]} has no mask, like {len(alone)} of {len(alone) + pairs} images; add masks, rename them, or "
            "use --unlabelled leave-out"
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
