# A clean clone needs Python 3.11 to 3.13 and make; everything else is installed into .venv by these targets.
#   make demo        a real crew against a local stand-in provider: what it cost, where the time went
#   make test        the fast tests
#   make test-all    every test: installs Prometheus, Alertmanager and Chromium by apt, builds the collector with Go
#   make lint        ruff, mypy, import directions, drift of generated files
#   make stack-local collector, sidecar, Prometheus and Alertmanager as plain processes on loopback
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ARGS ?=

.PHONY: demo test test-all lint stack-local clean help
.DEFAULT_GOAL := help

help:
	@sed -n '2,6s/^# *//p' Makefile

demo: $(VENV)/.demo
	@$(BIN)/crewmeter demo $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -m "not slow and not services" $(ARGS)

test-all: $(VENV)/.services
	@scripts/build-collector.sh
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	scripts/check-drift.sh

stack-local: $(VENV)/.demo
	@scripts/stack-local.sh $(ARGS)

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .coverage* htmlcov

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo "error: $$($(PYTHON) --version 2>&1) found, but crewai runs on Python 3.11 to 3.13" >&2; \
	    echo "hint:  name another one: make PYTHON=python3.12 demo" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

# Each stamp says what .venv holds, so that only the first run and a changed dependency cost an install.
$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing crewmeter and crewai into $(VENV) (once, about two minutes) …"
	@$(PIP) --editable '.[crewai,sidecar]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "installing what the tests need into $(VENV) (once) …"
	@$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.services: $(VENV)/.dev scripts/install-services.sh
	@scripts/install-services.sh
	@$(PIP) --editable '.[dev,services]'
	@touch $@
