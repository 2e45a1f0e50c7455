# make demo and make test work on a fresh checkout with Python 3.11 or later and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# what is in the environment: the package, what tests and checks need, what the pages need
PACKAGE := $(VENV)/.package
INSTALLED := $(VENV)/.installed
DOCS := $(VENV)/.docs

.PHONY: help install demo test slow lint types docs tutorials wheel clean

help:
	@echo "make demo     measure a picture with one bit per measurement, and recover it"
	@echo "make test     run the tests (make slow: those that take minutes)"
	@echo "make lint     ruff; make types: mypy"
	@echo "make docs     build the documentation into docs/_build/html"
	@echo "              (make tutorials: run its notebooks, and print their times)"
	@echo "make wheel    build the wheel into dist/"

install: $(INSTALLED)

# torch goes first: with it there, nothing else asks for another build of it
$(PACKAGE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e .
	touch $@

$(INSTALLED): $(PACKAGE)
	$(PIP) -e '.[dev]'
	touch $@

demo: $(PACKAGE)
	$(BIN)/bayes1bit demo --out demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

$(DOCS): $(INSTALLED)
	$(PIP) -e '.[docs]'
	touch $@

# a warning is an error, and so is a reference that leads nowhere
docs: $(DOCS)
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs docs/_build/html

# NAMES="01 05" runs some of them
tutorials: $(INSTALLED)
	$(BIN)/python scripts/run_tutorials.py $(NAMES)

wheel: $(INSTALLED)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist demo docs/_build
