# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv, installs, and runs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

FUZZ_EXAMPLES ?= 100000
FUZZ_SECONDS  ?= 1800
FUZZ_TARGETS  ?= ct pet rtstruct inspect nifti csv checkpoint pickle

.PHONY: fuzz install lint format-check types unit test demo format hooks wheel clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo "Python >= 3.10 with venv is needed (Debian, Ubuntu: apt-get install python3-venv)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

lint: install
	$(BIN)/ruff check .

format-check: install
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

unit: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25 --durations-min 3

# pytest comes last, so that the last line says how many passed
test: lint format-check types
	@$(MAKE) --no-print-directory unit

# readers against damaged files, until interrupted or done: with Atheris where it installs, else with Hypothesis
fuzz: install
	@if $(BIN)/python -m pip install --quiet atheris; then \
	  for target in $(FUZZ_TARGETS); do \
	    $(BIN)/python tests/fuzz/with_atheris.py $$target $(FUZZ_SECONDS) || exit 1; \
	  done; \
	else FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest -x tests/fuzz; fi

demo: install
	$(BIN)/nnunet-igtv demo --output demo

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# lint, format and types before every commit; see .pre-commit-config.yaml
hooks: install
	$(BIN)/pre-commit install

wheel: install
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache
