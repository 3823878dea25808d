# Targets a newcomer needs: `make demo` and `make test`. Everything else is for developers.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO_VENV = .venv-demo
PROOF ?= 1
PROOFS = tests/proof tests/test_exit.py tests/test_interrupts.py tests/test_traps_finalizer.py tests/drivers/test_quiet_postgres.py
SOAK_SECONDS ?= 60
# Interpreters for `make test-all`: those on PATH, and those that pyenv has.
INTERPRETERS = $(sort $(foreach v,3.11 3.12 3.13 3.14,$(firstword $(wildcard $(HOME)/.pyenv/versions/$(v).*/bin/python$(v)) $(shell command -v python$(v) 2>/dev/null))))

.PHONY: demo test test-all coverage proof soak lint types bench clean

demo: $(DEMO_VENV)/.ready  ## The main job on an embedded SQLite; options in DEMO="--seconds 10 ..."
	$(DEMO_VENV)/bin/python -m anypool demo $(DEMO)

test: $(VENV)/.ready  ## The test suite; options in TEST="-k finalizer ..."
	$(BIN)/python -m pytest $(TEST)

test-all:  ## The test suite on every interpreter there is
	@for python in $(INTERPRETERS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "== $$python ($$version)"; \
		$(MAKE) --no-print-directory test PYTHON=$$python VENV=.venv-$$version || exit 1; \
	done

coverage: $(VENV)/.ready  ## Which lines and branches of the library the test suite leaves out
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(TEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

proof: $(VENV)/.ready  ## The exhaustive runs, some 15 minutes; PROOF=0.1 is a tenth of them
	PROOF=$(PROOF) $(BIN)/python -m pytest -m "" $(PROOFS) $(TEST)

soak: $(VENV)/.ready  ## All that happens in production, for SOAK_SECONDS=60
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m tests.soak

lint: $(VENV)/.ready  ## Style, and which way imports run
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.ready  ## Both type checkers, and how complete the public types are
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	PYTHONPATH=src $(BIN)/pyright --pythonpath $(BIN)/python --ignoreexternal --verifytypes anypool

bench: $(VENV)/.ready  ## Us beside the peers; options in BENCH="--quick ..."
	$(BIN)/python -m benchmarks --json docs/benchmarks.json --svg docs/benchmarks.svg $(BENCH)

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

$(DEMO_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python -m pip install --quiet --editable '.[cli]'
	touch $@

clean:
	rm -rf .venv .venv-* dist .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
