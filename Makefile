# Everything runs in .venv, which the first target that needs it builds. PYTHON=/path/to/python3 chooses the Python.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-long test-py312 lint format lock config-page clean

# requirements.lock is made on the oldest Python that is supported, so that one is looked for first.
PYTHONS := python3.11 python3.12 python3.13 python3.14 python3
BIN := .venv/bin
BIN312 := .venv312/bin
PIP_INSTALL := pip install --quiet --quiet --disable-pip-version-check
PYTEST_ARGS ?=
# Test files side by side: a worker a core, at most four.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile
STAMP := .venv/.installed
STAMP312 := .venv312/.installed

# A name on the path proves nothing (a version manager's shim may be there and fail), so each candidate is run.
CANDIDATES := $(PYTHONS) $$(ls -d "$$(pyenv root 2>/dev/null || echo "$$HOME/.pyenv")"/versions/3.*/bin/python 2>/dev/null)
RUNS = "$$candidate" -c 'import sys; sys.exit(not $(1))' >/dev/null 2>&1
# $(1): a test of sys.version_info, $(2): candidates. Sets $$python to the first that passes and can make environments,
# and $$bare to the first that passes and cannot (Debian's python3 without python3-venv).
FIND_PYTHON = python=; bare=; \
	for candidate in $(2); do \
		$(call RUNS,$(1)) || continue; \
		if $(call RUNS,all(map(__import__, ["ensurepip", "venv"]))); then python="$$candidate"; break; fi; \
		bare="$${bare:-$$candidate}"; \
	done

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do printf '%-12s %s\n' "$$name" "$$text"; done

$(STAMP): pyproject.toml requirements.lock
	@if ! $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
		$(call FIND_PYTHON,sys.version_info[:2] >= (3, 11),$(or $(PYTHON),$(CANDIDATES))); \
		if [ -z "$$python" ] && [ -n "$$bare" ]; then \
			echo "error: $$bare cannot make virtual environments (no ensurepip); on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; \
		elif [ -z "$$python" ]; then \
			echo "error: no Python 3.11 or newer among: $(or $(PYTHON),$(PYTHONS)); install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
		fi; \
		echo "making .venv with $$("$$python" -c 'import sys; print("Python", sys.version.split()[0], "at", sys.executable)')"; \
		rm -rf .venv && "$$python" -m venv .venv || exit 1; \
	fi
	@echo "installing demega-jax and its development tools into .venv (a few minutes the first time)"
	@$(BIN)/python -m $(PIP_INSTALL) -c requirements.lock -e '.[dev]'
	@touch $@

install: $(STAMP) ## make .venv and install the package with its development tools

demo: $(STAMP) ## simulate data at full size, train for a short time on the CPU, evaluate: under 5 minutes on 2 cores
	rm -rf demo/data demo/run
	$(BIN)/demega-jax simulate demo/data --level 100 --groups 2000 --seed 0
	$(BIN)/demega-jax train configs/demo.yaml --data demo/data --run demo/run
	$(BIN)/demega-jax evaluate demo/run --data demo/data --split test

test: lint ## lint, types, and every test but the long ones: some 9 minutes on 2 cores
	$(BIN)/python -m pytest -m "not long" $(PARALLEL) $(PYTEST_ARGS)

test-long: lint ## the same, then the long tests: the full-size demo and the README's commands
	$(BIN)/python -m pytest -m "not long" $(PARALLEL) $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

$(STAMP312): pyproject.toml
	@$(call FIND_PYTHON,sys.version_info[:2] == (3, 12),$(CANDIDATES)); \
	if [ -n "$$python" ]; then \
		echo "making .venv312 with the newest jax"; \
		rm -rf .venv312 && "$$python" -m venv .venv312 \
		&& $(BIN312)/python -m $(PIP_INSTALL) --upgrade jax -e '.[dev]' \
		&& touch $@; \
	fi

test-py312: $(STAMP312) ## the tests on Python 3.12 with the newest jax, where a Python 3.12 is found
	@if [ -e $(STAMP312) ]; then \
		$(BIN312)/python -c 'import sys, jax; print("Python", sys.version.split()[0], "with jax", jax.__version__)' \
		&& $(BIN312)/python -m pytest -m "not long" $(PARALLEL) $(PYTEST_ARGS); \
	else \
		echo "skipped: no Python 3.12 found"; \
	fi

lint: $(STAMP) ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if ls benchmarks/*.py >/dev/null 2>&1; then $(BIN)/mypy benchmarks/*.py; fi

format: $(STAMP) ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Made on the oldest supported Python, so that every pinned version exists for the newer ones too.
lock: ## make requirements.lock anew from pyproject.toml (needs Python 3.11)
	@$(call FIND_PYTHON,sys.version_info[:2] == (3, 11),$(CANDIDATES)); \
	[ -n "$$python" ] || { echo "error: make lock needs Python 3.11" >&2; exit 1; }; \
	rm -rf .venv-lock && "$$python" -m venv .venv-lock \
	&& .venv-lock/bin/python -m $(PIP_INSTALL) -e '.[dev]' \
	&& .venv-lock/bin/python -m pip freeze --exclude-editable > .venv-lock/lock \
	&& mv .venv-lock/lock requirements.lock && rm -rf .venv-lock && wc -l requirements.lock

config-page: $(STAMP) ## write configs/README.md, the page of every configuration key, from the code
	$(BIN)/python -m demega_jax.config.page > configs/README.md.part
	mv configs/README.md.part configs/README.md

clean: ## remove the environments, caches and everything that make writes
	rm -rf .venv .venv312 .venv-lock build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find demega_jax tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
