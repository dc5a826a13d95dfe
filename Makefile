# SPDX-License-Identifier: Apache-2.0
# Every target does its own set-up, in .venv, and ends at once where there is nothing to do.
MAKEFLAGS += --no-print-directory
.PHONY: help demo course test check check-environments format setup test-ipex check-nccl-build check-systems constraints clean

WITH := PATH="$(CURDIR)/.venv/bin:$$PATH"

help:
	@sed -n 's/^\([a-z-]*\):.*##/make \1\t/p' Makefile

demo: setup  ## train on real data with 1 and with 2 ranks, and write a scaling report
	@$(WITH) launch/demo.sh

course: setup  ## run the chapters and solutions of docs/course; notebooks, pages and figures go to build/course
	@$(WITH) python -m pip install -qq --no-build-isolation --constraint constraints.txt -e '.[course]'
	@$(WITH) python docs/course/execute.py

test: setup  ## all tests; those that need Debian's packages say which (tests/debian-packages.txt)
	@$(WITH) python -m pytest

check: setup  ## format, lint, types, and the quick tests
	@$(WITH) pre-commit run --all-files
	@$(WITH) python -m pytest -m "not slow and not slurm and not browser and not netns"

check-environments: setup  ## tests that look at their machine, under the environments of others (ARGS=--help tells more)
	@$(WITH) python -m tests.environments $(ARGS)

format: setup  ## put the code in its form
	@$(WITH) ruff check --fix --quiet .
	@$(WITH) ruff format .

setup:
	@launch/setup.sh main

test-ipex:  ## the tests that need Intel's extension for PyTorch, in an environment of their own (several GB)
	@launch/setup.sh ipex
	@PATH="$(CURDIR)/.venv-ipex/bin:$$PATH" python -m pytest tests/ipex

check-nccl-build:  ## compile Horovod's NCCL variant; needs the CUDA toolkit and several GB, no GPU
	@launch/setup.sh nccl
	@"$${XDG_CACHE_HOME:-$$HOME/.cache}/hpc_dl/venv-nccl/bin/python" launch/horovod/verify.py nccl

check-systems:  ## the demo and the tests on real ranks in other systems (SYSTEMS="debian-13 ..."); root, an hour, 30 GB
	@python3 -m testbed.systems $(SYSTEMS)

constraints: setup  ## pin anew, for all Python versions at once; delete a line first to let its package move
	@.venv/bin/python -m pip install --quiet uv
	@PIN() { .venv/bin/uv pip compile --quiet --universal --python-version 3.10 --no-annotate \
	    --custom-compile-command "make constraints" setup.cfg --extra toolchain "$$@"; }; \
	PIN --extra dev --extra course --output-file constraints.txt && \
	PIN $(patsubst %,--extra %,train mpi data report test ipex) --output-file constraints-ipex.txt

clean:  ## remove the environments and what runs and tools wrote; the wheel of Horovod stays in the user's cache
	rm -rf .venv .venv-ipex build dist *.egg-info runs/demo report .pytest_cache .mypy_cache .ruff_cache .hypothesis
