# Every command a person types. `make` alone lists them.
PYTHON ?= python3
API ?= replay
ROLE ?= reader
BASE ?= main

# Values reach the programs through the environment, as they were typed: no quote, space or $ in them is syntax.
override Q := $(value Q)
override NAME := $(value NAME)
export API BASE DATE ENV FROM NAME Q REGION ROLE ROUNDS TICKERS TO YES
# Variables that would misdirect our own Python.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONSTARTUP
# Everything that running creates stays in the clone.
export PIP_CACHE_DIR = $(CURDIR)/.airlock/cache/pip
export PRE_COMMIT_HOME = $(CURDIR)/.airlock/cache/pre-commit
export PREK_HOME = $(CURDIR)/.airlock/cache/prek
export VIRTUALENV_OVERRIDE_APP_DATA = $(CURDIR)/.airlock/cache/virtualenv
# prek installs its tools with uv. If the machine has none, it uses the one that installed .venv, not a download.
export PATH := $(PATH):$(CURDIR)/.airlock/uv/lib/bin:$(CURDIR)/.airlock/uv/venv/bin

# Each process has a Postgres of its own; the tests of a file stay together, since they share what is slow to make.
PYTEST = .venv/bin/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile

.DEFAULT_GOAL := help
.PHONY: help install demo up backfill down sql dataset remove-dataset test test-fast test-faults test-infra prove-ci lint bench \
	quality-diff requirements bootstrap plan apply destroy clean

help:
	@awk -F ':.*## ' '/^[a-z -]+:.*## / { printf "%-19s%s\n", $$1, $$2 }' Makefile

# `exec`: a signal to make must reach the program, not a shell in between.
install:
	@exec $(PYTHON) scripts/bootstrap.py install

demo: install ## run the DAGs for one day and show the result (DATE=2023-08-01, API=live)
	@exec .venv/bin/python -m local demo --date "$$DATE" --api "$$API"

up: install ## the same platform left running, with Airflow's UI (API=live)
	@exec .venv/bin/python -m local up --api "$$API"

backfill: install ## run a dataset's DAG for a range of days (FROM=2023-08-01 TO=2023-08-31, TICKERS=all, NAME=market)
	@exec .venv/bin/python -m local backfill --api "$$API" --from "$$FROM" --to "$$TO" --dataset "$$NAME"

down: install ## stop it from elsewhere
	@exec .venv/bin/python -m local down

sql: install ## query the local warehouse, as the reader (ROLE=app: as the DAGs): make sql Q="select ..."
	@exec .venv/bin/python -m local sql --as "$$ROLE" -- "$$Q"

dataset: install ## a new dataset, ready to run, behind its gate (NAME=fx_rates)
	@exec .venv/bin/python -m scripts.dataset add -- "$$NAME"

remove-dataset: install ## remove a dataset, after showing what belongs to it (NAME=market, YES=1 without asking)
	@exec .venv/bin/python -m scripts.dataset remove -- "$$NAME"

test: install ## the whole test suite
	@$(PYTEST)

test-fast: install ## without the tests that take half a minute or more
	@$(PYTEST) -m "not faults and not e2e and not infra and not linters and not prove"

test-faults: install ## faults of a source, and kills while readers look; prints the outcome of each (ROUNDS=1000)
	@AIRLOCK_FAULT_ROUNDS="$$ROUNDS" .venv/bin/python -m pytest -m faults

test-infra: install ## dev and prod in full on a stand-in of AWS (20 minutes)
	@.venv/bin/python -m pytest tests/terraform -m ""

prove-ci: install ## run the workflows on this machine, in a fresh clone (an hour)
	@.venv/bin/python -m pytest tests/workflows -m ""

lint: install ## every check that a change gets
	@.venv/bin/python -m prek run --all-files

bench: install ## the side-by-side measurements
	@exec .venv/bin/python -m benchmarks

quality-diff: install ## what became looser in great_expectations/ (BASE=main)
	@exec .venv/bin/python -m scripts.quality_diff -- "$$BASE"

requirements: install ## write requirements.txt again from the lock
	@.venv/bin/python -m scripts.export_requirements

bootstrap: ## once per AWS account: Terraform's state bucket, trust in GitHub (REGION=eu-west-1)
	@exec $(PYTHON) scripts/infrastructure.py bootstrap "$$REGION"

plan apply destroy: ## Terraform for one environment (ENV=dev)
	@exec $(PYTHON) scripts/infrastructure.py $@ "$$ENV"

clean: ## back to a bare clone
	@$(PYTHON) scripts/bootstrap.py clean
