"""The freezers of cgroup v1 and v2, and what a process ignores, on files that pose as the kernel's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worker.core.ports import Placement
from worker.linux.kernel.procfs import ignored_signals, stat
from worker.linux.supervisor.freezer import (
    freeze_processes,
    is_freezing,
    is_frozen,
    thaw_processes,
)

from ..support.waiting import wait_until


def group(directory: Path, **files: str) -> str:
    """Make a cgroup with these files."""
    directory.mkdir()
    for name, text in files.items():
        (directory / name.replace("_", ".", 1)).write_text(text)
    return str(directory)


def test_v2_is_preferred(tmp_path: Path) -> None:
    """Also on a hybrid host, where the cgroup of v2 has no controllers."""
    unified = group(tmp_path / "unified", cgroup_freeze="0\n", cgroup_events="populated 1\nfrozen 0\n")
    legacy = group(tmp_path / "freezer", freezer_state="THAWED\n", freezer_self_freezing="0\n")
    placement = Placement(unified=unified, legacy=(legacy,))
    assert not is_freezing(placement)
    freeze_processes(placement)
    assert "1" == Path(unified, "cgroup.freeze").read_text()
    assert "THAWED\n" == Path(legacy, "freezer.state").read_text()
    assert (True, False) == (is_freezing(placement), is_frozen(placement))
    Path(unified, "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert is_frozen(placement)
    thaw_processes(placement)
    assert not is_freezing(placement)


def test_v1_without_v2(tmp_path: Path) -> None:
    """FREEZING is not FROZEN: a process is still in the kernel."""
    other = group(tmp_path / "pids")
    legacy = group(tmp_path / "freezer", freezer_state="FREEZING\n", freezer_self_freezing="1\n")
    placement = Placement(legacy=(other, legacy))
    assert (True, False) == (is_freezing(placement), is_frozen(placement))
    freeze_processes(placement)
    assert is_frozen(placement)
    thaw_processes(placement)
    assert "THAWED" == Path(legacy, "freezer.state").read_text()


@pytest.mark.parametrize("unified", [False, True], ids=["no cgroup", "before Linux 5.2"])
def test_no_freezer(tmp_path: Path, unified: bool) -> None:  # noqa: FBT001 - a parameter
    """A request is refused with the reason; nothing is frozen, so that there is nothing to thaw."""
    placement = Placement(unified=group(tmp_path / "group") if unified else None)
    with pytest.raises(OSError, match="this host has no freezer for the job"):
        freeze_processes(placement)
    thaw_processes(placement)
    assert (False, False) == (is_freezing(placement), is_frozen(placement))


def test_a_removed_cgroup(tmp_path: Path) -> None:
    """It has no processes."""
    placement = Placement(unified=str(tmp_path / "gone"))
    thaw_processes(placement)
    assert not is_freezing(placement)


def test_ignored_and_blocked_signals() -> None:
    """Those that a process ignores and those that it blocks, also real-time signals."""
    code = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGRTMAX])
os.write(1, b".")
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert b"." == os.read(process.stdout.fileno(), 1)
        wait_until(lambda: process_state(process.pid) == "S")
        found = ignored_signals(process.pid)
        process.communicate()
    assert {signal.SIGHUP, signal.SIGTERM, signal.SIGRTMAX} <= found
    assert not {signal.SIGINT, signal.SIGUSR1, signal.SIGKILL} & found
    assert frozenset() == ignored_signals(1 << 22)


def test_signals_that_a_running_process_blocks() -> None:
    """They do not count: a shell blocks SIGTERM for a moment while it forks, and handles it then."""
    code = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.write(1, b".")
while True:
    pass
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"." == os.read(process.stdout.fileno(), 1)
        wait_until(lambda: process_state(process.pid) == "R")
        found = ignored_signals(process.pid)
        process.kill()
    assert signal.SIGHUP in found
    assert signal.SIGTERM not in found


def process_state(pid: int) -> str:
    """Return the state letter of a process."""
    found = stat(pid)
    return found.state if found is not None else ""
