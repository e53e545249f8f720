# The two commands: `make repro` and `make test`. Both make the environment first.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.PHONY: repro test lint clean

repro: .venv/done
	segpipe dag --check
	dvc repro
	@echo "report: $(CURDIR)/results/report.html"

test: .venv/done lint
	python -m pytest -n 2 --dist worksteal

lint: .venv/done
	ruff format --check pipeline tests docs
	ruff check pipeline tests docs
	mypy

.venv/done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache runs .segpipe
