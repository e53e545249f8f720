"""Keep what a profile's workspace found: `python docs/profiles.py NAME WORKSPACE`, after its `dvc repro`.

Writes results/profiles/NAME, or results/camvid: the parameters, the report's tables, the benchmark's table in
three forms, the claims that it tests, the machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import claims
import yaml

from segpipe.core.files import write_json, write_text
from segpipe.report.agreement import environment

ROOT = Path(__file__).parents[1]
TABLE = {
    "lmp": "sampling",
    "ensembles": None,
    "camvid": "losses",
    "matched": "losses",
    "crf": "losses",
}  # of benchmark.py, where it is not called as the profile


def keep(name: str, workspace: Path) -> None:
    """Copy and tabulate; nothing is kept unless the workspace is complete."""
    table = TABLE.get(name, name)
    forms = {}
    for form in ("md", "csv", "tex") if table else ():
        command = [sys.executable, "-m", "segpipe", "table", table, "--form", form]
        forms[form] = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=True).stdout
    out = claims.kept(name)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(workspace / "results" / "tables", out / "tables")
    parameters = (workspace / "params.yaml").read_text(encoding="utf-8")
    # Where the data lay is nobody's business.
    write_text(out / "params.yaml", re.sub(r"^(  source: )\S+", r"\1null", parameters, flags=re.MULTILINE))
    for form, text in forms.items():
        (out / f"table.{form}").write_text(text, encoding="utf-8")
    write_json(out / "claims.json", claims.tested(name, workspace))
    threads = yaml.safe_load((workspace / "params.yaml").read_text())["threads"]
    write_json(out / "environment.json", environment(threads))


if __name__ == "__main__":
    keep(sys.argv[1], Path(os.path.abspath(sys.argv[2])))
