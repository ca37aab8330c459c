"""Supervisor, recorder and zygote load all modules at their start: an upgrade must not mix two versions."""

import signal
from pathlib import Path

import pytest

from worker.core.model.ending import Exited
from worker.linux.state.code_digest import MODULES

from ..support.generations import Machine

LOG_IMPORTS = """
import sys
process = next((each for each in sys.orig_argv if each.startswith("worker.linux.")), "")
if process:
    log = open(f"{directory}/{{process}}", "a", buffering=1)
    def note(event, arguments):
        if event == "import" and arguments[0].split(".")[0] == "worker":
            print(arguments[0], file=log)
    sys.addaudithook(note)
"""

STARTED_BY_PATH = {"worker.linux.supervisor.__main__", "worker.linux.recorder.__main__"}
"""Executed by ``python -m``, which raises no import event for them."""


def names_of_modules() -> set[str]:
    """Return the modules of the digest as they are imported."""
    paths = (Path(module).with_suffix("").parts for module in MODULES)
    return {".".join(("worker", *path)).removesuffix(".__init__") for path in paths}


async def test_running_a_job_loads_no_further_module(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a job with output and a job that was stopped, only the modules of the digest are loaded."""
    imports, code = tmp_path / "imports", tmp_path / "code"
    imports.mkdir()
    code.mkdir()
    (code / "sitecustomize.py").write_text(LOG_IMPORTS.format(directory=imports))
    monkeypatch.setenv("PYTHONPATH", str(code))
    async with machine.server() as server:
        job = await server.start("sh", "-c", "echo out; exit 3")
        assert Exited(3) == (await server.end(job)).ending
        assert b"out\n" == await server.output(job)
        stopped = await server.start("sleep", "1000")
        await server.found[stopped].stop(signal.SIGTERM, 5)
        await server.end(stopped)
    logs = {log.name: set(log.read_text().split()) for log in imports.iterdir()}
    assert {"worker.linux.supervisor", "worker.linux.recorder"} == logs.keys()
    assert names_of_modules() - STARTED_BY_PATH == set[str]().union(*logs.values())
