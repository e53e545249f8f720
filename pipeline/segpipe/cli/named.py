"""Find results by the names that people give: runs, seeds, results with a CRF or rule, ensembles, folders."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.core.errors import ConfigError, DataError, suggestion

if TYPE_CHECKING:
    from segpipe.config.context import Context

Find = Callable[[], tuple[Path, ...]]  # a result's folders, when they are asked for


def folders_of(names: list[str]) -> dict[str, tuple[Path, ...]]:
    """Result folders by name: folders as given, all else from params.yaml; without names all that are complete."""
    found: dict[str, tuple[Path, ...]] = {}
    known: dict[str, Find] | None = None
    for name in names:
        if (Path(name) / "counts.csv").is_file():
            found[Path(name).as_posix()] = (Path(name),)
            continue
        known = _known() if known is None else known
        choices = {_key(title): title for title in known}
        key = _key(name)
        key = key if key in choices else _key(f"ensemble: {name}")
        if key not in choices:
            raise ConfigError(f"'{name}' is no result folder and no result of params.yaml{suggestion(name, known)}")
        found[choices[key]] = known[choices[key]]()
    return found if names else _there()


def imported() -> list[str]:
    """The imports of params.yaml, if it is there."""
    from segpipe.config import params

    return list(params.load().imports) if params.FILE.is_file() else []


def _there() -> dict[str, tuple[Path, ...]]:
    """All complete results of params.yaml; a line on the error stream names each one left out and why."""
    found: dict[str, tuple[Path, ...]] = {}
    for title, folders in _known().items():
        if "-" not in title:
            try:
                found[title] = folders()
            except DataError as error:
                print(f"left out: {title}: {error}", file=sys.stderr)
    return found


def _known() -> dict[str, Find]:
    """By name, a function that finds the complete folders: runs, their seeds, with CRF, ensembles."""
    from segpipe.config.context import start

    context = start()
    params, known = context.params, dict[str, Find]()

    def of_run(keys: list[str], suffix: str) -> Find:
        return lambda: tuple(context.member(key + suffix).require("evaluate") for key in keys)

    def of_method(method: str) -> Find:
        return lambda: (context.of_ensemble(method).require("evaluate"),)

    refined = params.crf_keys()
    for suffix, words in (("", ""), ("-crf", " + CRF")):
        for run in (*params.runs, *params.imports):
            keys = [key for key in params.keys_of(run) if not suffix or key in refined]
            if keys:
                known[run + words] = of_run(keys, suffix)
                known |= {key + words: of_run([key], suffix) for key in keys}
    known |= {f"ensemble: {method}": of_method(method) for method in params.ensemble}
    return known | _known_decided(context)


def _known_decided(context: Context) -> dict[str, Find]:
    """The results that a rule reads."""
    from segpipe.report.collect import decided_names

    def of_rule(keys: list[str], metric: str) -> Find:
        return lambda: tuple(context.decided(key, metric).require("evaluate") for key in keys)

    return {title: of_rule(keys, metric) for title, metric, keys in decided_names(context.params)}


def _key(name: str) -> str:
    return name.replace(" ", "").lower()
