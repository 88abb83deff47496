# make reproduce   train and print the tables, at the scale this machine manages; STAGE= chooses
# make test        the tests (a few minutes on 2 cores)
# make check       ruff and mypy
# make bench       the speed benchmarks, a few minutes; results go to benchmarks/results/ (bench-full: longer)
# Each makes its own environment in .venv; nothing but Python 3.11 or newer is needed.

PYTHON ?= python3
RESULTS ?= reproduced
DATA ?= data
BIN := .venv/bin
READY := .venv/.ready
CUDA ?= $(shell nvidia-smi -L 2>/dev/null | grep -c GPU)
WCORDBENCH := $(BIN)/wcordbench
PLACE := --results $(RESULTS) --data $(DATA)
ONE_PAIR := --pair 'resnet56->resnet20' --seed 0

# Each stage ends in a table:
#   digits  handwritten digits, a narrow student: minutes on 2 cores, no CUDA device, no download
#   pair    one pair of the supplement's Table 1, one seed
#   table1  the supplement's Table 1: seven pairs, five seeds
#   all     every stage, then the paper's two suites of all methods
# Without STAGE: digits, and with a CUDA device pair as well. SUITE=FILE trains one suite instead.
ifeq ($(CUDA),0)
STAGES := digits
else
STAGES := digits pair
endif
ifneq ($(STAGE),)
STAGES := $(if $(filter all,$(STAGE)),digits pair table1 paper,$(STAGE))
endif
UNKNOWN := $(filter-out digits pair table1 paper,$(STAGES))

.PHONY: reproduce announce estimate stage-digits stage-pair stage-table1 stage-paper test test-slow check reference bench bench-full format clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -5

ifneq ($(SUITE),)
reproduce: $(READY)
	@echo "Reproducing $(SUITE); results go to $(RESULTS)/"
	$(WCORDBENCH) run $(SUITE) $(PLACE)
	$(WCORDBENCH) table $(SUITE) --results $(RESULTS)
else ifneq ($(UNKNOWN),)
reproduce:
	@echo "STAGE=$(STAGE) is unknown; valid: digits, pair, table1, all" >&2; exit 2
else
reproduce: announce estimate $(STAGES:%=stage-%)
	@echo; echo "Done: $(STAGES). More: make reproduce STAGE=pair, STAGE=table1 or STAGE=all"
endif

announce: $(READY)
ifneq ($(CUDA),0)
	@$(BIN)/python -c "import torch; raise SystemExit(not torch.cuda.is_available())" || { echo \
	  "nvidia-smi shows $(CUDA) CUDA devices, and PyTorch sees none: its build is for CPUs, or the" \
	  "driver is too old for it; mend that, or train on the CPU with: make reproduce CUDA=0" >&2; exit 2; }
endif
	@echo "Stages: $(STAGES) ($(CUDA) CUDA devices); results go to $(RESULTS)/"

# Nothing is trained before it is said what it takes.
estimate: $(READY) announce
ifneq ($(CUDA),0)
	$(if $(filter pair,$(STAGES)),$(WCORDBENCH) plan suites/table1.yaml $(ONE_PAIR) $(PLACE))
	$(if $(filter table1,$(STAGES)),$(WCORDBENCH) plan suites/table1.yaml $(PLACE))
	$(if $(filter paper,$(STAGES)),$(WCORDBENCH) plan suites/cifar100.yaml $(PLACE))
	$(if $(filter paper,$(STAGES)),$(WCORDBENCH) plan suites/cifar100_cross.yaml $(PLACE))
endif

stage-digits: estimate
	$(WCORDBENCH) run suites/digits_kd.yaml $(PLACE)
	@echo
	$(WCORDBENCH) table suites/digits_kd.yaml --results $(RESULTS)
	@echo
	$(WCORDBENCH) compare suites/digits_kd.yaml --baseline student --results $(RESULTS)

stage-pair: estimate | $(filter stage-digits,$(STAGES:%=stage-%))
	$(WCORDBENCH) run suites/table1.yaml $(ONE_PAIR) $(PLACE)
	$(WCORDBENCH) table suites/table1.yaml $(ONE_PAIR) --results $(RESULTS)

stage-table1: estimate | $(filter stage-digits stage-pair,$(STAGES:%=stage-%))
	$(WCORDBENCH) run suites/table1.yaml $(PLACE)
	$(WCORDBENCH) table suites/table1.yaml --results $(RESULTS)

stage-paper: estimate | $(filter stage-digits stage-pair stage-table1,$(STAGES:%=stage-%))
	$(WCORDBENCH) run suites/cifar100.yaml $(PLACE)
	$(WCORDBENCH) table suites/cifar100.yaml --results $(RESULTS)
	$(WCORDBENCH) run suites/cifar100_cross.yaml $(PLACE)
	$(WCORDBENCH) table suites/cifar100_cross.yaml --results $(RESULTS)

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
