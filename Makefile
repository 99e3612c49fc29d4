# headgate: every common task in one command. `make` alone lists them.
# Needs GNU make (3.81, that of macOS, is enough) and Python 3.11 or newer.

VENV    := .venv
BIN     := $(VENV)/bin
# The first interpreter that is new enough is taken; `make run PYTHON=/path/to/python` names one.
PYTHON  ?=
ARGS    ?=
BASE    := $(VENV)/.headgate-base
MODELS  := $(VENV)/.headgate-models
DEV     := $(VENV)/.headgate-dev
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test test-all wire lint bench docs setup setup-dev setup-models lock clean

help: ## Show this list
	@echo "headgate: make TARGET [ARGS='...'] [PYTHON=/path/to/python]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

run: $(BASE) ## Set up once, then start the demo: a small backend, headgate before it, a short tour
	@exec $(BIN)/headgate demo $(ARGS)

test: $(DEV) ## The test suite, without the slow tests and those that need other servers
	$(BIN)/python -m pytest $(ARGS)

test-all: $(DEV) ## Every test: slow ones, and those with a real nginx or Redis where installed
	$(BIN)/python -m pytest -m "" $(ARGS)

wire: $(DEV) ## Only the tests with real servers (HEADGATE_REQUIRE_SERVICES=1: a missing server fails)
	$(BIN)/python -m pytest -m wire $(ARGS)

lint: $(DEV) ## ruff, and mypy --strict on proxy/ and policies/
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

bench: $(BASE) ## Measure headgate against a direct connection and its peers
	$(BIN)/python -m bench $(ARGS)

docs: $(BASE) ## Write the generated pages and the JSON schema anew
	$(BIN)/python -m proxy docs $(ARGS)

setup: $(BASE) ## Only the set-up: what running headgate needs
setup-dev: $(DEV) ## Only the set-up: what tests and linting need on top
setup-models: $(MODELS) ## Only the set-up: torch and Presidio, for the tests that find names (large)

# The set-up runs once, and again when a lock file or pyproject.toml changes. Nothing else here needs a network.
$(BASE): requirements.lock requirements-build.lock pyproject.toml
	@set -eu; \
	ok='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$ok" 2>/dev/null; then \
	  found=''; \
	  for p in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	    if "$$p" -c "$$ok" 2>/dev/null; then found="$$p"; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "headgate needs Python 3.11 or newer; found: $$($(or $(PYTHON),python3) --version 2>&1 || true)" >&2; \
	    echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; \
	  fi; \
	  if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "$$found has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	  fi; \
	  echo "headgate set-up 1/3: a Python environment in $(VENV) ($$("$$found" --version))"; \
	  "$$found" -m venv --clear $(VENV); \
	else \
	  echo "headgate set-up 1/3: the Python environment in $(VENV) is there"; \
	fi; \
	echo "headgate set-up 2/3: fetching $$(grep -c '==' requirements.lock) packages, each checked against its hash"; \
	$(PIP) install --require-hashes -r requirements.lock -r requirements-build.lock || { \
	  echo "The packages did not install (see above). Is there a way to a Python package index?" >&2; exit 1; }; \
	echo "headgate set-up 3/3: the headgate command"; \
	$(PIP) install --no-deps --no-build-isolation --editable .; \
	touch $@

$(DEV): $(BASE) requirements-dev.lock
	@echo "headgate set-up: fetching the test and lint tools, $$(grep -c '==' requirements-dev.lock) packages in all"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

$(MODELS): $(DEV) requirements-models.txt
	@echo "headgate set-up: fetching torch, transformers and Presidio"
	@$(PIP) install -r requirements-models.txt
	@touch $@

# For maintainers, after a change of pyproject.toml's dependencies; needs the tool uv and a network.
# LOCK_ARGS='--upgrade' takes newer releases. No index address gets into the files.
LOCK = uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(LOCK_ARGS)
lock: ## Write the three lock files anew (maintainers; needs uv)
	@command -v uv >/dev/null || { echo "make lock needs the tool uv on the PATH" >&2; exit 1; }
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) pyproject.toml --extra dev -c requirements.lock -o requirements-dev.lock
	$(LOCK) requirements-build.in -o requirements-build.lock

clean: ## Remove the environment, caches and build outputs
	rm -rf $(VENV) build dist bench/out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
