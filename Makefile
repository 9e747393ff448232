# The main targets are `run` and `test`. Both create the environment in .venv if it does not exist.

PYTHON ?= python3
EXTRAS ?= trainer,dev
BIN := .venv/bin
INSTALLED := .venv/.installed
UNIT := $(addprefix tests/,domain search_spaces confirmation inspection store trainer/cache trainer/heads)
PROCESSES := $(addprefix --ignore=tests/,inspection/test_weight_files.py inspection/test_hostile_weights.py trainer/cache/test_cache_processes.py store/test_clean_text.py store/test_migrations.py)

.DEFAULT_GOAL := help
.PHONY: help run test check lint types imports js tests unit goldens chaos mutants fix bench catalogue clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | awk -F: '{printf "  make %-10s%s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Thawline needs Python 3.11 or later; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv || { echo "The module venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

run: $(INSTALLED)  ## run a server, a worker and the demo study on this machine; Ctrl-C stops them
	@exec $(BIN)/thaw demo --keep

test: check  ## run everything that CI runs

check: lint types imports js tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

js:  ## check types and lint the JavaScript of the pages, if Node is installed
	@bash .ci/js/check

tests: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=

unit: $(INSTALLED)  ## run the fast tests, without those that start processes or read very large files; about 50 s on two idle cores
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(UNIT) $(PROCESSES)

goldens: $(INSTALLED)  ## rewrite the recorded behaviour in tests/goldens, and print the differences
	THAW_GOLDENS_WRITE=1 $(BIN)/python -m pytest tests/goldens

chaos: $(INSTALLED)  ## run the fault suite at full length with its output; THAW_CHAOS_SEED=N replays a schedule
	THAW_CHAOS_LONG=1 $(BIN)/python -m pytest -rP tests/chaos

mutants: $(INSTALLED)  ## plant each mutant in the product; its scenario must fail
	$(BIN)/python -m tests.chaos.mutate

fix: $(INSTALLED)  ## apply automatic fixes and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## run all benchmarks, also of Optuna and Ray Tune; over an hour; RECORD=--record appends the tables to bench/RESULTS.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m bench.control_plane $(RECORD)
	$(BIN)/python -m bench.contention $(RECORD)
	$(BIN)/python -m bench.claims $(RECORD)
	$(BIN)/python -m bench.step $(RECORD)
	$(BIN)/python -m bench.launches $(RECORD)
	$(BIN)/python -m bench.warmth $(RECORD)
	$(BIN)/python -m bench.scripts $(RECORD)
	$(BIN)/python -m bench.replay all $(RECORD)
	$(BIN)/python -m bench.search $(RECORD)

catalogue: $(INSTALLED)  ## regenerate trainer/tasks/images/catalogue/models from torchvision
	$(BIN)/python -m trainer.tasks.images.networks.catalogue

clean:  ## remove the environment and caches
	rm -rf .venv .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .ci/js/node_modules
