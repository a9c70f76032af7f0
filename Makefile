# Everything a fresh machine needs: a virtual environment with pinned packages. No root, no server.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo install test lint docs clean

help:
	@echo "make demo     mine a small dataset end to end (about five minutes, most of it downloads)"
	@echo "make install  only set up $(VENV) with the dataminer and snakemake commands"
	@echo "make test     run the tests"
	@echo "make lint     check formatting, types and the workflow"
	@echo "make docs     draw the pictures in docs/ again (needs graphviz)"
	@echo "make clean    remove $(VENV) and caches; data and database stay"

demo: $(STAMP)
	python -m demo

install: $(STAMP)
	@echo "Next: source $(BIN)/activate"

test: $(VENV)/.installed-test
	python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-test
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile rules
	python -m dataminer.config.generate --check
	snakemake --lint

docs: demo
	docs/draw.sh

$(STAMP): pyproject.toml constraints.txt
	./install.sh $(PYTHON) $(VENV) demo
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt
	./install.sh $(PYTHON) $(VENV) test
	@touch $@ $(STAMP)

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .mypy_cache
