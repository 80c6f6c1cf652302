PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test up lint clean

demo: $(INSTALLED)
	@$(BIN)/seedbed demo

up: $(INSTALLED)
	@$(BIN)/seedbed up

test: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/lint-imports

# One file marks a finished installation, so that a second make starts at once.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing Seedbed into $(VENV) (about 2 GB; once)"
	@$(PYTHON) -c 'import sys; sys.exit("Seedbed needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --progress-bar on -c constraints.txt -e '.[generation,training,embedded,test]'
	@touch $(INSTALLED)

clean:
	rm -rf $(VENV) build *.egg-info
