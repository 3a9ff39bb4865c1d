SHELL := /bin/bash
PY := .venv/bin/python
PYTHON ?= $(firstword $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name"; done))

# Every process would compile what it imports anew, a second of work for each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run demo env cli test check lint types arch migrations fmt bench bench-peers bench-growth bench-live bench-flow bench-fair mutants soak docs

help: ## List what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "Taskmill needs Python 3.11 or newer; found: $$(python3 --version 2>&1)." \
		"Install one (Debian: apt install python3 python3-venv; any system: https://docs.astral.sh/uv or pyenv)," \
		"or name it: make PYTHON=/path/to/python3.11 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks venv;" \
		"install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# uv installs in a tenth of pip's time. Where it finds no packages (an index that only pip is told of), pip does it.
.venv/bin/uv: | .venv/bin/pip
	.venv/bin/pip install --quiet --no-compile --disable-pip-version-check uv==0.13.9

install = .venv/bin/uv pip install --quiet --python $(PY) -r $(1) || \
	.venv/bin/pip install --quiet --no-compile --disable-pip-version-check -r $(1)

.venv/.run: requirements.txt | .venv/bin/uv
	@echo "installing the dependencies"
	@$(call install,requirements.txt)
	@touch $@

.venv/.ready: requirements.txt requirements-dev.txt | .venv/bin/uv
	@echo "installing the dependencies"
	@$(call install,requirements-dev.txt)
	@touch .venv/.run $@

setup: .venv/.ready ## Create the virtual environment with all dependencies

run: .venv/.run ## Start the platform, show a task running to its end, stay until Ctrl-C (PORT=8000)
	@exec $(PY) manage.py up --demo

demo: .venv/.run ## The same in a temporary place on a free port, then stop: exit code 0 or 1
	@exec $(PY) manage.py demo

env: .venv/.run ## Print TASKMILL_URL and TASKMILL_TOKEN for a shell: eval "$(make -s env)"
	@$(PY) manage.py credentials

cli: .venv/.run ## Install the command taskmill (.venv/bin/taskmill), which asks the platform that make env names
	@.venv/bin/uv pip install --quiet --python $(PY) './client[cli]' || \
		.venv/bin/pip install --quiet --no-compile --disable-pip-version-check './client[cli]'
	@echo 'Next: eval "$$(make -s env)"; .venv/bin/taskmill --help'

test: .venv/.ready ## Install what the tests need where it is missing, and run them
	@bash tests/install_servers.sh
	$(PY) -m pytest -m "not soak" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint types arch migrations test ## Exactly what the continuous integration checks

lint: .venv/.ready ## Check style and format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/.ready ## Check types
	.venv/bin/mypy

arch: .venv/.ready ## Check the layers
	PYTHONPATH=client .venv/bin/lint-imports

migrations: .venv/.ready ## Check that the models have their migrations
	SECRET_KEY=unused $(PY) manage.py makemigrations --check --dry-run --skip-checks

fmt: .venv/.ready ## Format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: .venv/.ready ## Write the generated pages of docs/reference
	$(PY) docs/generate.py

bench: .venv/.ready ## Measure Taskmill on this machine (ARGS=--quick for a smoke run)
	$(PY) -m bench $(ARGS)

bench-peers: .venv/.ready ## Measure it beside other task systems, which are installed below var/
	$(PY) -m bench.peers $(ARGS)

bench-growth: .venv/.ready ## Measure it beside a million waiting and ten million finished tasks
	$(PY) -m bench.growth $(ARGS)

bench-live: .venv/.ready ## Measure how fast events reach live connections (ARGS=--quick for a smoke run)
	$(PY) -m bench.live $(ARGS)

bench-flow: .venv/.ready ## Measure what limits cost, or explaining (ARGS=--waiting; --quick for a smoke run)
	$(PY) -m bench.flow $(ARGS)

bench-fair: .venv/.ready ## Measure what a noisy tenant costs a quiet one (ARGS=--quick for a smoke run)
	$(PY) -m bench.fair $(ARGS)

mutants: .venv/.ready ## Break the protocol in known ways; each break must turn a test red
	$(PY) -m tests.mutants.run $(ARGS)

soak: .venv/.ready ## The long runs
	$(PY) -m pytest -m soak $(ARGS)
