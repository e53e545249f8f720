"""Stage ensemble: one prediction out of many, streamed image by image."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from segpipe.stages import SPLITS, options
from segpipe.stages.context import Context, start
from segpipe.stages.probs import read_probs

Method = Annotated[str, typer.Option(help="An ensemble of params.yaml.", show_default=False)]


def ensemble(
    method: Method,
    settings: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Combine the predictions of several runs."""
    context = start("ensemble", method=method, overrides=settings, dry_run=dry_run, as_json=as_json)
    out, members = context.path("ensemble"), context.params.members_of(method)
    for key in members:
        context.member(key).require("predict")
    if dry_run:
        context.announce(out, *(context.member(key).path("predict") for key in members))
        return
    with context.writing(out):
        result = write(context, members)
    lines = [f"{out}: {context.params.ensemble[method].method} of {len(members)} members"]
    context.finish(result, lines, context.command("evaluate"))


def write(context: Context, members: list[str]) -> dict[str, Any]:
    """Write probs (average) or labels (votes) of every image, and the members with their hashes."""
    import numpy as np
    from tqdm import tqdm

    from segpipe import ensembles
    from segpipe.core import files
    from segpipe.core.argmax import label_and_confidence
    from segpipe.data.maps import write_maps

    out, kind = context.path("ensemble"), context.params.ensemble[context.method].method
    index = files.read_json(context.path("prepare") / "index.json")
    sources = {key: context.member(key).path("predict") for key in members}

    def combined(split: str) -> Any:
        rows = index["splits"][split]
        streams = [read_probs(source, split, rows) for source in sources.values()]
        for probs in tqdm(
            zip(*streams, strict=True), f"{context.method} {split}", len(rows), unit="image", disable=None
        ):
            stacked = np.stack(probs)  # (M, C, H, W)
            if kind == "average":
                yield ensembles.average(stacked)
            else:
                yield ensembles.plurality(np.stack([label_and_confidence(p)[0] for p in probs]), probs=stacked.sum(0))

    with files.folder(out, {"config": context.digest("ensemble")}) as folder:
        for split in SPLITS:
            labels: list[Any] = []

            def kept(split: str = split, labels: list[Any] = labels) -> Any:
                for combined_image in combined(split):
                    labels.append(label_and_confidence(combined_image)[0])
                    yield combined_image

            if kind == "average":
                write_maps(folder / f"{split}_probs", kept(), np.float16)
            write_maps(folder / f"{split}_labels", labels if kind == "average" else combined(split), np.uint8)
        hashes = {key: files.digest_file(source / "test.npy") for key, source in sources.items()}
        files.write_json(folder / "members.json", {"method": kind, "members": hashes})
    return {"path": str(out), "method": kind, "members": members}
