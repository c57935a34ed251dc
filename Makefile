# Everything runs in .venv, which the first target that needs it makes with the newest supported Python that it finds.
# PYTHON=/path/to/python3 chooses another, in an environment of its own: make test-fast PYTHON=python3.12
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The supported Pythons, newest first. Each has a lock file with the newest versions that exist for it.
VERSIONS := 3.13 3.12 3.11
OLDEST := $(lastword $(VERSIONS))
LOCK_TARGETS := $(VERSIONS:%=lock-python%)
.PHONY: help install aot docs demo readme faults corruption fuzz slurm soak advisories test test-fast test-oldest test-long lint format lock $(LOCK_TARGETS) config-page clean

VENV := .venv$(if $(PYTHON),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_INSTALL := pip install --quiet --quiet --disable-pip-version-check
PYTEST_ARGS ?=
# Test files run side by side, one worker for each core and at most four, in the order of tests/conftest.py.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Exits with 0 if its Python has the version that is its argument.
HAS_VERSION := 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])'
PYENV_PYTHONS = $$(ls -d "$$(pyenv root 2>/dev/null || echo "$$HOME/.pyenv")"/versions/$$version.*/bin/python 2>/dev/null)
# $(1): versions in order of preference. Sets $$python to the first Python that can make environments, and $$bare to the
# first that cannot (Debian's python3 without python3-venv). A name on the path proves nothing (a version manager's shim
# may be there and fail), so each candidate is run.
FIND_PYTHON = python=; bare=; \
	for version in $(1); do \
		for candidate in $(or $(PYTHON),python$$version python3 $(PYENV_PYTHONS)); do \
			"$$candidate" -c $(HAS_VERSION) "$$version" >/dev/null 2>&1 || continue; \
			if "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then python="$$candidate"; break 2; fi; \
			bare="$${bare:-$$candidate}"; \
		done; \
	done

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do printf '%-12s %s\n' "$$name" "$$text"; done

$(STAMP): pyproject.toml $(wildcard requirements/*.lock)
	@if ! { $(BIN)/python -c $(HAS_VERSION) $(VERSIONS) && $(BIN)/python -c 'import pip'; } >/dev/null 2>&1; then \
		$(call FIND_PYTHON,$(VERSIONS)); \
		if [ -z "$$python" ] && [ -n "$$bare" ]; then \
			echo "error: $$bare cannot make virtual environments (no ensurepip); on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; \
		elif [ -z "$$python" ]; then \
			echo "error: $(if $(PYTHON),$(PYTHON) is not a supported Python that works,no supported Python found) (supported: $(VERSIONS)); install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
		fi; \
		echo "making $(VENV) with $$("$$python" -c 'import sys; print("Python", sys.version.split()[0], "at", sys.executable)')"; \
		rm -rf $(VENV) && "$$python" -m venv $(VENV) || exit 1; \
	fi
	@echo "installing demega-jax and its development tools into $(VENV) (a few minutes the first time)"
	@version=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') \
	&& $(BIN)/python -m $(PIP_INSTALL) -c "requirements/python$$version.lock" -e '.[dev]'
	@touch $@

install: $(STAMP) ## make .venv and install the package with its development tools

# Compilers of devices that are not here, in an environment of their own: with them, jax waits and warns at its start.
aot: ## make .venv-aot, with the compilers for GPUs and TPUs that `benchmark --target` needs
	@$(call FIND_PYTHON,$(VERSIONS)); [ -n "$$python" ] || { echo "error: no supported Python found" >&2; exit 1; }; \
	version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') && rm -rf .venv-aot \
	&& "$$python" -m venv .venv-aot && .venv-aot/bin/python -m $(PIP_INSTALL) -c "requirements/python$$version.lock" -e '.[dev,aot]'

# The documentation needs mkdocs, which nothing else needs: an environment of its own, of the package alone.
docs: ## build the documentation into build/docs, in .venv-docs; a warning is an error
	@$(call FIND_PYTHON,$(VERSIONS)); [ -n "$$python" ] || { echo "error: no supported Python found" >&2; exit 1; }; \
	version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') \
	&& { [ -x .venv-docs/bin/mkdocs ] || { rm -rf .venv-docs && "$$python" -m venv .venv-docs \
	&& .venv-docs/bin/python -m $(PIP_INSTALL) -c "requirements/python$$version.lock" -e '.[docs]'; }; } \
	&& .venv-docs/bin/python docs/build.py build/docs && echo "open build/docs/index.html"

demo: $(STAMP) ## simulate data at full size, train for a short time on the CPU, evaluate: under 5 minutes on 2 cores
	rm -rf demo/data demo/run
	$(BIN)/demega-jax simulate demo/data --level 100 --groups 2000 --seed 0
	$(BIN)/demega-jax train configs/demo.yaml --data demo/data --run demo/run
	$(BIN)/demega-jax evaluate demo/run --data demo/data --split test

readme: $(STAMP) ## run the commands whose output the pages show, and write what they print, and the tables, there
	$(BIN)/python docs/readme_outputs.py
	$(BIN)/python docs/readme_tables.py

test: lint ## lint, types, and every test but the long ones: some 12 minutes on 2 cores
	$(BIN)/python -m pytest -m "not long" $(PARALLEL) $(PYTEST_ARGS)

test-fast: $(STAMP) ## the quick tests only, for while you edit: some 4 minutes on 2 cores
	$(BIN)/python -m pytest -m "not long and not slow" $(PARALLEL) $(PYTEST_ARGS)

test-oldest: ## the quick tests on the oldest supported Python, in an environment of its own
	@$(call FIND_PYTHON,$(OLDEST)); \
	if [ -n "$$python" ]; then \
		$(MAKE) --no-print-directory test-fast VENV=.venv-python$(OLDEST) PYTHON="$$python"; \
	else \
		echo "skipped: no Python $(OLDEST) found that can make virtual environments"; \
	fi

test-long: test ## all of `make test`, then the long tests: the full-size demo and the commands of the pages
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

lint: $(STAMP) ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py docs/*.py

faults: $(STAMP) ## 200 interruptions of real processes, which take an hour or more; benchmarks/results/faults.json
	PYTHONPATH=.:tests $(BIN)/python -m faults.campaign --trials 200 --seed 0 --json benchmarks/results/faults.json

corruption: $(STAMP) ## 3,000 damaged files, some 4 minutes; benchmarks/results/corruption.json
	JAX_PLATFORMS=cpu PYTHONPATH=.:tests $(BIN)/python -m faults.corruption --cases 3000 --seed 0 --json benchmarks/results/corruption.json

fuzz: $(STAMP) ## 20,000 odd inputs, some 5 minutes; benchmarks/results/fuzz.json
	JAX_PLATFORMS=cpu PYTHONPATH=.:tests $(BIN)/python -m fuzz.campaign --cases 20000 --seed 0 --json benchmarks/results/fuzz.json

slurm: $(STAMP) ## training runs in jobs of a real SLURM on this machine, as root, some 5 minutes; needs slurm-wlm and munge
	@PYTHONPATH=.:tests $(BIN)/python -c 'from slurm.cluster import missing; import sys; why = missing(); sys.exit(f"error: {why}" if why else 0)'
	$(BIN)/python -m pytest -m long tests/slurm $(PYTEST_ARGS)

soak: $(STAMP) ## training runs of 5,000 steps on every feed and in two processes, twice each; benchmarks/results/soak.json
	PYTHONPATH=.:tests $(BIN)/python -m soak.soak --steps 5000 --json benchmarks/results/soak.json

# Known vulnerabilities are those of the Python Packaging Advisory Database, which PyPI answers with. A package that it
# does not answer for is an error: an index of one's own may know none.
advisories: ## look every locked version up among known vulnerabilities (pip-audit; needs the network)
	@$(call FIND_PYTHON,$(VERSIONS)); [ -n "$$python" ] || { echo "error: no supported Python found" >&2; exit 1; }; \
	rm -rf .venv-audit && "$$python" -m venv .venv-audit && .venv-audit/bin/python -m $(PIP_INSTALL) pip-audit \
	&& for lock in requirements/*.lock; do \
		echo "$$lock" && .venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r "$$lock" || exit 1; \
	done

format: $(STAMP) ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(LOCK_TARGETS) ## make the lock files anew from pyproject.toml, one for each supported Python that is found

$(LOCK_TARGETS): lock-python%:
	@$(call FIND_PYTHON,$*); \
	[ -n "$$python" ] || { echo "skipped: no Python $* found; requirements/python$*.lock stays as it is"; exit 0; }; \
	rm -rf .venv-$@ && "$$python" -m venv .venv-$@ \
	&& .venv-$@/bin/python -m $(PIP_INSTALL) -e '.[dev]' \
	&& .venv-$@/bin/python -m pip freeze --exclude-editable > .venv-$@/lock \
	&& mv .venv-$@/lock requirements/python$*.lock && rm -rf .venv-$@ && wc -l requirements/python$*.lock

config-page: $(STAMP) ## write configs/README.md, the page of every configuration key, from the code
	$(BIN)/python -m demega_jax.config.page > configs/README.md.part
	mv configs/README.md.part configs/README.md

clean: ## remove the environments, caches and everything that make writes
	rm -rf .venv .venv-* build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find demega_jax tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
