# PYTHON=python3.12 chooses the interpreter of .venv (3.10 to 3.13), OPS=compiled
# compiles mmcv's ops, which needs a C++ compiler and nothing else here needs.
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup test test-ci test-slow lint demo clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup:  ## create or repair .venv with the pinned stack (PYTHON=..., OPS=compiled)
	@python3 -I mmrev/bootstrap.py $(if $(PYTHON),--python $(PYTHON)) $(if $(OPS),--ops $(OPS))

# Two processes, a file's tests in one: each needs about 4 GB.
BESIDE := -n 2 --dist loadfile

test: setup  ## the quick tests
	$(BIN)/python -m pytest $(BESIDE)

test-ci: setup  ## the slow tests that CI runs: trained projects, measured memory
	$(BIN)/python -m pytest $(BESIDE) -m ci

test-slow: setup  ## the slow tests too (minutes)
	$(BIN)/python -m pytest $(BESIDE) -m "slow or not slow"

lint: setup  ## style, format, import rules, Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile

demo: setup  ## train, test and rank two small models on the embedded scenes
	$(BIN)/python tools/demo.py

clean:  ## remove build products and caches (.venv, data and work_dirs stay)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache
	find mmrev tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
