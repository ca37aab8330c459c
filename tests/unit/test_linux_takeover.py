"""Jobs of a dead supervisor: their endings, and children that were not released before exec."""

import os
import subprocess
from pathlib import Path

import pytest

from worker.core.model.ending import Ending, Exited, Signaled
from worker.core.model.job import JobSpec, new_job_id
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.kernel import procfs
from worker.linux.state.history import (
    History,
    StartRecord,
    open_history,
    write_start,
)
from worker.linux.state.job_directory import history_path
from worker.linux.state.layout import Layout
from worker.linux.supervisor.orphaned_jobs import orphaned_jobs
from worker.linux.supervisor.orphaned_process import OrphanedProcess

PATIENCE = 60.0
"""Seconds after which an expected event counts as missing."""

PLAN = SpawnPlan(JobSpec("true"))


@pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15),
    reason="older kernels do not reliably keep the exit code of a process",
)
@pytest.mark.parametrize(("script", "ending"), [("exit 5", Exited(5)), ("kill -9 $$", Signaled(9))])
def test_the_ending_of_an_orphan_that_is_not_reaped(script: str, ending: Ending) -> None:
    """It is known without a wait(2): the init of a container may not reap its children."""
    child = subprocess.Popen(["sh", "-c", script])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    stat = procfs.stat(child.pid)
    assert stat is not None
    orphan = OrphanedProcess.find(StartRecord(child.pid, stat.start, "boot", 1.5, None, PLAN), None)
    assert orphan is not None
    try:
        assert ending == orphan.ending()
    finally:
        orphan.close()
        child.wait(PATIENCE)


@pytest.mark.parametrize("copy_of", ["supervisor", "zygote"])
def test_a_child_that_was_never_released(tmp_path: Path, copy_of: str) -> None:
    """The takeover waits until the child records that; also for generations without a zygote."""
    layout, name = Layout(tmp_path), str(new_job_id())
    layout.make()
    path = Path(history_path(layout.job(name)))
    path.parent.mkdir()
    script = r"""echo; read release; sleep 0.2; printf '\n{"stillborn": "release 4"}' >> "$0" """
    command = ["sh", "-c", script, str(path), f"worker.linux.{copy_of}", "/state"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.readline()  # during exec the command line is empty
    stat = procfs.stat(child.pid)
    assert stat is not None
    history = open_history(path)
    write_start(path, history, StartRecord(child.pid, stat.start, "boot", 1.5, None, PLAN), "g")
    os.close(history)
    child.stdin.close()
    with orphaned_jobs(layout, "own", ()) as orphans:
        (found,) = (history for _, history in orphans.jobs)
    child.wait(PATIENCE)
    child.stdout.close()
    assert isinstance(found, History)
    assert found.never_executed
