# `make demo` and `make test` set everything up on a fresh machine; both are quick the second time.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint docs acceptance setup sandbox browser clean

demo: setup
	$(BIN)/harness reproduce dasd-micro

# Two processes, as many tests wait for others (tests/conftest.py). PYTEST="-n 0 -x tests/test_rows.py": in one.
test: setup lint browser
	$(BIN)/harness setup transformers
	$(BIN)/harness setup lighteval
	$(BIN)/harness setup llamafactory
	$(BIN)/python -m pytest -n 2 $(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site of mkdocs.yml, into site/. A dead link is an error; nothing is fetched.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# make acceptance NAME=demo
acceptance: setup
	@test -x "tests/acceptance/$(NAME)" || { echo "NAME is one of:"; ls tests/acceptance; exit 64; }
	PATH="$(abspath $(BIN)):$$PATH" tests/acceptance/$(NAME)

# The embedded engine, its environment, and the sandbox. Where no Docker engine can be had, the last
# line takes bubblewrap and says so; in CI it fails instead.
setup: $(STAMP) sandbox
	$(BIN)/harness setup vllm

sandbox: $(STAMP)
	-docker/start-engine.sh
	$(BIN)/harness setup sandbox

# Chromium and axe-core for the tests of the pages.
browser:
	tests/browser/install

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[train,test,dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs
