# Everything sets itself up in .venv from python3 and make alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench bench-ingest bench-grade bench-gate clean

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing tracegrade into $(VENV) ..."
	@$(PIP) install -U 'pip>=25.1'
	@$(PIP) install -e '.[embedded]' --group demo
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing the development tools into $(VENV) ..."
	@$(PIP) install -e '.[embedded]' --group demo --group dev
	@touch $@

demo: $(VENV)/.run ## Run the main job end to end, offline: agent, traces, grades, decisions (ARGS=--keep leaves it up)
	@$(BIN)/tracegrade demo $(ARGS)

test: $(VENV)/.dev ## Run the tests
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## Formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## Format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: bench-ingest bench-grade bench-gate ## Run every benchmark

bench-ingest: $(VENV)/.dev ## Ingest against rotel and Phoenix; the last line is JSON
	@$(BIN)/python bench/ingest.py $(ARGS)

bench-grade: $(VENV)/.dev ## Agent spans a second a core; the last line is JSON
	@$(BIN)/python bench/grade.py $(ARGS)

bench-gate: $(VENV)/.dev ## Time of a decision; the last line is JSON
	@$(BIN)/python bench/gate.py $(ARGS)

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
