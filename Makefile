# make demo   a first run: hello.py as a process, and with an engine the R sample in its built image
# make test   everything that CI runs: lint, types, all suites (installs and starts an engine as root on Debian)
# make nightly  the suites with all that repeats: every exit code on every backend, twenty times the examples
# make bench  the benchmark table in docs/benchmarks.md
# make lock   pin the development environment anew

PYTHON ?= python3
# Every test starts the command many times: without bytecode each start compiles all of it anew (150 ms).
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
# More than a small machine has processors: a test of a run elsewhere mostly waits.
JOBS ?= 4

.PHONY: demo test lint types suites nightly bench lock clean

demo: .venv/ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" pipelines/demo.sh

test: .venv/ready
	@$(MAKE) --no-print-directory lint
	@.ci/with-engine $(MAKE) --no-print-directory -j 2 types suites

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

suites: .venv/ready
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

nightly: export RUNNER_TEST_EVERYTHING = 1
nightly: .venv/ready
	@.ci/with-engine $(MAKE) --no-print-directory suites

bench: .venv/ready
	.ci/with-engine $(BIN)/python -m tests.benchmarks

.venv/ready: pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "runner needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "no venv module: apt-get install python3-venv"; exit 1; }
	@echo "installing the development environment into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock:
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 \
	  --group dev --custom-compile-command 'make lock' --output-file requirements-dev.lock pyproject.toml

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache dist
