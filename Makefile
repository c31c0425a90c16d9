# Doorward. Every target says what it is for (`make`), what is missing, and how to get it.
# Nothing is installed outside this directory but Debian packages.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
ONLY ?=

.PHONY: help run test demo bench test-picamera2 soak-consent lock clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "; print "Doorward: make TARGET\n"} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile
	@echo; echo "Begin with: make run"

run: $(VENV)/.run ## Start the agent here with no configuration (ARGS="--config FILE" for one)
	@exec $(BIN)/doorward run $(ARGS)

demo: $(VENV)/.run ## Tell the whole story with real processes, in under 90 s (ARGS=--json for scripts)
	@tests/support/apt.sh --if-possible mosquitto
	@exec $(BIN)/python -m tests.demo $(ARGS)

test: $(VENV)/.test ## Run every check: ruff, mypy, import contracts, tests
	@tests/support/apt.sh mosquitto chromium ffmpeg openssl
	@command -v node >/dev/null || tests/support/apt.sh nodejs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

bench: $(VENV)/.test ## Measure what the design promises, JSON lines (ONLY=name for one, ARGS=--list for names)
	@tests/support/apt.sh chromium
	@exec $(BIN)/python -m tests.bench $(ONLY) $(ARGS)

test-picamera2: $(VENV)/.test ## Run the camera contract over the real picamera2 (builds libcamera once, minutes)
	@tests/picamera2/run.sh

soak-consent: $(VENV)/.test ## Try N (1000000) documents and acts that must be refused (SEED=1; resumable)
	@exec $(BIN)/python -m tests.soak.consent -n $(or $(N),1000000) --seed $(or $(SEED),1) $(ARGS)

lock: ## Resolve the locks anew from pyproject.toml (needs the network)
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install -q 'uv>=0.5'
	$(VENV)-lock/bin/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header -q \
	  --python-version 3.11 pyproject.toml --group build -o requirements.lock
	$(VENV)-lock/bin/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header -q \
	  --python-version 3.11 pyproject.toml --group build --group dev -o requirements-dev.lock
	rm -rf $(VENV)-lock

clean: ## Remove the private environment and caches; var/ (your recordings and keys) stays
	rm -rf $(VENV) $(VENV)-lock build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

# A private environment, installed from the hashed lock.

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON). Get it: sudo apt-get install -y python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "missing: Python 3.11 to 3.13 (this is $$($(PYTHON) -V)). Name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "missing: the venv module. Get it: sudo apt-get install -y python3-venv"; exit 1; }
	@echo "making a private environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing what the agent needs (a minute, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements-dev.lock $(VENV)/.run
	@echo "installing what the tests need (a minute, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
