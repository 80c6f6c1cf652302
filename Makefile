SHELL := bash
.SHELLFLAGS := -o pipefail -ec
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo up test test-long faults lint bench-admission bench-costs bench-economy bench-run bench-cancel clean

demo: $(INSTALLED)
	@$(BIN)/seedbed demo

up: $(INSTALLED)
	@$(BIN)/seedbed up

# Two processes, whatever the machine has: one works while the other waits for workers, leases and child processes.
# tests/conftest.py decides which tests stay together.
PYTEST := $(BIN)/pytest -n 2

test: lint
	@$(PYTEST) -m "not long"

# What proves endurance, or one more of a kind: a fault trial of every kind, every teacher's fault, Korean throughout.
test-long: $(INSTALLED)
	@$(PYTEST) -m long

# 200 seeded trials of what breaks; about 40 minutes.
faults: $(INSTALLED)
	@$(BIN)/python -m tests.faults

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo --config import_rules.toml

bench-admission: $(INSTALLED)
	@$(BIN)/python -m bench.admission

bench-run: $(INSTALLED)
	@$(BIN)/python -m bench.run

bench-costs: $(INSTALLED)
	@$(BIN)/python -m bench.costs

bench-cancel: $(INSTALLED)
	@$(BIN)/python -m bench.cancel

bench-economy: $(INSTALLED)
	@$(BIN)/python -m bench.economy

# The file marks a finished installation, so that a second make starts at once. Every install takes the
# versions of constraints.txt: without it pip would bring another torch, with gigabytes for GPUs.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Seedbed needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV): about 2 GB, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt \
	  -e '.[generation,training,embedded,openvino,test]' | grep --line-buffered -E '^(Collecting|Building|Installing)' | sed -u -E 's/ \(from.*//; s/(.{100}).*/\1 .../'
	@touch $(INSTALLED)

clean:
	rm -rf $(VENV) build *.egg-info
