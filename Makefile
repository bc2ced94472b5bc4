# Every command a person types. `make` alone lists them.
PYTHON ?= python3
API ?= replay

# Values reach the programs through the environment: a quote or a space in them is nobody's syntax.
export API DATE Q
# Everything that running makes stays in the clone.
export PRE_COMMIT_HOME = $(CURDIR)/.airlock/cache/pre-commit
export VIRTUALENV_OVERRIDE_APP_DATA = $(CURDIR)/.airlock/cache/virtualenv

.DEFAULT_GOAL := help
.PHONY: help install demo up down sql test test-fast lint requirements clean

help:
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

install:
	@$(PYTHON) scripts/bootstrap.py install

demo: install ## run the market DAGs for one day and show the result (DATE=2023-08-01, API=live)
	@.venv/bin/python -m local demo --date "$$DATE" --api "$$API"

up: install ## the same platform left running, with Airflow's UI (API=live)
	@.venv/bin/python -m local up --api "$$API"

down: install ## stop it from elsewhere
	@.venv/bin/python -m local down

sql: install ## ask the local warehouse, as the reader: make sql Q="select ..."
	@.venv/bin/python -m local sql "$$Q"

test: install ## the whole test suite
	@.venv/bin/python -m pytest

test-fast: install ## without the tests that start the whole platform
	@.venv/bin/python -m pytest -m "not e2e"

lint: install ## every check that a change gets
	@.venv/bin/python -m pre_commit run --all-files

requirements: install ## write requirements.txt anew from the lock
	@.venv/bin/python -m scripts.export_requirements

clean: ## back to a bare clone
	@$(PYTHON) scripts/bootstrap.py clean
