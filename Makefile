# make book    the executed book in _build/html       make test   everything that must hold before a commit
PYTHON ?= python3.11
PORT   ?= 8000
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet
HTML   := _build/html
UV     := uv==0.13.9

export PYTHONWARNINGS :=
.DELETE_ON_ERROR:
.PHONY: help book pdf serve test test-slow lint lock clean reproduce

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# Stamps: what is installed is what the lock files say.
$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.book: requirements.txt pyproject.toml $(VENV)/.python
	$(PIP) --no-deps -r requirements.txt
	$(PIP) --no-deps -e .
	touch $@

$(VENV)/.test: requirements-test.txt $(VENV)/.book
	$(PIP) --no-deps -r requirements-test.txt
	touch $@

CHAPTERS := $(shell find chapters -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*' 2>/dev/null)
# What .gitignore names changes while programs run and is no input, as for esgap.sweep.input_files.
IGNORED  := $(shell sed -E "s|/$$|/*|; s|(.*)|-not -path '*/\1'|" .gitignore 2>/dev/null)
INPUTS   := $(CHAPTERS) _config.yml _toc.yml $(shell find ./_ext ./_vendor ./data ./lib -type f \
              -not -path '*/__pycache__/*' $(IGNORED) 2>/dev/null)

# Pages are always written anew (Sphinx forgets warnings of unchanged pages); executed chapters come from the cache.
$(HTML)/index.html: $(INPUTS) $(VENV)/.book
	rm -rf $(HTML) _build/.doctrees
	$(BIN)/jupyter-book build . --all -W --keep-going
	touch $@

book: $(HTML)/index.html  ## build and execute the book, print where it lies
	@echo "The book: $(CURDIR)/$(HTML)/index.html   (make serve: http://127.0.0.1:$(PORT))"

serve: book  ## show the book on http://127.0.0.1:8000 (PORT=...)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(HTML) $(PORT)

pdf: book  ## the whole book in one PDF, _build/book.pdf (needs Debian's chromium)
	$(BIN)/python _ext/print_book.py $(HTML) _build/book.pdf

lint: $(VENV)/.test  ## ruff over code and chapters
	$(BIN)/ruff check .

test: lint book  ## lint, doctests, unit tests, chapters, the built book in headless Chromium
	$(BIN)/python -m pytest --doctest-modules lib/esgap
	$(BIN)/python -m pytest -n 2 -m "not slow and not browser" tests
	$(BIN)/python -m pytest -m "browser and not slow" tests

test-slow: $(VENV)/.test book  ## computations of minutes, DFT where CP2K is installed, a fresh environment
	$(BIN)/python -m pytest -m slow --timeout 3600 tests

# Stored results once more, beside data/ and never into it, by the commands that their records name; each target goes
# on where it was killed, and tells at its end how the new results differ. Times: README.
MINUTES := charges settings training learning weights committee crossed
HOURS   := mobility paths frenkel dft
AGAIN   := _build/reproduced
LOOP    := data/training
ESGAP   := $(BIN)/python -m esgap
AGAIN_FROM = $(ESGAP) recompute --to $(AGAIN)
LABELS  := $(patsubst %.json,%.xyz,$(wildcard data/dft/*.json $(LOOP)/gen?.json))
# Li ions of which a pair was tried, each moved to `hole1`, before eight of all pairs were chosen (data/README.md)
PAIRS   := $(foreach li,0 1 3 4 6 7 10 11 12 13,--pair $(li):hole1)
FIELD   := --pair 3:hole1:-1,0,0 --supercell 2 2 2 --field-pair 3:hole1:-1,0,0 --field-supercell 2 2 2 --directions x y z
define cells
$(ESGAP) frenkel $(1) $(AGAIN)/runs/frenkel/all-$(1).xyz $(2) || test $$? = 1  # some points cannot be relaxed

endef

.PHONY: $(addprefix reproduce-,$(MINUTES) $(HOURS))
reproduce: $(addprefix reproduce-,$(MINUTES))  ## stored results computed again, and how they differ: all of minutes

reproduce-charges: $(VENV)/.book  ## charges of the baseline
	$(AGAIN_FROM) data/runs/charges.json

reproduce-settings: $(VENV)/.book  ## settings of the fit compared
	$(AGAIN_FROM) data/runs/gen0-settings.json

# The loop takes its stored frames and labels, so neither MD nor CP2K runs; every generation is fitted again.
reproduce-training: $(VENV)/.book  ## potentials of all generations
	mkdir -p $(AGAIN)/training
	cp -n $(wildcard $(LOOP)/gen*.xyz $(LOOP)/gen*.notes.json) $(AGAIN)/training/
	$(ESGAP) train --folder $(AGAIN)/training --generations $$(($$(wc -l < $(LOOP)/generations.jsonl) - 1)) \
	  --program true --ranks 1  # in CP2K's place: whatever has no stored label is set aside again
	$(ESGAP) compare $(LOOP)/generations.jsonl $(AGAIN)/training/generations.jsonl

reproduce-learning: $(VENV)/.book  ## errors generation by generation
	$(AGAIN_FROM) data/runs/learning.json

reproduce-weights: $(VENV)/.book  ## errors with other weights of the elements
	$(AGAIN_FROM) data/runs/weights.json

reproduce-committee: reproduce-training  ## committees of the new potentials, calibrated
	$(AGAIN_FROM) data/runs/committee.json

reproduce-crossed: $(VENV)/.book  ## energies of both models on all stored paths
	$(ESGAP) recompute --to $(AGAIN)/crossed data/runs/paths/paths.json

# Not part of `reproduce`.
reproduce-mobility: $(VENV)/.book  ## long: all MD runs behind chapters 4 and 5 but the batches, and the conductivities at 800 K
	$(AGAIN_FROM) data/runs/mobility

reproduce-paths: $(VENV)/.book  ## long: minimum-energy paths of both models between the stored ends
	$(AGAIN_FROM) data/runs/paths data/runs/traversals.json

reproduce-frenkel: $(VENV)/.book  ## long: Frenkel pairs of both models, with and without field
	mkdir -p $(AGAIN)/runs/frenkel
	$(foreach model,gap es-gap,$(call cells,$(model),$(PAIRS) --supercell 2 2 2 --max-steps 400))
	$(foreach model,gap es-gap,$(call cells,$(model),$(FIELD) --field-max 0.3 --n-points 31 --max-steps 400 --no-return))
	$(foreach model,gap es-gap,$(call cells,$(model),$(FIELD) --field-max 0.08 --n-points 9 --max-steps 600))
	$(foreach model,gap es-gap,$(call cells,$(model),--scan 3:hole1 --scan-supercell 2 3 2 --max-steps 600))
	$(AGAIN_FROM) $(wildcard data/runs/frenkel-*.json) || test $$? = 1

reproduce-dft: $(VENV)/.book  ## long, needs CP2K: structures of stored labels labelled again (LABELS="FILE.xyz ...")
	$(ESGAP) recompute --to $(AGAIN)/labels $(LABELS)

# Versions already in the lock files stay; delete a line (or the file) to renew it. The test lock adds to the book's.
lock:  ## renew requirements.txt and requirements-test.txt from pyproject.toml
	rm -rf _build/lock && $(PYTHON) -m venv _build/lock && _build/lock/bin/python -m pip install --quiet $(UV)
	_build/lock/bin/uv pip compile pyproject.toml --extra book --no-header --no-annotate --no-emit-index-url \
	  --python-version 3.11 --quiet -o requirements.txt
	test ! -f requirements-test.txt || grep -v '^-r' requirements-test.txt | cat requirements.txt - > _build/lock/all.txt
	_build/lock/bin/uv pip compile pyproject.toml --extra book --extra test --no-header --no-annotate \
	  --no-emit-index-url --python-version 3.11 --constraint requirements.txt --quiet -o _build/lock/all.txt
	{ echo "-r requirements.txt"; grep -vxFf requirements.txt _build/lock/all.txt; } > requirements-test.txt

clean:  ## remove everything built (not .venv)
	rm -rf _build .pytest_cache .ruff_cache
