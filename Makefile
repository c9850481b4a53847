# Everything a developer or a first-time operator types. `make` alone lists it.
#
# A stamp in .venv says which extras are installed, so the second run of any target starts at once.
# PYTHON=python3.12 make test   takes another Python;   make test ARGS="tests/rtmp -x"   passes arguments on.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test soak lint types bench docs wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rtmp-relay needs Python 3.11 or newer: PYTHON=python3.12 make ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 -m venv failed. On Debian: apt-get install python3-venv"; exit 1; }

# The wheel's metadata and the twistd plugin are copied at install time, so they are what a stamp depends on.
INSTALL_INPUTS := pyproject.toml twisted/plugins/rtmp_relay.py

$(VENV)/.installed: $(BIN)/python $(INSTALL_INPUTS)
	$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-ffmpeg: $(BIN)/python $(INSTALL_INPUTS)
	$(PIP) install --editable '.[ffmpeg]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(BIN)/python $(INSTALL_INPUTS)
	$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-ffmpeg

run: $(VENV)/.installed ## start the relay here, with the built-in configuration
	@test -n "$(ARGS)" || printf '%s\n' '' '  In OBS: Settings > Stream > Service: Custom...' \
	    '    Server      rtmp://127.0.0.1/live' '    Stream Key  townhall      (any name; it becomes the name of the stream)' \
	    '  Record it:    curl -X POST http://127.0.0.1:8080/api/v1/streams/townhall/recording/start' \
	    '  Look at it:   curl http://127.0.0.1:8080/api/v1/streams' '  Stop it:      Ctrl-C' ''
	@exec $(BIN)/rtmp-relay run $(ARGS)

demo: $(VENV)/.installed-ffmpeg ## start the relay, two test encoders, two fake platforms; shows failover
	@exec $(BIN)/python -m relay.demo $(ARGS)

test: $(VENV)/.installed-dev ## run every test
	$(BIN)/python -bb -m pytest $(ARGS)

soak: $(VENV)/.installed-dev ## run the tests between real programs at full length (about twenty minutes)
	RELAY_LONG=1 RELAY_SOAK=1 $(BIN)/python -bb -m pytest tests/integration $(ARGS)

lint: $(VENV)/.installed-dev ## ruff, its formatter, and the floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYTHONPATH=plugins $(BIN)/lint-imports

types: $(VENV)/.installed-dev ## mypy, strict
	$(BIN)/mypy

bench: $(VENV)/.installed-dev ## measure; prints ratios against nginx-rtmp where that is installed
	$(BIN)/python benchmarks/run.py $(ARGS)

docs: $(BIN)/python ## check every link, anchor, command and option name in the documentation
	$(BIN)/python docs/check.py

wheel: $(VENV)/.installed-dev ## build dist/rtmp_relay-VERSION-py3-none-any.whl
	$(BIN)/python -m build --wheel --outdir dist .

clean: ## remove what the targets above made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find relay plugins tests twisted -name __pycache__ -prune -exec rm -rf {} +
