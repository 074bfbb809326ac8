# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test mutants fuzz lint clean

demo: $(INSTALLED)
	$(BIN)/secagg train --out runs/demo --force

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Deletes each check of secagg in turn: a quarter of an hour on two cores.
mutants: $(INSTALLED)
	$(BIN)/python tests/mutants.py

# Feeds every decoder what it should not get: five minutes on two cores. Needs Linux on x86-64.
fuzz: $(INSTALLED)
	$(BIN)/python -c 'import atheris' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fl,ckks,dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info runs
