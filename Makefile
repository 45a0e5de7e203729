# Run make help for a list of targets.
#
# Everything is installed in .venv. The stamps in .venv/.stamps record when a step was done; make repeats it only if its
# inputs have changed. pip always uses constraints.txt: an open range for torch would download gigabytes.

VENV   ?= .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/.stamps
RIVALS := .venv-rivals
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

NATIVE  := setup.py $(shell find csrc -type f)
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
COVERAGE := $(BIN)/python -m coverage report
BENCHMARKS := $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))
TYPED   := src $(wildcard plugins/*/src)
EMPTY   :=
SPACE   := $(EMPTY) $(EMPTY)

# The first of these that is Python 3.11 or later is used; PYTHON=… chooses another.
PYTHONS := python3.11 python3.12 python3.13 python3.14 python3

.PHONY: help demo test lint bench bench-rivals docs native clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make demo    install everything and train a first model (examples/digits.toml)'
	@echo 'make test    lint, type checks, import rules, all tests with coverage, docs'
	@echo 'make lint    ruff, mypy, import-linter'
	@echo 'make bench   run the benchmarks; make bench-startup, bench-steps … runs one of them'
	@echo 'make bench-rivals  install the frameworks that the benchmarks compare with in $(RIVALS)'
	@echo 'make docs    build the documentation in docs/_build/html'
	@echo 'make native  compile the native ops whose sources have changed'
	@echo 'make clean   remove build products (not .venv, not runs)'

demo: $(STAMPS)/demo
	$(BIN)/dovetail run examples/digits.toml
	@echo "The report: $$(ls -t runs/*/*/report.html | head -n 1)"

test: lint
	$(BIN)/python -m pytest -n auto --cov --cov-report=
	$(COVERAGE) --fail-under=95 --include='*/dovetail/config/*,*/dovetail/kernel/*,*/dovetail/spec/*'
	$(COVERAGE) --fail-under=90 --include='*/dovetail/checkpoint/*'
	$(COVERAGE) --fail-under=90 --include='*/dovetail/data/*'
	$(COVERAGE) --fail-under=90 --include='*/dovetail/train/*'
	$(MAKE) docs

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=$(subst $(SPACE),:,$(TYPED)) $(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

bench: $(BENCHMARKS:benchmarks/%.py=bench-%)

bench-rivals: $(STAMPS)/rivals

bench-%: benchmarks/%.py $(STAMPS)/dev
	$(BIN)/python $<

docs: $(STAMPS)/dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo 'The documentation: docs/_build/html/index.html'

native: $(STAMPS)/torch
	$(BIN)/python setup.py --quiet build_ext --inplace

clean:
	rm -rf build dist htmlcov docs/_build docs/reference/generated src/*.egg-info plugins/*/src/*.egg-info
	rm -rf .benchmarks .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf src/dovetail/ops/*.so $(STAMPS)

# --- the environment ---------------------------------------------------------------------------------------------

$(STAMPS)/venv:
	@command -v $${CXX:-g++} >/dev/null || [ "$$DOVETAIL_NATIVE" = 0 ] || { \
	    echo 'The native ops require a C++ compiler. Debian, Ubuntu: apt-get install g++' >&2; \
	    echo 'To build without them (slower, the same results): DOVETAIL_NATIVE=0 make demo' >&2; exit 1; }
	@python=; if [ ! -x $(BIN)/python ]; then \
	    for name in $(or $(PYTHON),$(PYTHONS)); do \
	        "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$$name && break; \
	    done; \
	    [ -n "$$python" ] || { \
	        echo 'Python 3.11 or later is required; none found among: $(or $(PYTHON),$(PYTHONS))' >&2; \
	        echo 'Debian, Ubuntu: apt-get install python3 python3-venv' >&2; exit 1; }; \
	    echo "Creating $(VENV) with $$python"; \
	    "$$python" -m venv $(VENV) || { rm -rf $(VENV); \
	        echo 'The venv module of Python does not work. Debian, Ubuntu: apt-get install python3-venv' >&2; exit 1; }; \
	fi
	@mkdir -p $(STAMPS) && touch $@

# Install torch first: the native ops are compiled against its headers.
$(STAMPS)/torch: constraints.txt | $(STAMPS)/venv
	$(PIP) torch numpy ninja packaging setuptools wheel
	@touch $@

$(STAMPS)/demo: $(STAMPS)/torch pyproject.toml $(NATIVE)
	$(PIP) --no-build-isolation --editable '.[digits]'
	@touch $@

# The extra `test` of each plugin contains the requirements of its tests.
$(STAMPS)/dev: $(STAMPS)/torch pyproject.toml $(NATIVE) $(PLUGINS:%=%/pyproject.toml)
	$(PIP) --no-build-isolation --editable '.[dev]' $(PLUGINS:%=--editable '%[test]')
	@touch $@ $(STAMPS)/demo

# A separate environment that includes the packages of .venv: torch is not downloaded again, and .venv does not change.
$(STAMPS)/rivals: benchmarks/requirements.txt constraints.txt $(STAMPS)/dev
	$(BIN)/python -m venv --clear $(RIVALS)
	@for site in $(RIVALS)/lib/python3*/site-packages; do \
	    echo "import site; site.addsitedir('$$(readlink -f $(VENV))$${site#$(RIVALS)}')" > "$$site/beside.pth"; done
	$(RIVALS)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --requirement $<
	$(RIVALS)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps 'setuptools==80.9.0' # torchtnt needs its pkg_resources
	@# Only the Python part of torchaudio is needed; its native part requires a torch with CUDA.
	@rm -f $(RIVALS)/lib/python3*/site-packages/torchaudio/lib/_torchaudio*.so
	@touch $@
