# Two commands for a fresh clone: `make demo` and `make test`. Both set up first; set-up is a no-op where it is already good.
PYTHON ?= python3
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup test demo demo-det demo-pretrain lint format

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

setup:  ## make .venv with the tested versions (PYTHON=python3.11 chooses the interpreter)
	@$(PYTHON) -u tools/setup/setup_env.py

test: setup  ## run the whole test suite, one process per core
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 4 --max-worker-restart 2 --dist loadfile --no-loadscope-reorder

demo: setup  ## train, test and draw a segmentor on generated data (at most 10 minutes on 2 cores)
	$(PY) tools/demo.py seg

demo-det: setup  ## the same with a detector
	$(PY) tools/demo.py det

demo-pretrain: setup  ## a classifier, then segmentors from it and from random weights (at most 15 minutes on 2 cores)
	$(PY) tools/demo.py pretrain

lint: setup  ## lint, format check and type check, as in CI
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: setup  ## apply the formatter and the lint fixes
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
