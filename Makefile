# Every command sets up what it needs: a virtual environment in .venv with locked packages, the dbt
# packages, and DuckDB's Delta extension. Nothing but Python 3.11+, make and a package index is
# needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export LAKEHOUSE_PATH ?= $(CURDIR)/lakehouse
export DBT_PROFILES_DIR ?= $(CURDIR)

# Some machines set this; without compiled files every dbt command starts twice as slowly.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-real test-spark warehouse lint docs lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## Land simulated changes, build the marts, write the dashboard page
	@$(BIN)/python -m scripts.demo

test: $(VENV)/.dev ## Run all tests
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-real: $(VENV)/.dev ## Run the tests with Apache Kafka, Spark, PostgreSQL and Debezium (Java, Maven, PostgreSQL)
	@$(BIN)/python -m pytest tests/real --no-loadscope-reorder $(PYTEST_ARGS)
	@$(BIN)/python -m pytest tests/spark --numprocesses 0 $(PYTEST_ARGS)

test-spark: $(VENV)/.dev ## Run the tests of the local warehouse on Apache Spark with Delta Lake (Java, Maven)
	@WAREHOUSE_ENGINE=spark $(BIN)/python -m pytest tests/warehouse --numprocesses 0 $(PYTEST_ARGS)

warehouse: $(VENV)/.dev ## Run a local SQL warehouse for dbt-databricks; WAREHOUSE_ENGINE=spark for Spark
	@$(BIN)/python -m tests.support.warehouse

lint: $(VENV)/.dev ## Check SQL (sqlfluff), Python (ruff, mypy)
	@mkdir -p target/lint
	LAKEHOUSE_PATH=target/lint $(BIN)/sqlfluff lint models tests/dbt analyses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.demo ## Write dbt's documentation and lineage of the built project to target/
	$(BIN)/dbt docs generate

bench-%: $(VENV)/.dev
	@$(BIN)/python -m bench.$* $(ARGS)

lock: ## Resolve requirements/*.in anew into *.lock (needs uv)
	cd requirements && for name in demo dev warehouse; do \
		uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate \
			--no-header --quiet $$name.in --output-file $$name.lock; \
	done

clean: ## Remove the environment, build products and the demo's lakehouse
	rm -rf $(VENV) .venv-bench .venv-warehouse dbt_packages target logs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@if [ -e "$(LAKEHOUSE_PATH)/.demo" ]; then rm -rf "$(LAKEHOUSE_PATH)"; fi

$(VENV)/.demo: requirements/demo.lock pyproject.toml profiles.yml scripts/set_up.py packages.yml
	@PYTHON="$(PYTHON)" $(PYTHON) scripts/set_up.py demo

$(VENV)/.dev: requirements/dev.lock pyproject.toml profiles.yml scripts/set_up.py packages.yml
	@PYTHON="$(PYTHON)" $(PYTHON) scripts/set_up.py dev

profiles.yml: profiles.yml.example
	@[ -e $@ ] && touch $@ || cp $< $@
