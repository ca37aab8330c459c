"""An upgrade replaces the package while a supervisor of the version before runs jobs: nothing is lost.

The old version is a commit from before the modules were moved into packages. Its supervisor keeps running
its own code, but starts its next recorder from the new code at the same path.
"""

import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.linux.kernel.locks import holder_of
from worker.linux.kernel.procfs import command_line
from worker.linux.zygote.client import PROGRAM

from .conftest import Installation, Until

OLD = "9acfd5d"
"""The last commit before the move."""

ROOT = Path(__file__).parent.parent.parent

keeps_exit_codes = pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15),
    reason="before Linux 6.15 the kernel does not keep the exit code of another process's child",
)

WRITE_LINES = """
import os, sys, time
gate, code, number = sys.argv[1], int(sys.argv[2]), 0
while not os.path.exists(gate):
    os.write(1, b"%d\\n" % number)
    number += 1
    time.sleep(0.0005)
sys.exit(code)
"""

BLOCK, MOST_BLOCKS = 256 << 10, 400
"""Size and number of the blocks of the binary job: more than a segment of 64 MiB."""

WRITE_BLOCKS = f"""
import os, random, sys, time
gate, code = sys.argv[1], int(sys.argv[2])
for number in range({MOST_BLOCKS}):
    block = random.Random(number).randbytes({BLOCK})
    while block:
        block = block[os.write(1, block):]
    time.sleep(0.01)
while not os.path.exists(gate):
    time.sleep(0.01)
sys.exit(code)
"""


class UpgradedInstallation:
    """An installation whose package is a copy, of the old version until ``upgrade``."""

    def __init__(self, installation: Installation, site: Path) -> None:
        self.installation = installation
        self.package = site / "worker"
        self.package.mkdir(parents=True)
        parts = ("__init__.py", "api", "cgroups", "cli", "core", "linux", "proto")
        command = ["git", "-C", str(ROOT), "archive", OLD, *parts]
        archive = subprocess.run(command, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", self.package], input=archive.stdout, check=True)
        # PYTHONPATH precedes the finder of the editable install, and -P keeps the working directory out.
        installation.env["PYTHONPATH"] = str(site)
        installation.command = [sys.executable, "-P", "-m", "worker.cli.main"]
        installation.worker("up")
        self.supervisor = self.locks("lock")[0]

    def upgrade(self) -> None:
        """Replace the package, as pip does, while the supervisor runs."""
        shutil.rmtree(self.package)
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
        for package in settings["packages"]:
            directory = Path(*package.split(".")[1:])
            (self.package / directory).mkdir()
            for module in (ROOT / directory).glob("*.py"):
                shutil.copy(module, self.package / directory)
        shutil.copy(PROGRAM, self.package / "linux" / "zygote")

    def locks(self, name: str) -> list[int]:
        """Return the processes that hold this lock of any generation."""
        paths = sorted((self.installation.home / "supervisor").glob(f"*/{name}"))
        return [pid for pid in map(holder_of, paths) if pid]

    def start_old_jobs(self, gate: Path) -> tuple[str, str]:
        """Start a job that writes numbered lines and one that writes blocks, until the gate exists."""
        lines = self.installation.start(sys.executable, "-c", WRITE_LINES, str(gate), "7")
        blocks = self.installation.start(sys.executable, "-c", WRITE_BLOCKS, str(gate), "9")
        return lines, blocks

    def recorded(self, job: str) -> int:
        """Return the size of the recorded output."""
        segments = (self.installation.home / "jobs" / job).glob("output-*")
        return sum(segment.stat().st_size for segment in segments)

    def has_ended(self, job: str) -> bool:
        """Whether the supervisor has recorded the end of a job."""
        return '"end"' in (self.installation.home / "jobs" / job / "history").read_text()


@pytest.fixture
def upgraded(tmp_path: Path, install: Callable[[Path], Installation]) -> UpgradedInstallation:
    """An installation of the old version, up."""
    command = ["git", "-C", str(ROOT), "cat-file", "-e", f"{OLD}^{{commit}}"]
    if shutil.which("git") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"commit {OLD} is not in the history of this repository")
    return UpgradedInstallation(install(tmp_path / "home"), tmp_path / "site")


def check_lines(output: bytes) -> None:
    """Check that no line is lost or repeated."""
    count = output.count(b"\n")
    assert count > 0
    assert b"".join(b"%d\n" % number for number in range(count)) == output


def check_blocks(output: bytes) -> None:
    """Check that no byte is lost or repeated."""
    assert MOST_BLOCKS * BLOCK == len(output)
    for number in range(MOST_BLOCKS):
        assert random.Random(number).randbytes(BLOCK) == output[number * BLOCK : (number + 1) * BLOCK], (
            number
        )


def replace_recorder(upgraded: UpgradedInstallation, until: Until) -> None:
    """Kill the recorder, and wait until the old supervisor has started one from the new code."""
    (old,) = upgraded.locks("recorder.lock")
    upgraded.installation.kill(old)
    until(lambda: upgraded.locks("recorder.lock") not in ([], [old]))
    (new,) = upgraded.locks("recorder.lock")
    assert b"\0-P\0-m\0worker.linux.recorder\0" in command_line(new)
    assert [upgraded.supervisor] == upgraded.locks("lock")


def test_an_upgrade_loses_no_output(upgraded: UpgradedInstallation, tmp_path: Path, until: Until) -> None:
    """A new recorder serves the old supervisor, a new server its jobs to the end; request ids stay used."""
    worker, first, second = upgraded.installation, tmp_path / "first", tmp_path / "second"
    lines, blocks = upgraded.start_old_jobs(first)
    running = worker.start(sys.executable, "-c", WRITE_LINES, str(second), "8")
    stopped = worker.start("sleep", "1000")
    repeatable = {name: worker.start("--request-id", name, "true") for name in ("removed", "kept")}
    for job in repeatable.values():
        worker.wait(job)
    worker.worker("remove", repeatable["removed"])
    until(lambda: upgraded.recorded(blocks) > BLOCK)
    worker.worker("down")
    upgraded.upgrade()
    assert not (upgraded.package / "linux" / "recorder.py").exists()
    before = upgraded.recorded(lines)
    replace_recorder(upgraded, until)
    until(lambda: upgraded.recorded(lines) > before)
    # Two jobs end while there is no server: the old supervisor records what the new recorder reports.
    first.touch()
    until(lambda: upgraded.has_ended(lines) and upgraded.has_ended(blocks))

    worker.worker("up")
    for job, code in ((lines, 7), (blocks, 9)):
        assert ("exited", code) == tuple(worker.wait(job)[fact] for fact in ("state", "exit_code"))
    check_lines(worker.stream(lines))
    check_blocks(worker.stream(blocks))

    # A start that is repeated after the upgrade starts nothing.
    assert repeatable == {name: worker.start("--request-id", name, "true") for name in repeatable}

    # The old supervisor serves the others; new jobs have a supervisor of the new generation.
    assert "running" == worker.query(running)["state"]
    new = worker.start("sh", "-c", "echo new; exit 3")
    assert ("exited", 3) == tuple(worker.wait(new)[fact] for fact in ("state", "exit_code"))
    assert b"new\n" == worker.stream(new)
    assert {upgraded.supervisor, worker.supervisor_pid()} == set(upgraded.locks("lock"))
    assert upgraded.supervisor != worker.supervisor_pid() != 0
    kill_zygotes(upgraded)
    for command in (["signal", stopped, "HUP"], ["pause", stopped], ["resume", stopped]):
        assert b"the supervisor of this job is of an earlier version" in worker.run(*command).stderr
    worker.worker("stop", "--signal-all", stopped)
    assert ("stopped", 143) == tuple(worker.wait(stopped)[fact] for fact in ("cause", "exit_code"))
    second.touch()
    assert ("exited", 8) == tuple(worker.wait(running)[fact] for fact in ("state", "exit_code"))
    check_lines(worker.stream(running))
    until(lambda: [worker.supervisor_pid()] == upgraded.locks("lock"))


@keeps_exit_codes
def test_a_new_supervisor_adopts_the_jobs_of_an_old_one(
    upgraded: UpgradedInstallation, tmp_path: Path, until: Until
) -> None:
    """If the old supervisor dies after the upgrade, the new one continues its jobs without a loss."""
    worker, gate = upgraded.installation, tmp_path / "gate"
    lines, blocks = upgraded.start_old_jobs(gate)
    until(lambda: upgraded.recorded(blocks) > BLOCK)
    worker.worker("down")
    upgraded.upgrade()
    worker.worker("up")
    before = upgraded.recorded(lines)
    worker.kill(upgraded.supervisor)
    until(lambda: upgraded.recorded(lines) > before)
    until(lambda: [worker.supervisor_pid()] == upgraded.locks("lock"))
    gate.touch()
    for job, code in ((lines, 7), (blocks, 9)):
        assert ("exited", code) == tuple(worker.wait(job)[fact] for fact in ("state", "exit_code"))
    check_lines(worker.stream(lines))
    check_blocks(worker.stream(blocks))


def kill_zygotes(upgraded: UpgradedInstallation) -> None:
    """Kill the zygote of the old supervisor: it is not needed for the jobs that run."""
    children = Path(f"/proc/{upgraded.supervisor}/task/{upgraded.supervisor}/children").read_text().split()
    zygotes = [int(pid) for pid in children if b"worker.linux.zygote" in command_line(int(pid))]
    assert zygotes
    for zygote in zygotes:
        upgraded.installation.kill(zygote)
