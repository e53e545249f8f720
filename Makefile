# The two commands: `make repro` and `make test`. Both make the environment first.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.PHONY: repro test commands lint peers clean

repro: .venv/done
	segpipe dag --check
	dvc repro
	@echo "report: $(CURDIR)/results/report.html"

test: .venv/done lint
	python -m pytest -n 2 --dist worksteal -m "not commands"

# Every command that README and docs show, as it stands, and the notebook.
commands: .venv/done
	python -m pytest -n 2 --dist worksteal -m commands tests/pipeline/test_commands.py
	python docs/notebook.py --check

lint: .venv/done
	ruff format --check pipeline tests docs
	ruff check pipeline tests docs
	mypy

# Other libraries beside ours, in an environment of their own.
peers: .peers/done
	.peers/bin/python -m pytest tests/peers

.peers/done: pyproject.toml constraints.txt tests/peers/requirements.txt
	test -x .peers/bin/python || $(PYTHON) -m venv .peers
	.peers/bin/python -m pip install --quiet --upgrade pip
	.peers/bin/python -m pip install --quiet -c constraints.txt -r tests/peers/requirements.txt -e .
	-.peers/bin/python -m pip install --quiet pydensecrf2==1.1  # needs a C++ compiler; its tests skip without
	touch $@

.venv/done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .peers .pytest_cache .mypy_cache .ruff_cache runs .segpipe
