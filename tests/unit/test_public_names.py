"""Public import paths: the names of ``worker`` and its packages, earlier paths, and light imports."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest

import worker
import worker.client
import worker.core
from worker.client.keyword_arguments import SpecFields
from worker.core import errors, ports
from worker.core.model import channel, ending, job, limits, stream_start, stream_times

PUBLIC = [(name, module) for module, names in worker.core.MODULES.items() for name in names]

OF_CLIENT = [(name, module) for module, names in worker.client.MODULES.items() for name in names]

EARLIER = {
    "worker.core.channel": ["Channel"],
    "worker.core.defaults": ["MemoryJournal", "SystemClock"],
    "worker.core.ending": ["Cause", "Channel", "End", "Ending", "Exited", "Lost", "Signaled", "exit_code"],
    "worker.core.job": [
        "Chunk",
        "Extent",
        "JobId",
        "JobRecord",
        "JobSpec",
        "JobState",
        "JobStatus",
        "Leftovers",
        "PastRequest",
        "new_job_id",
        "parse_job_id",
    ],
    "worker.core.limits": [
        "CpuLimit",
        "IoLimit",
        "LimitBounds",
        "MemoryLimit",
        "ResourceLimits",
    ],
    "worker.core.retention": ["Retention"],
}
"""Module paths of the values before they were moved into packages."""

UNCHANGED = {
    "worker.core.errors": ["JobNotFound", "WorkerError"],
    "worker.core.ports": ["OutputStore", "ProcessSpawner", "ResourceLimiter"],
    "worker.core.testing": ["FakeSpawner", "LimiterContract", "OutputStoreContract", "SpawnerContract"],
    "worker.core.worker": ["Worker"],
}


@pytest.mark.parametrize(("name", "module"), PUBLIC)
def test_names_of_core(name: str, module: str) -> None:
    """Each public name of core can be imported from ``worker.core`` and is the object of its module."""
    assert getattr(import_module(f"worker.core.{module}"), name) is getattr(worker.core, name)


@pytest.mark.parametrize(("name", "module"), OF_CLIENT)
def test_names_of_client(name: str, module: str) -> None:
    """Each public name of client can be imported from ``worker.client`` and is the object of its module."""
    assert getattr(import_module(f"worker.client.{module}"), name) is getattr(worker.client, name)


@pytest.mark.parametrize(
    "module", [errors, ports, channel, ending, job, limits, stream_start, stream_times]
)
def test_core_exports_every_class(module: object) -> None:
    """``worker.core`` exports every public class of the errors, the ports and the values."""
    classes = {
        name
        for name, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and not name.startswith("_")
    }
    assert set() == classes - {name for name, _ in PUBLIC}


@pytest.mark.parametrize("name", worker.__all__)
def test_names_of_the_root(name: str) -> None:
    """The names of the README can be imported from ``worker``."""
    package = worker.client if name in {each for each, _ in OF_CLIENT} else worker.core
    assert getattr(package, name) is getattr(worker, name)


@pytest.mark.parametrize("module", ["worker", "worker.client", "worker.core"])
def test_unknown_names(module: str) -> None:
    """An unknown name raises AttributeError."""
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Jobs'"):
        _ = import_module(module).Jobs


@pytest.mark.parametrize("module", EARLIER)
def test_earlier_paths(module: str) -> None:
    """The module paths that adapters used before still work, with the same objects."""
    for name in EARLIER[module]:
        assert getattr(worker.core, name) is getattr(import_module(module), name)


@pytest.mark.parametrize(("package", "table"), [(worker.core, PUBLIC), (worker.client, OF_CLIENT)])
def test_type_checkers_see_the_names(package: ModuleType, table: list[tuple[str, str]]) -> None:
    """The imports for type checkers name the same modules as the table that is used at run time."""
    tree = ast.parse(Path(str(package.__file__)).read_text())
    [checked] = [node for node in tree.body if isinstance(node, ast.If)]
    imported = [
        (alias.name, node.module)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(table) == sorted(imported)


def test_mypy_sees_the_names(tmp_path: Path) -> None:
    """A strict mypy run finds each name under each public path, and rejects a name that does not exist."""
    mypy = pytest.importorskip("mypy.api", reason="mypy is a tool of the group lint")
    paths = {
        "worker": worker.__all__,
        "worker.client": [name for name, _ in OF_CLIENT],
        "worker.core": [name for name, _ in PUBLIC],
        **EARLIER,
        **UNCHANGED,
    }
    lines = [f"from {path} import {name} as {name}" for path, names in paths.items() for name in names]
    lines += ["from worker.core import Jobs", "from worker import Servers"]
    program = tmp_path / "program.py"
    program.write_text("\n".join(lines) + "\n")
    repository = Path(__file__).parents[2]
    output, _, _ = mypy.run(["--strict", "--config-file", str(repository / "pyproject.toml"), str(program)])
    found = [line.split(": error: ")[1] for line in output.splitlines() if ": error: " in line]
    assert [
        'Module "worker.core" has no attribute "Jobs"  [attr-defined]',
        'Module "worker" has no attribute "Servers"  [attr-defined]',
    ] == found, output


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("worker", {"asyncio", "typing", "worker.core", "ssl", "click", "grpclib"}),
        ("worker.client", {"asyncio", "typing", "dataclasses", "ssl", "grpclib", "worker.client.client"}),
        ("worker.client.settings", {"cryptography", "click", "cattrs", "worker.client.attachment"}),
        ("worker.core", {"asyncio", "typing", "dataclasses", "worker.core.model", "worker.core.errors"}),
        ("worker.core.lifecycle", {"asyncio", "ssl", "worker.core.worker"}),
        (
            "worker.linux.supervisor.supervisor",
            {"asyncio", "ssl", "grpclib", "cattrs", "worker.core.worker"},
        ),
        ("worker.linux.supervisor.__main__", {"asyncio", "ssl", "grpclib", "cattrs", "worker.core.worker"}),
        ("worker.linux.recorder.__main__", {"asyncio", "ssl", "grpclib", "cattrs", "worker.core.worker"}),
    ],
)
def test_imports_are_light(module: str, unwanted: set[str]) -> None:
    """A module that runs in every process, or beside every job, loads no package that it does not use."""
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(output.split())
    assert module in loaded
    assert set() == loaded & unwanted


def test_the_keywords_of_start_are_the_fields_of_a_job_spec() -> None:
    """`Client.start` takes each field of JobSpec, with the same type, except what it takes by position."""
    fields = get_type_hints(worker.core.JobSpec)
    for name in ("command", "args", "execution"):  # the server decides about the last one
        del fields[name]
    assert fields == get_type_hints(SpecFields)
