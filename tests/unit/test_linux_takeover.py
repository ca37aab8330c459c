"""Jobs of a supervisor that has died: what became of those that were just being born."""

import os
import subprocess
from pathlib import Path

import pytest

from worker.core.model.ending import Ending, Exited, Signaled
from worker.core.model.job import Leftovers, new_job_id
from worker.core.ports import Placement
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
"""Seconds after which what has not come will not come."""

PLAN = SpawnPlan(("true",), {}, "/", None, None, (), Placement(), (), 1, None, 1, Leftovers.KILL)


@pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15),
    reason="older kernels do not tell for sure how a process has ended",
)
@pytest.mark.parametrize(("script", "ending"), [("exit 5", Exited(5)), ("kill -9 $$", Signaled(9))])
def test_an_orphan_that_nobody_reaps(script: str, ending: Ending) -> None:
    """Its ending is known all the same: the init of a container may be one that reaps nobody."""
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
def test_a_child_of_a_dead_supervisor_that_was_never_let_go(tmp_path: Path, copy_of: str) -> None:
    """It is awaited until it says so itself, also if it is of a generation without a zygote."""
    layout, name = Layout(tmp_path), str(new_job_id())
    layout.make()
    path = Path(history_path(layout.job(name)))
    path.parent.mkdir()
    script = r"""echo; read let_go; sleep 0.2; printf '\n{"stillborn": "release 4"}' >> "$0" """
    command = ["sh", "-c", script, str(path), f"worker.linux.{copy_of}", "/state"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.readline()  # in the middle of an exec it has no arguments
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
