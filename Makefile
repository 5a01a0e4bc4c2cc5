# Two commands do all the set-up: `make demo` and `make test`. Both share the environment in .venv.

PYTHON ?= python3
PYTEST_FLAGS ?= -q -n 2

BIN := .venv/bin
READY := .venv/.ready
CODE := src tests examples benchmarks

.PHONY: help setup demo test lint check chaos bench schema format clean

help:
	@echo "make demo    run the handwritten digits example"
	@echo "make test    run the tests"
	@echo "make check   format, lint, types, import rules, tests"
	@echo "make chaos   kill at random, as often as N=... says; SEED=... alone replays one of them"
	@echo "make format  format the code and repair what lint can repair"
	@echo "make bench   measure, beside what we measure against"
	@echo "make schema  write src/xmanager/store/schema.sql anew from the migrations"
	@echo "make clean   remove .venv and all caches"

demo: $(READY)
	@$(BIN)/xmanager launch examples/digits/launcher.py

test: $(READY)
	@$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(READY)
	@$(BIN)/ruff format --check --quiet $(CODE) || { echo "Not formatted: run 'make format'."; exit 1; }
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache >.venv/imports.log 2>&1 || { cat .venv/imports.log; exit 1; }
	@echo "Format, lint, types and import rules: all good."

check: lint test

# N seeds, from SEED on; with SEED alone that one, told in detail.
CHAOS := $(if $(N),--count $(N) --seed $(or $(SEED),1),$(if $(SEED),--seed $(SEED) --verbose,--count 100))

chaos: $(READY)
	@$(BIN)/python -m tests.chaos $(CHAOS)

bench: $(READY)
	@$(BIN)/python -m benchmarks.imports
	@$(BIN)/python -m benchmarks.launch
	@$(BIN)/python -m benchmarks.queue
	@$(BIN)/python -m benchmarks.package
	@$(BIN)/python -m benchmarks.slurm

schema: $(READY)
	@$(BIN)/python -m xmanager.store.schema_sql

format: $(READY)
	@$(BIN)/ruff check --fix-only --quiet $(CODE)
	@$(BIN)/ruff format --quiet $(CODE)

clean:
	@rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(READY)
	@:

# The stamp is a copy of the pyproject.toml that was installed: while they agree, no pip and no network.
$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) is missing: sudo apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
	  "$(PYTHON) is Python %d.%d, but 3.11 or newer is needed: make PYTHON=python3.12, say" % v[:2])'
	@$(PYTHON) -c 'import ensurepip; ensurepip.version' 2>/dev/null || \
	  { echo "$(notdir $(PYTHON))-venv is missing: sudo apt-get install $(notdir $(PYTHON))-venv" \
	    "($(PYTHON) is $$($(PYTHON) --version))"; exit 1; }
	@cmp -s pyproject.toml $@ || { \
	  echo "Setting up .venv (once, about a minute)..."; \
	  { $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv; } && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
	    --editable '.[dev,examples]' || \
	  { echo "Could not install. This once the network is needed; then run the same again."; exit 1; }; }
	@cp pyproject.toml $@
