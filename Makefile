# make test is the whole; make check is what runs in seconds, before every commit.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := check
.NOTPARALLEL:
PYTHON := .venv/bin/python
BENCH ?=
SECONDS_EACH ?= 60
EACH ?= 1
FROM ?= 0

.PHONY: help test check unit kernel e2e faults fuzz bench test-cgroup2 test-interop goldens format clean

help:  ## these lines
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 16

test:  ## everything: lint, types, import contracts, unit (each Python found), kernel, e2e, cgroup v2 in a VM
	@tools/prepare test
	@$(PYTHON) tools/test.py all

check:  ## the fast part: lint, types, import contracts, unit tests
	@tools/prepare check
	@$(PYTHON) tools/test.py check

unit kernel e2e:  ## one kind of test; ARGS go to pytest
	@tools/prepare test
	@$(PYTHON) -m pytest tests/$@ $(ARGS)

faults:  ## SIGKILL of server, keeper and shim at every named step of every verb, for hours; EACH=50 takes one of 50, FROM=1 to 49 others
	@tools/prepare test
	@EACH=$(EACH) FROM=$(FROM) $(PYTHON) -m pytest tests/e2e/test_faults_steps.py -q -m soak $(ARGS)

fuzz:  ## inputs of strangers changed at random; SECONDS_EACH for each reader of them
	@tools/prepare check
	@SECONDS_EACH=$(SECONDS_EACH) $(PYTHON) tests/fuzz/run.py

test-cgroup2:  ## limits, device rules, freeze and kill on pure cgroup v2, in a small VM
	@tools/prepare cgroup2
	@$(PYTHON) tools/cgroup2/run.py

test-interop:  ## the real docker client against the real dockerd and against sampan
	@tools/prepare interop
	@$(PYTHON) -m pytest tests/interop $(ARGS)

goldens:  ## record again what the real docker answers (tests/goldens)
	@tools/prepare interop
	@$(PYTHON) tools/goldens.py

bench:  ## the same work by sampan, docker, podman, runc and crun; BENCH=quick takes fewer turns, BENCH=images, networks, builds or lifecycle measures those; soak, crowd and conflicts look for what breaks under load
	@tools/prepare bench
	@$(MAKE) --no-print-directory bench/floor
	@$(PYTHON) bench/run.py $(BENCH)

bench/floor: bench/floor.c
	cc -O2 -Wall -Wextra -Werror -o $@ $<

format:  ## let ruff format and sort
	@tools/prepare check
	@.venv/bin/ruff format && .venv/bin/ruff check --fix

clean:  ## what the targets above made in this directory
	rm -rf .venv bench/floor .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
