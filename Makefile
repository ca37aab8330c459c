# Two commands: `make demo` shows the worker at work, `make test` runs all that CI runs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types layers unit integration crash wheel guest soak bench proto format clean

demo: .venv/ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" docs/demo.sh

test: lint types layers wheel unit integration crash guest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

layers: .venv/ready
	$(BIN)/lint-imports

unit: .venv/ready
	$(BIN)/pytest tests/unit

integration: .venv/ready
	$(BIN)/pytest tests/integration

# Kills at every step of a job's life, at random moments, and under load.
crash: .venv/ready
	$(BIN)/pytest tests/crash

# The tests of the wheel: what users install holds every package and starts.
wheel: .venv/ready
	$(BIN)/pytest tests/wheel

bench: .venv/ready
	$(BIN)/python benchmarks/placement.py
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/calls.py
	$(BIN)/python benchmarks/streams.py
	$(BIN)/python benchmarks/following.py
	$(BIN)/python benchmarks/recording.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/commands.py

# What takes too long for every run.
soak: .venv/ready
	$(BIN)/pytest tests/soak
	WORKER_CRASH_TIMES=10 $(BIN)/pytest tests/crash/test_random_kills.py

# On cgroup v2 with systemd as PID 1, in a Debian guest under qemu; root on Debian installs what that needs.
guest: .venv/ready
	$(BIN)/pytest tests/guest

proto: .venv/ready
	$(BIN)/python tests/generate_proto.py

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "worker needs Python 3.11 or later; say which: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "python3 has no venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
