# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
RUNS := .venv/.runs
INSTALLED := .venv/.installed

.PHONY: demo picture test test-slow test-anywhere mutants fuzz lint clean

demo: $(RUNS)
	$(BIN)/secagg train --out runs/demo --force

# The README's picture: the curve of the run.
picture: demo
	cp runs/demo/accuracy.png docs/figures/demo.png

test: $(INSTALLED)
	$(PYTEST) -m 'not slow'

# What takes long and rarely tells: whole processes, long training. `.ci/run` runs it after `make test`.
test-slow: $(INSTALLED)
	$(PYTEST) -m slow

# All tests three times: with the kernels of older processors, and beside four busy loops.
test-anywhere: $(INSTALLED)
	for kernels in default avx2; do ATEN_CPU_CAPABILITY=$$kernels $(PYTEST) || exit 1; done
	for i in 1 2 3 4; do $(BIN)/python -c 'while True: pass' & busy="$$busy $$!"; done; \
		$(PYTEST); code=$$?; kill $$busy; exit $$code

# Deletes each check of secagg in turn: half an hour on two cores.
mutants: $(INSTALLED)
	$(BIN)/python tests/mutants.py

# Feeds every decoder what it should not get: five minutes on two cores. Needs Linux on x86-64.
fuzz: $(INSTALLED)
	$(BIN)/python -c 'import atheris' 2>/dev/null || \
		$(PIP) -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The demo needs less than the tests, which need all but what only a comparison or a cluster does.
$(RUNS): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into .venv what the demo needs: torch is large, so the first time takes minutes'
	$(PIP) -e '.[fl]'
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into .venv what the tests need: torch is large, so the first time takes minutes'
	$(PIP) -e '.[fl,ckks,flower,dev]'
	@touch $@ $(RUNS)

$(BIN)/python:
	@echo 'making .venv with $(PYTHON)'
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build dist *.egg-info runs
