"""The tables of evaluated results by run and seed, and what each result is made of."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.metrics.jackknife import Tables
from segpipe.metrics.tables import Stored, read_tables

ENSEMBLE, REFINED = "ensemble: ", " + CRF"  # how results are called


def networks_of(name: str) -> str:
    """What a result is made of, from what it is called or where it lies; "" of an ensemble.

    >>> networks_of("ce + CRF"), networks_of("ensemble: average"), networks_of("results/crf/ce-0")
    ('ce', '', 'ce-0')
    >>> networks_of("ce + CRF + rule for mIoU^I"), networks_of("results/decided/miou_dataset/ce-0-crf")
    ('ce', 'ce-0')
    >>> networks_of("results/decided/miou_dataset/average")
    ''
    """
    decided = "decided" in Path(name).parts[:-1] and "-" not in Path(name).name
    if name.startswith(ENSEMBLE) or "ensembles" in Path(name).parts[:-1] or decided:
        return ""
    plain = re.sub(r" \+ rule( for .*)?$", "", name)
    return Path(plain.removesuffix(REFINED)).name.removesuffix("-crf")


def seed_of(folder: Path) -> str:
    """The seed in the name of a result folder."""
    return folder.name.removesuffix("-crf").rpartition("-")[2]


def read_runs(
    folders: Mapping[str, Sequence[Path]], split: str
) -> tuple[dict[str, dict[str, Tables]], list[str]]:  # fmt: skip
    """The tables of every run by seed, and the group of each image.

    Raises:
        DataError: folders differ in their images, groups or classes.
    """
    runs: dict[str, dict[str, Tables]] = {}
    first: tuple[Path, Stored] | None = None
    for name, seeds in folders.items():
        runs[name] = {}
        for folder in seeds:
            stored = read_tables(folder, split)
            first = first or (folder, stored)
            for what in ("images", "groups", "classes"):
                ours, theirs = getattr(stored, what), getattr(first[1], what)
                if ours != theirs:
                    raise DataError(
                        f"{folder} has other {what} than {first[0]} ({len(ours)} and {len(theirs)}); "
                        "compare results of one dataset and one evaluation"
                    )
            runs[name][seed_of(folder)] = stored.tables
    return runs, first[1].groups if first else []


def fixed_networks(seeds: Mapping[str, set[str]], made_of: Mapping[str, str], imported: Collection[str]) -> set[str]:
    """The imported results that lack seeds of the trained ones, or have more where these have one."""
    outside = {name for name in seeds if re.sub(r"-[0-9]+$", "", made_of[name]) in imported}
    trained = [seeds[name] for name in seeds if made_of[name] and name not in outside]
    wanted = trained[0] if trained else max((seeds[name] for name in outside), key=len, default=set())
    return {name for name in outside if len(wanted) == 1 < len(seeds[name]) or not wanted <= seeds[name]}
