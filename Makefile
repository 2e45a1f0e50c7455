# make demo and make test work on a fresh checkout with Python 3.11 or later and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test slow lint types wheel clean

help:
	@echo "make demo     measure a picture with one bit per measurement, and recover it"
	@echo "make test     run the tests (make slow: those that take minutes)"
	@echo "make lint     ruff; make types: mypy"
	@echo "make wheel    build the wheel into dist/"

install: $(INSTALLED)

# torch goes first: with it there, nothing else asks for another build of it
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $@

demo: $(INSTALLED)
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

wheel: $(INSTALLED)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist demo
