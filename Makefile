# Everything a fresh machine needs: a virtual environment with pinned packages. No root, no server.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LINT := types workflow snakefmt generated prose ruff house
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo install detect semantic text update-yt-dlp test test-fast test-newest test-oldest \
	constraints lint $(LINT:%=lint-%) docs clean

help:
	@echo "make demo     mine a small dataset end to end (about five minutes, most of it downloads)"
	@echo "make install  only set up $(VENV) with the dataminer and snakemake commands"
	@echo "make semantic also install what filter.semantic and open-vocabulary detectors need"
	@echo "make text     also install what filter.text needs"
	@echo "make update-yt-dlp  take the newest yt-dlp, if it works (see docs/youtube.md)"
	@echo "make test     run all tests"
	@echo "make test-fast  run lint and the unit tests, as before each commit"
	@echo "make lint     check formatting, types, the workflow and the English"
	@echo "make test-newest, make test-oldest  run tests with the newest and the oldest packages"
	@echo "make constraints  write constraints.txt again, after a change of dependencies"
	@echo "make docs     draw the pictures in docs/ again (needs graphviz)"
	@echo "make clean    remove $(VENV) and caches; data and database stay"

demo: $(STAMP)
	python -m demo

install: $(STAMP)
	@echo "Next: source $(BIN)/activate"

detect: $(STAMP)

semantic: $(STAMP)
	./install.sh $(PYTHON) $(VENV) demo,semantic

text: $(STAMP)
	./install.sh $(PYTHON) $(VENV) demo,text

update-yt-dlp: $(STAMP)
	tools/update_yt_dlp.sh $(VENV)

# One process more than cores, because tests often wait for a server
WORKERS := $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)

test: $(VENV)/.installed-test
	python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test-fast: lint
	python -m pytest -n logical --maxprocesses 8 --dist loadfile tests/unit

# The unit tests hardly use PyTorch, ultralytics, transformers and scikit-image
MODEL_TESTS := $(addprefix tests/integration/test_,detectors.py semantic.py near_duplicates.py text.py)

# With the newest and the oldest packages that pyproject.toml allows. Each needs minutes and 8 GB for an
# environment of its own, which stays if a test fails. The check of the English, and what imports it, is left
# out: its proselint asks for a newer google-re2 than dataminer does.
test-newest: RESOLUTION := highest
test-oldest: RESOLUTION := lowest-direct
test-newest test-oldest: test-%: $(STAMP)
	rm -rf .cache/$*
	./install.sh $(PYTHON) .cache/$* demo,semantic,text,unit $(RESOLUTION)
	.cache/$*/bin/python -m pytest -n logical --maxprocesses 8 --dist loadfile tests/unit \
		$(MODEL_TESTS) --ignore tests/unit/test_prose.py --ignore tests/unit/test_programs.py
	rm -rf .cache/$*

# Keeps the versions that still fit; `make constraints UPGRADE=--upgrade` takes the newest of all
constraints: $(STAMP)
	tools/constraints.sh $(VENV) $(UPGRADE)

lint: $(VENV)/.installed-test
	$(MAKE) --no-print-directory --output-sync -j2 $(LINT:%=lint-%)

lint-ruff:
	ruff check .
	ruff format --check .

lint-types:
	mypy

lint-snakefmt:
	snakefmt --check Snakefile rules

lint-generated:
	python -m dataminer.config.generate --check
	python -m tests.support.matrix.page --check

lint-house:
	python -m tools.architecture --check

lint-workflow:
	snakemake --lint

lint-prose:
	python -m tools.prose

docs: $(VENV)/.installed-test demo
	docs/draw.sh

$(STAMP): pyproject.toml constraints.txt
	./install.sh $(PYTHON) $(VENV) demo
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt
	./install.sh $(PYTHON) $(VENV) test
	@touch $@ $(STAMP)

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .mypy_cache
