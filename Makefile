# make demo   train on embedded data, evaluate, leave pictures in demo/
# make test   linters, type checker, all tests; those in a browser where Chromium is installed
# make check  linters, and the tests that need no processes and no long training: two minutes
# make test-lowest  tests of tables and the command line at the lowest declared versions, with Python 3.10
# make test-studio  the studio, driven in headless Chromium (Debian: chromium chromium-driver)
# make faults kill, starve and poison trainings on purpose, and count what survives; FAST=1: a minute
# make bench  tables of likelihood, speed and memory, beside other libraries: benchmarks/results/
# make peers  suites that others wrote, on our flows, estimators and adapters: benchmarks/results/peers.md
# make results  copy the tables of docs/results.md from benchmarks/results/
# make docs   the documentation's site, in build/site/; chapters of the course are run, once
# make package  wheel and source archive, checked, in dist/
# make test-package  the wheel, installed into an environment of its own, and used
# make clean  remove what these left
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
DEMO := demo

.PHONY: demo test check test-lowest test-studio lint faults bench peers results docs package test-package clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "realnvp needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/installed

demo: $(VENV)/installed
	@rm -rf $(DEMO)/digits $(DEMO)/*.png
	$(BIN)/realnvp train digits --out $(DEMO)/digits
	$(BIN)/realnvp eval $(DEMO)/digits --split test --samples 16
	$(BIN)/realnvp sample $(DEMO)/digits --out $(DEMO)/samples.png
	$(BIN)/realnvp sample $(DEMO)/digits --temperature 0.7 --out $(DEMO)/samples-temperature-0.7.png
	$(BIN)/realnvp interpolate $(DEMO)/digits --out $(DEMO)/interpolation.png
	$(BIN)/realnvp levels $(DEMO)/digits --out $(DEMO)/levels.png

test: $(VENV)/installed-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --ignore tests/studio
	$(PYTEST_STUDIO)

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow" tests

# One browser for all of its tests. Gradio leaves sockets and event loops to be collected when its
# server ends, and sets an option of pandas that is deprecated, which as an error would end its event.
PYTEST_STUDIO = OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/studio -W ignore::ResourceWarning \
	-W ignore::DeprecationWarning -W ignore::pytest.PytestUnraisableExceptionWarning
test-studio: $(VENV)/installed-test
	REALNVP_BROWSER=required $(PYTEST_STUDIO)

# Old releases meet newer packages below them, whose deprecations are no faults of ours.
LOWEST := .venv-lowest
LOWEST_TESTS ?= tests/columns tests/data tests/tables tests/estimator tests/outliers tests/cli
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) tools/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		-c $(LOWEST)/constraints.txt -e . 'pytest>=8' 'pytest-xdist>=3.5' 'hypothesis>=6.100' pyarrow constriction openpyxl
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses auto --dist loadfile $(LOWEST_TESTS) \
		-W ignore::DeprecationWarning -W ignore::FutureWarning

faults: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/system/faults.py $(if $(FAST),--fast)
	OMP_NUM_THREADS=1 $(BIN)/python tests/system/codec_faults.py $(if $(FAST),--fast)
	OMP_NUM_THREADS=1 $(BIN)/python tests/system/table_faults.py $(if $(FAST),--fast)

BENCHES ?= speed memory sampling toy tables gpu
bench: $(VENV)/installed-test
	$(BIN)/pip install --quiet -e '.[bench]'
	for name in $(BENCHES); do $(BIN)/python benchmarks/$$name.py || exit 1; done

results: $(BIN)/python
	$(BIN)/python tools/results_page.py

PEERS := build/peers/env
$(PEERS)/installed: benchmarks/peers.txt pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(subst $(VENV),$(PEERS),$(BIN))/python -m pip install --quiet --disable-pip-version-check -e . -r benchmarks/peers.txt
	@touch $@

peers: $(PEERS)/installed
	OMP_NUM_THREADS=1 $(subst $(VENV),$(PEERS),$(BIN))/python benchmarks/peers.py

# Material's notice of its successor is no warning of these pages.
docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

package: $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build twine
	rm -rf dist build/lib build/bdist.*
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

test-package:
	$(PYTHON) tests/system/package.py

clean:
	rm -rf $(VENV) $(LOWEST) $(DEMO) build dist .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
