"""Command code: what the code of each stage means, for DVC to compare."""

from __future__ import annotations


def code() -> None:
    """Write data/code.json, by which DVC knows which stages a change of code or defaults concerns."""
    from segpipe.config import dag, digests
    from segpipe.config import params as parameters
    from segpipe.core import files
    from segpipe.core.errors import ConfigError

    params = parameters.load()
    dag.check_names(params)
    if not dag.is_fresh(params):
        raise ConfigError("dvc.yaml does not fit params.yaml; run `segpipe dag --write`, then dvc repro")
    files.write_json(digests.FILE, digests.every(params))
    print(f"wrote {digests.FILE}")
