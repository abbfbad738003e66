# Needs make and Python 3.11 or newer; uses uv when it is there. `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup up down status logs test faults soak check bench bench-compare screenshots clean lock
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
# Many tests wait for processes: one more runner than cores, at most 4.
RUNNERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
FAULTS ?= full
FAULTS_TIMEOUT_S ?= 14400
SOAK_MINUTES ?= 30

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## install into .venv (redone only when requirements.txt or pyproject.toml changed)

# requirements.txt is complete, so nothing else may be looked up (--no-deps: pip cannot match extras to hashes).
# Compiled here, as pip does anyway: where PYTHONDONTWRITEBYTECODE is set (many containers), every process would compile what it
# imports, again and again (l2_platform itself too: hence the line of its own).
# The stamp is written last: an interrupted set-up is taken up again by the next make.
$(STAMP): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed, $(PYTHON) is %d.%d; try make PYTHON=python3.11" % v[:2])'
	@echo "installing into $(VENV) (some minutes the first time) …"
	@rm -f $(STAMP)
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(VENV) && \
		uv pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps --require-hashes -r requirements.txt && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		{ $(PYTHON) -m venv $(VENV) >/dev/null || { echo "error: $(PYTHON) -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }; } && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@$(BIN)/python -m compileall -q l2_platform benchmarks
	@touch $(STAMP)

up: $(STAMP) ## start everything, wait until it is healthy, say what runs where
	@$(BIN)/l2 up $(ARGS)

down: $(STAMP) ## stop everything cleanly
	@$(BIN)/l2 down $(ARGS)

status: $(STAMP) ## show every process, stream and address
	@$(BIN)/l2 status $(ARGS)

logs: $(STAMP) ## show the end of every log (ARGS="-f" follows)
	@$(BIN)/l2 logs $(ARGS)

test: $(STAMP) ## run the tests (ARGS="-k name" picks some)
	@$(BIN)/python -m pytest -n $(RUNNERS) --dist loadfile $(ARGS)

# Each scenario states what it does at quick, ci and full; the results of a run are in its junit file when one is asked for.
faults: $(STAMP) ## break it on purpose, at full size (FAULTS=ci is the size of CI)
	@FAULTS=$(FAULTS) $(BIN)/python -m pytest tests/faults tests/simulation tests/fuzz tests/benchmarks/test_long_figures.py -n $(RUNNERS) --dist loadfile --timeout $(FAULTS_TIMEOUT_S) $(ARGS)

soak: $(STAMP) ## a random mix of faults for SOAK_MINUTES minutes
	@$(BIN)/python -m tests.faults.soak --minutes $(SOAK_MINUTES) $(ARGS)

check: $(STAMP) ## ruff, mypy and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(STAMP) ## measure every figure, make docs/benchmarks.md (ARGS="run book": one; ARGS=--long: all)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-compare: $(STAMP) ## measure REV and this checkout in turns, print ratios (REV=main~5, NAMES="book")
	@test -n "$(REV)" || { echo "error: make bench-compare REV=main~5"; exit 1; }
	@$(BIN)/python -m benchmarks compare $(REV) $(NAMES) $(ARGS)

screenshots: $(STAMP) ## take the pictures of the web UI in docs/screenshots (needs chromium)
	@$(BIN)/python -m tests.pages $(ARGS)

clean: ## remove .venv and caches; recorded data (L2_HOME) stays
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage build dist
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

lock: ## compile requirements.txt from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "error: make lock needs uv"; exit 1; }
	@uv pip compile pyproject.toml --quiet --extra dev --extra redis --generate-hashes --no-emit-index-url --universal \
		--python-version 3.11 --custom-compile-command "make lock" -o requirements.txt
