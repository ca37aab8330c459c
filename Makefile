# `make help` lists the targets. `make demo` and `make test` need nothing but Linux, Python 3.11 with venv, git and make.
PYTHON ?= python3
BIN := .venv/bin
# Each core runs tests; a worker that has finished takes tests from the others.
PARALLEL := --numprocesses=auto --dist=worksteal
# The tests of a file share a server.
PARALLEL_FILES := --numprocesses=auto --maxprocesses=4 --dist=loadfile
# Of the other versions of Python: all, or the newest, which with that of .venv finds nearly everything.
PYTHONS := all
FUZZ_SECONDS := 60
FUZZ = -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=4000 -len_control=0

.PHONY: help demo quick test lint types layers unit unit-quick pythons integration crash wheel guest tutorial docs links reference picture soak fuzz bench proto format clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 14

demo: .venv/ready ## Start a temporary server, run `worker start ls /`, stop the server
	@PATH="$(CURDIR)/$(BIN):$$PATH" docs/demo.sh

quick: .venv/ready ## Run lint, types, layers and unit-quick in parallel: run it before each commit
	@$(MAKE) --no-print-directory --jobs=4 --keep-going --output-sync=target lint types layers unit-quick

# What leaves a core idle runs beside something else.
test: .venv/ready ## Run everything that CI runs
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint types layers docs wheel
	@$(MAKE) --no-print-directory PYTHONS=newest unit pythons integration
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target crash guest

lint: .venv/ready ## Check style and format (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready ## Check types (mypy --strict)
	$(BIN)/mypy

layers: .venv/ready ## Check which package may import which (import-linter)
	$(BIN)/lint-imports

unit: .venv/ready ## Run the unit tests
	$(BIN)/pytest $(PARALLEL) tests/unit

unit-quick: .venv/ready ## Run the unit tests, with few examples of the property tests
	$(BIN)/pytest --quiet $(PARALLEL) --hypothesis-profile=quick tests/unit

pythons: .venv/ready ## Run the unit tests under each other Python from 3.11 to 3.14 on this machine
	$(BIN)/python tests/pythons.py $(PYTHONS)

integration: .venv/ready ## Run the tests with real processes, cgroups and servers
	$(BIN)/pytest $(PARALLEL_FILES) tests/integration

crash: .venv/ready ## Kill our processes at each step of a job, at random moments and under load
	$(BIN)/pytest tests/crash

wheel: .venv/ready ## Build the wheels, install and test them (as root on Debian, installs qemu-user)
	$(BIN)/pytest tests/wheel

guest: .venv/ready ## Test in a Debian guest under qemu: cgroup v2, systemd as PID 1 (as root, installs qemu)
	$(BIN)/pytest tests/guest --ignore=tests/guest/test_guest_tutorial.py

tutorial: .venv/ready ## Type the tutorial into terminals of two users, and of two guests (as root; needs tmux)
	$(BIN)/pytest tests/integration/test_tutorial.py tests/guest/test_guest_tutorial.py

docs: .venv/ready ## Build the documentation in build/docs, and the man pages (installs Sphinx)
	@$(BIN)/python -c 'import sphinx, myst_parser, furo' 2>/dev/null || $(BIN)/pip install --quiet --editable '.[docs]'
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --jobs=auto -b html docs build/docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --jobs=auto -d build/doctrees -b man docs docs/man

links: docs ## Check the links to other sites (needs the network)
	$(BIN)/python -m sphinx --quiet --jobs=auto -b linkcheck docs build/links

reference: .venv/ready ## Generate docs/reference from the code and worker.proto
	$(BIN)/python docs/generate

picture: .venv/ready ## Record the picture in README.md from a terminal (as root; needs tmux)
	$(BIN)/python -m tests.record_picture

soak: .venv/ready ## Run the tests that take too long for CI
	$(BIN)/pytest tests/soak
	WORKER_CRASH_TIMES=10 $(BIN)/pytest tests/crash/test_random_kills.py

fuzz: .venv/ready ## Fuzz requests, policy files and certificates, each for FUZZ_SECONDS=60 (installs atheris)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install --quiet 'atheris>=2.3'
	$(BIN)/python -m tests.fuzz.requests $(FUZZ)
	$(BIN)/python -m tests.fuzz.policies $(FUZZ)
	$(BIN)/python -m tests.fuzz.certificates $(FUZZ)

bench: .venv/ready ## Run the benchmarks (benchmarks/README.md)
	$(BIN)/python benchmarks/placement.py
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/calls.py
	$(BIN)/python benchmarks/multi_user.py
	$(BIN)/python benchmarks/streams.py
	$(BIN)/python benchmarks/following.py
	$(BIN)/python benchmarks/recording.py
	$(BIN)/python benchmarks/standard_streams.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/commands.py

proto: .venv/ready ## Generate the modules in proto/ from the .proto files
	$(BIN)/python tests/generate_proto.py

format: .venv/ready ## Format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environments, builds and caches
	rm -rf .venv .venv-3.* build dist docs/man *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .import_linter_cache

.venv/ready: pyproject.toml $(wildcard build_backend/*.py linux/zygote/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "worker needs Python 3.11 or later; choose one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "python3 has no venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
