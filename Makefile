# Targets a newcomer needs: `make demo` and `make test`. Everything else is for developers.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO_VENV = .venv-demo
PROOF ?= 1
PROOFS = tests/proof tests/test_exit.py tests/test_interrupts.py tests/test_traps_finalizer.py tests/drivers/test_quiet_postgres.py
SOAK_SECONDS ?= 60
# Where interpreters are, beside PATH and pyenv: directories that have bin/python3.
ANYPOOL_PYTHONS ?=
find_python = $(firstword $(foreach d,$(ANYPOOL_PYTHONS),$(wildcard $(d)/bin/python$(1))) $(wildcard $(HOME)/.pyenv/versions/$(1:t=).*$(findstring t,$(1))/bin/python$(1)) $(shell command -v python$(1) 2>/dev/null))
# Interpreters for `make test-all`; the last one is without the GIL.
INTERPRETERS = $(foreach v,3.11 3.12 3.13 3.14 3.14t,$(call find_python,$(v)))
# What `make test-newest` runs on the newest ones, with and without the GIL: some 3 minutes.
NEWEST = $(call find_python,3.14) $(call find_python,3.14t)
NEWEST_TESTS = tests/parts tests/test_threads.py tests/test_checkout.py tests/test_demo.py tests/test_contexts.py tests/drivers/test_threads_sqlite.py
# Drivers that have no wheels for every interpreter are left out there; their tests skip.
NEWEST_NEEDS = pytest hypothesis trio uvloop aiosqlite rich typer django fastapi flask httpx asgiref pymysql psycopg certifi trustme coverage

.PHONY: demo test test-all test-newest test-one coverage proof soak lint types bench clean

demo: $(DEMO_VENV)/.ready  ## The main job on an embedded SQLite; options in DEMO="--seconds 10 ..."
	$(DEMO_VENV)/bin/python -m anypool demo $(DEMO)

test: $(VENV)/.ready  ## The test suite; options in TEST="-k finalizer ..."
	$(BIN)/python -m pytest $(TEST)

test-all:  ## The test suite on every interpreter there is
	@for python in $(INTERPRETERS); do \
		version=$$($$python -c 'import sys; print("%d.%d%s" % (*sys.version_info[:2], sys.abiflags))'); \
		echo "== $$python ($$version)"; \
		case $$version in \
			*t) $(MAKE) --no-print-directory test-one PYTHON=$$python VENV=.venv-$$version ;; \
			*) $(MAKE) --no-print-directory test PYTHON=$$python VENV=.venv-$$version ;; \
		esac || exit 1; \
	done

test-newest:  ## Some of the tests on the newest interpreters, with and without the GIL
	@test -n "$(strip $(NEWEST))" || echo "skipped: there is no Python 3.14 or 3.14t here"
	@for python in $(NEWEST); do \
		version=$$($$python -c 'import sys; print("%d.%d%s" % (*sys.version_info[:2], sys.abiflags))'); \
		echo "== $$python ($$version)"; \
		$(MAKE) --no-print-directory test-one PYTHON=$$python VENV=.venv-some-$$version TEST="$(NEWEST_TESTS)" || exit 1; \
	done

# With what has wheels for every interpreter.
test-one:
	test -f $(VENV)/.ready-some || { $(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --editable . $(NEWEST_NEEDS) && touch $(VENV)/.ready-some; }
	$(BIN)/python -m pytest $(TEST)

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
