#!/usr/bin/env bash
# A built wheel, installed beside the dependencies but away from the clone, gives `segpipe init` and `dvc repro`.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python -m build --wheel --outdir "$scratch/dist" . >"$scratch/build.log" 2>&1 || { cat "$scratch/build.log"; exit 1; }
python -m venv --system-site-packages "$scratch/venv"
# The dependencies come from this environment; the package itself must come from the wheel.
site=$(python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
inner=$("$scratch/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
echo "$site" >"$inner/dependencies.pth"
"$scratch/venv/bin/python" -m pip install --quiet --no-deps --ignore-installed "$scratch"/dist/segpipe-*.whl
cd "$scratch"
export PATH=$scratch/venv/bin:$PATH
python - <<'PY'
import pathlib, segpipe
where = pathlib.Path(segpipe.__file__)
assert "dist-packages" in str(where) or "site-packages" in str(where), where
assert (where.parent / "params.yaml").is_file()
assert (where.parent / "profiles" / "tiny.yaml").is_file()
PY
segpipe init scenes --profile tiny --into w
cd w
dvc repro >"$scratch/repro.log" 2>&1 || { tail -40 "$scratch/repro.log"; exit 1; }
test -s results/report.html
segpipe dag --check
echo "the wheel works"
