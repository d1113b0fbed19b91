# selfsup: `make demo` on a fresh machine; `make test` before every change.

PYTHON ?= python3
# Installed before anything else, so that no other package picks torch's version or build.
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMPS := $(VENV)/.stamps

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format bench docs clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMPS)/torch:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install '$(TORCH)'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/core: pyproject.toml | $(STAMPS)/torch
	$(PIP) install -e .
	@touch $@

$(STAMPS)/dev: pyproject.toml | $(STAMPS)/torch
	$(PIP) install -e '.[dev,docs]'
	@touch $@ $(STAMPS)/core

setup: $(STAMPS)/dev  ## make .venv with everything that development needs

demo: $(STAMPS)/core  ## the whole story in a few minutes, on texts that are here already
	$(BIN)/selfsup demo --out runs/demo $(ARGS)

test: lint  ## lint, then every test that takes no more than seconds
	$(BIN)/pytest -n 2 -m 'not slow' $(ARGS)

test-slow: $(STAMPS)/dev  ## the other tests
	$(BIN)/pytest -n 2 -m slow $(ARGS)

lint: $(STAMPS)/dev  ## style, types, and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMPS)/dev  ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMPS)/core  ## the benchmarks, quickly; needs the extra `bench` for the peers
	$(PIP) install -e '.[bench]'
	set -e; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python "$$file" --quick $(ARGS); done

docs: $(STAMPS)/dev  ## build the pages into docs/_build; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

clean:  ## remove caches and built pages, but neither .venv nor runs
	rm -rf docs/_build dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
