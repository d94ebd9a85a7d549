# The only task runner. Each target alone works on a fresh machine that has
# Python >= 3.11 with headers and venv, a C compiler and make: what it needs is
# installed into .venv of this checkout first.

VENV ?= .venv
BIN := $(VENV)/bin
CC ?= cc
PYTEST_ARGS ?=

# PYTHON: the first interpreter that has all we need, else the first new enough.
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3
HAS_ALL := import ensurepip, os, sys, sysconfig as s, venv; h = os.path.join(s.get_path("include"), "Python.h"); sys.exit(sys.version_info < (3, 11) or not os.path.exists(h))
HAS_VERSION := import sys; sys.exit(sys.version_info < (3, 11))
HAS_VENV := import ensurepip, venv
HAS_HEADERS := import os, sys, sysconfig as s; sys.exit(not os.path.exists(os.path.join(s.get_path("include"), "Python.h")))
find = $(shell for p in $(CANDIDATES); do if "$$p" -c '$(1)' >/dev/null 2>&1; then echo "$$p"; break; fi; done)
PYTHON ?= $(or $(call find,$(HAS_ALL)),$(call find,$(HAS_VERSION)))

# What one list of pyproject.toml asks for, one requirement a line.
REQUIRES = import sys, tomllib; t = tomllib.load(open("pyproject.toml", "rb")); print(*(t["build-system"]["requires"] if sys.argv[1] == "build" else t["project"]["optional-dependencies"][sys.argv[1]]), sep="\n")
requires = $(BIN)/python -c '$(REQUIRES)' $(1) > $(VENV)/$(1).txt && $(BIN)/python -m pip install -q -r $(VENV)/$(1).txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SOURCES := setup.py $(wildcard fastws/*.pyx fastws/*.pxd fastws/*.pxi)
# For programs that start others by name: cython-lint, the benchmarks.
WITH_VENV := PATH="$(abspath $(BIN)):$$PATH"
# Tests mostly wait, so more of them run at once than there are processors; those of
# a file stay together, as they share processes.
WORKERS ?= 4
QUICK := -q -n $(WORKERS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

.PHONY: help demo test test-ready test-all test-pure test-loop test-slow fuzz lint bench peers docs wheel clean check
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.built ## build, then push real data through wts and stw and show the throughput
	$(BIN)/fastws demo

# STYLE of the division: everything on the compiled twin and uvloop; then what
# concerns the codec, and one pass through the command line, on the pure twin,
# the latter on the stock event loop.
# `make -k test` goes on after a part that failed.
test: test-all test-pure test-loop ## build, then run the test suite on both twins

test-ready: $(VENV)/.built $(VENV)/.test $(VENV)/.test-asgi $(VENV)/.node
	@$(BIN)/python -m compileall -q fastws # else each process might do it anew
test-all test-pure test-loop: test-ready
test-all test-pure test-loop: export FASTWS_REQUIRE_SPEEDUPS = 1
test-all:
	$(BIN)/python -m pytest $(QUICK)
test-pure:
	FASTWS_PURE=1 $(BIN)/python -m pytest $(QUICK) tests/unit tests/parity tests/property tests/conformance
test-loop:
	FASTWS_PURE=1 FASTWS_LOOP=asyncio $(BIN)/python -m pytest $(QUICK) tests/e2e

test-slow: export FASTWS_REQUIRE_SPEEDUPS = 1
test-slow: $(VENV)/.built $(VENV)/.test ## run the tests that take long or much memory
	$(BIN)/python -m pytest -m slow --timeout=900 $(PYTEST_ARGS)

lint: $(VENV)/.built $(VENV)/.test $(VENV)/.lint ## format, style, types, Cython style, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(WITH_VENV) cython-lint fastws
	$(BIN)/codespell

bench: $(VENV)/.built $(VENV)/.test $(VENV)/.bench ## measure against the peers found on PATH (an hour)
	$(MAKE) -C bench
	$(BIN)/python -m pytest -q bench/micro --benchmark-only
	$(WITH_VENV) python -m bench.e2e stw
	$(WITH_VENV) python -m bench.e2e wts
	$(WITH_VENV) python -m bench.e2e tunnel
	$(WITH_VENV) python -m bench.e2e workers
	$(WITH_VENV) python -m bench.e2e features
	$(WITH_VENV) python -m bench.e2e proxy

peers: $(VENV)/.base $(VENV)/.bench ## install the programs that bench compares with (needs cargo)
	@command -v cargo >/dev/null || { echo "make peers: no cargo found; on Debian: apt install cargo" >&2; exit 1; }
	cargo install --locked websocat
	cargo install --locked wstunnel
	cargo install wmproxy --version 0.2.7
	@command -v haproxy >/dev/null || echo "make peers: haproxy is missing; on Debian: apt install haproxy"

# What breaks is kept below build/fuzz; inputs that reach new code join tests/fuzz/corpus
# by python -m tests.fuzz.keep TARGET, and every test run goes through these.
FUZZ_SECONDS ?= 600
FUZZ_ARGS ?=
fuzz: $(VENV)/.built $(VENV)/.test $(VENV)/.fuzz ## look for inputs that break decoder, handshake or deflate (half an hour)
	$(BIN)/python -m tests.fuzz.run frames --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)
	$(BIN)/python -m tests.fuzz.run handshake --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)
	$(BIN)/python -m tests.fuzz.run deflate --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

docs: $(VENV)/.docs ## render docs/ into site/ and check its links
	$(BIN)/mkdocs build --strict --quiet

# The wheel is proved where the checkout cannot be imported by accident.
wheel: $(VENV)/.base $(VENV)/.release ## make sdist and wheel, install the wheel elsewhere and run it
	rm -rf dist
	FASTWS_BUILD_EXTENSION=yes $(BIN)/python -m build --outdir dist
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; dist=$$(pwd)/dist; \
	$(BIN)/python -m venv "$$dir/venv"; \
	"$$dir/venv/bin/python" -m pip install -q "$$dist"/fastws-*.whl; \
	cd "$$dir"; set -x; \
	venv/bin/python -c 'import fastws, sys; sys.exit(fastws.BACKEND != "cython")'; \
	venv/bin/python -m fastws --version; \
	venv/bin/fastws demo
	@if [ "$$(uname)" != Linux ]; then exit 0; fi; \
	shown=$$($(BIN)/auditwheel show dist/fastws-*.whl | tr -s '\n' ' '); echo "$$shown"; \
	case "$$shown" in *"shared libraries are required"*) echo "make: the wheel needs a library of this machine" >&2; exit 1;; esac; \
	echo "$$shown" | grep -Eq '(many|musl)linux_(2_([0-9]|1[0-9]|2[0-8])|1_[0-2])_' || { echo "make: the wheel needs a system newer than manylinux_2_28" >&2; exit 1; }

clean: ## remove everything that a target made
	rm -rf $(VENV) build dist site wheelhouse *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f fastws/_speedups.c fastws/_speedups*.so fastws/_speedups*.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check: ## say whether this machine has what a build needs
	@py='$(PYTHON)'; lacks() { echo "make: $$1" >&2; exit 1; }; \
	other='or name one: make PYTHON=/path/to/python3'; \
	[ -n "$$py" ] || lacks "no Python >= 3.11 found; on Debian: apt install python3 python3-dev python3-venv; $$other"; \
	"$$py" -c '$(HAS_VERSION)' || lacks "$$py is not Python >= 3.11; on Debian: apt install python3; $$other"; \
	"$$py" -c '$(HAS_VENV)' 2>/dev/null || lacks "$$py has no venv module; on Debian: apt install python3-venv; $$other"; \
	"$$py" -c '$(HAS_HEADERS)' || lacks "$$py has no headers (Python.h); on Debian: apt install python3-dev; $$other"; \
	printf '#include <stdio.h>\nint main(void) { return 0; }\n' | $(CC) -x c -fsyntax-only - 2>/dev/null || \
	lacks "the C compiler $(CC) does not work; on Debian: apt install gcc libc6-dev"

$(VENV)/.venv:
	@$(MAKE) -s --no-print-directory check PYTHON='$(PYTHON)'
	'$(PYTHON)' -m venv $(VENV)
	@touch $@

# Without isolation and without the extension: .built makes that, in place.
$(VENV)/.base: pyproject.toml $(VENV)/.venv
	@$(call requires,build)
	FASTWS_BUILD_EXTENSION=no $(BIN)/python -m pip install -q --no-build-isolation -e .
	@touch $@

$(VENV)/.built: $(SOURCES) $(VENV)/.base
	FASTWS_BUILD_EXTENSION=yes $(BIN)/python setup.py -q build_ext --inplace
	@touch $@

$(VENV)/.test $(VENV)/.bench $(VENV)/.lint $(VENV)/.docs $(VENV)/.fuzz $(VENV)/.release: $(VENV)/.%: pyproject.toml $(VENV)/.venv
	@echo "installing what $* needs"
	@$(call requires,$*)
	@touch $@

# The tests beside ASGI servers are skipped where these cannot be installed; the next
# make tries again.
$(VENV)/.test-asgi: pyproject.toml $(VENV)/.test
	@echo "installing what test-asgi needs"
	@if $(call requires,test-asgi); then touch $@; \
	else echo "make: pip failed, so nothing runs beside ASGI servers" >&2; fi

# The tests beside Node.js are skipped where npm or its registry is out of reach;
# the next make tries again.
$(VENV)/.node: tests/node/package.json tests/node/package-lock.json $(VENV)/.venv
	@mkdir -p $(VENV)/node && cp tests/node/package.json tests/node/package-lock.json $(VENV)/node
	@if ! command -v npm >/dev/null; then echo "make: no npm found, so nothing runs beside Node.js; on Debian: apt install nodejs npm" >&2; \
	elif npm ci --prefix $(VENV)/node --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null; then touch $@; \
	else echo "make: npm failed, so nothing runs beside Node.js" >&2; fi
