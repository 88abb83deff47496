# make reproduce   train and print the tables, at the scale this machine manages
# make test        the tests (a few minutes on 2 cores)
# make check       ruff and mypy
# make bench       the speed benchmarks, a few minutes; results go to benchmarks/results/ (bench-full: longer)
# Each makes its own environment in .venv; nothing but Python 3.11 or newer is needed.

PYTHON ?= python3
RESULTS ?= reproduced
DATA ?= data
BIN := .venv/bin
READY := .venv/.ready
CUDA := $(shell nvidia-smi -L 2>/dev/null | grep -c GPU)

ifneq ($(SUITE),)
SUITES := $(SUITE)
SCALE := as asked
else ifeq ($(CUDA),0)
SUITES := suites/digits.yaml suites/digits_privileged.yaml
SCALE := no CUDA device here, so the embedded suite: real handwritten digits, at most 10 minutes on 2 cores
else
SUITES := suites/cifar100.yaml suites/cifar100_cross.yaml
SCALE := $(CUDA) CUDA device(s) here, so the paper's suites at full scale: this takes days
endif

.PHONY: reproduce test test-slow check reference bench bench-full format clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -5

reproduce:
	@echo "Reproducing $(SUITES) ($(SCALE)); results go to $(RESULTS)/"
	@$(MAKE) --silent $(READY)
	@for suite in $(SUITES); do \
	  $(BIN)/wcordbench run $$suite --results $(RESULTS) --data $(DATA) || exit $$?; \
	done
	@for suite in $(SUITES); do echo; $(BIN)/wcordbench table $$suite --results $(RESULTS); done

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv (PyTorch is a large download)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

test: $(READY)
	$(BIN)/python -m pytest -n auto -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -n auto -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reference: $(READY)
	$(BIN)/wcordbench schema --out suites/suite.schema.json
	$(BIN)/wcordbench schema --format markdown --out docs/suites.md
	$(BIN)/python -m wcordbench.reporting.freeze

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python benchmarks/table.py
	$(BIN)/python benchmarks/steps.py --rounds 3
	$(BIN)/python benchmarks/cohorts.py --rounds 1
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/transport.py
	$(BIN)/python benchmarks/bf16.py
	$(BIN)/python benchmarks/plain.py --rounds 2
	$(BIN)/python benchmarks/footprint.py --data $(DATA) --seconds 50
	$(BIN)/python benchmarks/targets.py

bench-full: $(READY)
	$(BIN)/python benchmarks/table.py
	$(BIN)/python benchmarks/steps.py --rounds 15
	$(BIN)/python benchmarks/cohorts.py --rounds 7
	$(BIN)/python benchmarks/growth.py --rounds 25
	$(BIN)/python benchmarks/transport.py
	$(BIN)/python benchmarks/bf16.py --rounds 15
	$(BIN)/python benchmarks/plain.py --rounds 7
	$(BIN)/python benchmarks/footprint.py --data $(DATA) --seconds 240
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/pairs.py --data $(DATA)
	$(BIN)/python benchmarks/targets.py

clean:
	rm -rf .venv build *.egg-info
