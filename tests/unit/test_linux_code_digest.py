"""The digest of a generation covers what supervisor and recorder import, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

import worker
from worker.linux.state.code_digest import MODULES

ROOT = Path(worker.__file__).parent

PROCESSES = ("worker.linux.supervisor.__main__", "worker.linux.recorder.__main__")

PROGRAM = """
import sys, {module}
for name, module in sys.modules.items():
    if name.split(".")[0] == "worker":
        print(module.__file__)
"""


def imported_by(process: str) -> set[str]:
    """Return the files of this project that a process imports, relative to the package."""
    command = [sys.executable, "-P", "-c", PROGRAM.format(module=process)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {str(Path(line).relative_to(ROOT)) for line in output.split()}


def test_the_digest_covers_what_the_processes_import() -> None:
    """A module that is missing or superfluous in the list is reported with the line to add or remove."""
    imported = set[str]().union(*map(imported_by, PROCESSES))
    changes = [
        *(f'add the line     "{module}",' for module in sorted(imported - set(MODULES))),
        *(f'remove the line  "{module}",' for module in sorted(set(MODULES) - imported)),
    ]
    if changes:
        pytest.fail("\n".join(["linux/state/code_digest.py, MODULES:", *changes]))


def test_the_list_is_sorted() -> None:
    """Two builds with the same modules have the same digest, and each module is listed once."""
    assert sorted(set(MODULES)) == list(MODULES)
