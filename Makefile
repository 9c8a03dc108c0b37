# A clean clone needs Python 3.11 to 3.13 and make; everything else is installed into .venv by these targets.
#   make demo        a real crew against a local fake provider: what it cost, where the time went
#   make test        the fast tests
#   make test-all    every test: installs Prometheus, Alertmanager and Chromium by apt, builds the collector with Go
#   make reliability runs the tests behind every promise; writes docs/reliability.md
#   make truth       every case of tests/truth, right, honest or wrong; writes docs/truth.md
#   make lint        ruff, mypy, import directions, house rules, drift of generated files
#   make coverage    every test, with the lines that none of them reaches
#   make stack-local collector, sidecar, Prometheus and Alertmanager as plain processes on loopback
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# Tests mostly wait for processes they started, so a few more workers than cores pay.
WORKERS ?= $(shell echo $$(( $$(nproc 2>/dev/null || sysctl -n hw.ncpu) * 3 / 2 )))
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
ARGS ?=
# Empty is unset: without stored bytecode every process compiles crewai anew, which takes seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: wheel demo test test-all test-rest truth reliability lint coverage stack-local clean help
.DEFAULT_GOAL := help

help:
	@sed -n '2,8s/^# *//p' Makefile

wheel: $(VENV)/.demo
	@$(BIN)/python -c 'from importlib.metadata import version; from pathlib import Path; from crewmeter_cost.compose_stack.wheel import installed_wheel, wheel_name; target = Path("dist", wheel_name(version("crewmeter"))); target.parent.mkdir(exist_ok=True); target.write_bytes(installed_wheel()); print(target)'

demo: $(VENV)/.demo
	@$(BIN)/crewmeter demo $(ARGS)

test: $(VENV)/.dev
	@$(PYTEST) -m "not slow and not services" $(ARGS)

test-all: $(VENV)/.services
	@scripts/build-collector.sh
	@$(PYTEST) $(ARGS)

# What `make test` leaves out of `make test-all`.
test-rest: $(VENV)/.services
	@scripts/build-collector.sh
	@$(PYTEST) -m "slow or services" $(ARGS)

# Subprocesses measure themselves; three files of every worker are put together at the end.
coverage: $(VENV)/.services
	@scripts/build-collector.sh
	@$(BIN)/python -m coverage run -m pytest $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report --skip-covered --sort=cover

truth: $(VENV)/.dev
	@PYTHONPATH=tests $(BIN)/python -m truth.run $(ARGS)

reliability: $(VENV)/.services
	@PYTHONPATH=tests $(BIN)/python -m reliability.run $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/house.py
	scripts/check-drift.sh

stack-local: $(VENV)/.demo
	@scripts/stack-local.sh $(ARGS)

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .coverage* htmlcov

# Each stamp says what .venv holds, so that only the first run and a changed dependency cost an install.
$(VENV)/.demo: pyproject.toml constraints.txt
	@echo "installing crewmeter and crewai into $(VENV) (once) …"
	@scripts/setup.sh crewai,sidecar
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@echo "installing what the tests need into $(VENV) (once) …"
	@scripts/setup.sh dev
	@touch $@ $(VENV)/.demo

$(VENV)/.services: $(VENV)/.dev scripts/install-services.sh dashboards/web/package-lock.json
	@scripts/install-services.sh
	@touch $@
