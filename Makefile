# Everything a person does with a checkout. Needs git, make and Python 3.11 or newer; the rest is set up here.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
READY   = $(VENV)/.ready
ARGS   ?=
# Tests mostly wait, so there are more workers than cores. `make test WORKERS=0` runs one test after another.
WORKERS ?= auto
CHECK_WORKERS ?= 2
# The lock file is complete, so nothing is to be solved.
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
SIDE_BY_SIDE = $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder
PIN     = uv pip compile --quiet --universal --generate-hashes --no-header

# Where the environment forbids compiled files, each command would compile all it imports again: seconds of a core.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test check audit fmt bench soak docs dashboards screenshots picture lock clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

setup: $(READY) ## the virtual environment, from the hashed lock file

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "precall needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-build-isolation --editable .
	$(BIN)/python -m compileall -q daemon
	@touch $@

demo: $(READY) ## the main job, with a built-in provider: make demo ARGS="--for 30s"
	$(BIN)/precall demo $(ARGS)

test: $(READY) ## every test, workers side by side
	$(SIDE_BY_SIDE) $(ARGS)

check: $(READY) ## formatting, lint, types, layers, fast tests side by side; changes nothing
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo
	@# Types and tests take a core each. Fast tests do not wait, so more workers would only import everything once more.
	$(BIN)/mypy & types=$$!; \
	  $(BIN)/python -m pytest -n $(CHECK_WORKERS) --dist loadscope --no-loadscope-reorder \
	    -q --hypothesis-profile=quick -m "not slow" tests/unit; tests=$$?; \
	  wait $$types && exit $$tests

audit: $(READY) ## known vulnerabilities of the locked dependencies; says so when the advisory service is out of reach
	$(BIN)/python -m tests.audit

fmt: $(READY) ## format, and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## every benchmark, each beside a peer, in one table each
	@for bench in tests/bench/bench_*.py; do \
	  echo; echo "== $$bench"; $(BIN)/python -m tests.bench.$$(basename $$bench .py) || exit 1; done

soak: $(READY) ## kill -9, a hundred times, with writers and readers at work; every property and the API tried for an hour
	PRECALL_TEST_SOAK_ROUNDS=100 $(BIN)/python -m pytest -q -s tests/acceptance/test_crash.py
	PRECALL_TEST_SOAK_DAYS=5 PRECALL_TEST_SOAK_KILLS=200 PRECALL_TEST_SOAK_SEED=$${PRECALL_TEST_SOAK_SEED:-$$(date +%s)} \
	  $(BIN)/python -m pytest -q -s tests/acceptance/test_soak.py
	PRECALL_TEST_SOAK_LIVES=50 PRECALL_TEST_RENUMBERED=1000 PRECALL_TEST_SOAK_SEED=$${PRECALL_TEST_SOAK_SEED:-$$(date +%s)} \
	  $(BIN)/python -m pytest -q -s tests/acceptance/test_churn.py tests/acceptance/test_renumbering.py
	PRECALL_TEST_SOAK_HOURS=48 PRECALL_TEST_SOAK_CHANGES=1000 $(BIN)/python -m pytest -q -s tests/acceptance/test_day.py tests/acceptance/test_postgresql.py
	PRECALL_TEST_FUZZ_SECONDS=1260 $(SIDE_BY_SIDE) -q -o timeout=0 --hypothesis-profile=soak tests/acceptance/test_openapi_fuzzed.py tests/unit

docs: $(READY) ## the documentation as a site, in site/; the tables of metrics and assumptions are written from the code
	$(BIN)/python docs/metrics.py
	$(BIN)/python docs/assumptions.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dashboards: $(READY) ## deploy/grafana/dashboards, from the code beside them
	$(BIN)/python deploy/grafana/dashboards.py

screenshots: $(READY) ## deploy/grafana/*.png and docs/assets/console-*.png, during incidents (needs Debian's prometheus and chromium)
	$(BIN)/python -m tests.deploy.pictures
	$(BIN)/python -m tests.support.console_pictures

picture: $(READY) ## docs/assets/demo.svg, from the real demo in a terminal (needs Debian's tmux)
	$(BIN)/python docs/picture.py

lock: ## solve the dependencies again (needs uv)
	$(PIN) --all-extras --group dev pyproject.toml -o requirements.lock
	$(PIN) --constraints requirements.lock --extra postgres --extra notify pyproject.toml -o deploy/docker/run.lock
	printf 'hatchling\nsetuptools\n' | $(PIN) --constraints requirements.lock - -o deploy/docker/build.lock

clean: ## remove what was built
	rm -rf $(VENV) dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
