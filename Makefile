# `make demo` and `make test` need Python 3.11 or newer with venv, and make. They set up the rest.

PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
# Debian packages the tests need, installed under CI=true by root. None today.
DEBIAN_PACKAGES :=

export COVERAGE_FILE := $(CURDIR)/.coverage

.PHONY: help demo test proofs bench docs clean debian

help:
	@echo "make demo    build the example site and serve it at http://127.0.0.1:$(PORT)/"
	@echo "make test    run every check and test"
	@echo "make proofs  run the tests that take minutes"
	@echo "make bench   run the benchmarks (BENCH=--help lists their options)"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make clean   remove what these commands made"

$(VENV)/.stamp-pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed. Name it: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

# One stamp for each dependency group of pyproject.toml.
$(VENV)/.stamp-%: $(VENV)/.stamp-pip pyproject.toml
	$(BIN)/python -m pip install --quiet --editable . --group $*
	@touch $@

demo: export FLASK_PRERENDER_BASE_URL = http://127.0.0.1:$(PORT)
demo: $(VENV)/.stamp-demo
	$(BIN)/flask --app example_app prerender
	@printf '\nThe site is at  http://127.0.0.1:%s/\nA hit shows in  curl -I http://127.0.0.1:%s/\n\n' \
	    $(PORT) $(PORT)
	@exec $(BIN)/gunicorn --no-control-socket --workers 2 --bind 127.0.0.1:$(PORT) "example_app:create_app()"

# The names of tests must be the same in both processes, also where they name sets.
test: export PYTHONHASHSEED = 0
test: debian $(VENV)/.stamp-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

proofs: $(VENV)/.stamp-dev
	$(BIN)/python -m pytest -m long

bench: $(VENV)/.stamp-bench
	$(BIN)/python -m benchmarks $(BENCH)

docs: $(VENV)/.stamp-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

debian:
ifeq ($(CI),true)
	@missing=""; \
	for package in $(DEBIAN_PACKAGES); do \
	    dpkg -s "$$package" >/dev/null 2>&1 || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy $$missing; \
	fi
endif

clean:
	rm -rf $(VENV) instance build dist docs/_build .coverage .coverage.* \
	    .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
