"""Jobs of a dead supervisor: their endings, and children before their exec."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from worker.core.model.ending import Ending, Exited, Signaled
from worker.core.model.job import JobSpec, new_job_id
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.kernel import procfs
from worker.linux.state.history import (
    History,
    HistoryUnreadable,
    StartRecord,
    create_history,
    provisional_path,
)
from worker.linux.state.job_directory import history_path
from worker.linux.state.layout import Layout
from worker.linux.supervisor import orphaned_jobs as orphaned_jobs_module
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


def begin_start(layout: Layout, name: str, generation: str = "g") -> tuple[Path, int]:
    """Begin the start of a job; return its history and the descriptor for the child."""
    path = Path(history_path(layout.job(name)))
    path.parent.mkdir()
    return path, create_history(path, 0, StartRecord(0, 0, procfs.boot_id(), 1.5, None, PLAN), generation)


def record(pid: int, path: Path, history: int) -> None:
    """Record a process as linux/zygote/child.c does."""
    stat = procfs.stat(pid)
    assert stat is not None
    os.write(history, b'\n{"process": {"pid": %d, "start": %d}}' % (pid, stat.start))
    os.close(history)
    os.rename(provisional_path(path, 0), path)


def orphans_of(layout: Layout) -> list[History | HistoryUnreadable]:
    """Return the histories of the jobs that a new supervisor finds."""
    with orphaned_jobs(layout, "own", (), predecessor=False) as orphans:
        return [history for _, history in orphans.jobs]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Make an empty state directory."""
    made = Layout(tmp_path)
    made.make()
    return made


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "failed"])
def test_a_child_that_ends_before_exec(layout: Layout, *, killed: bool) -> None:
    """The takeover waits for its end: it never executed the command."""
    path, history = begin_start(layout, str(new_job_id()))
    release, let_go = os.pipe()
    pid = os.fork()
    if pid == 0:  # a copy of this process, as the child is one of the zygote
        os.close(let_go)
        os.read(release, 1)
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(history, b'\n{"never_executed": "exec 2"}')
        os._exit(127)
    record(pid, path, history)
    timer = threading.Timer(0.1, os.close, [let_go])
    timer.start()
    (found,) = orphans_of(layout)
    timer.join()
    os.close(release)
    os.waitpid(pid, 0)
    assert isinstance(found, History)
    assert found.never_executed


def test_a_child_that_is_not_recorded_yet(layout: Layout) -> None:
    """Its start is revoked: it cannot record itself later, so it never executes the command."""
    name = str(new_job_id())
    path, history = begin_start(layout, name)
    assert [] == orphans_of(layout)
    with pytest.raises(FileNotFoundError):
        record(os.getpid(), path, history)


LOCK = """
import sys
from worker.linux.kernel.locks import open_lock, try_lock
assert try_lock(open_lock(sys.argv[1]))
print(flush=True)
input()
"""


def test_a_child_of_a_supervisor_that_runs(layout: Layout) -> None:
    """Its start is left alone."""
    path, history = begin_start(layout, str(new_job_id()), "running")
    layout.generation("running").mkdir()
    lock = str(layout.generation("running") / "lock")
    running = subprocess.Popen(
        [sys.executable, "-c", LOCK, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert running.stdout is not None
    running.stdout.readline()
    assert [] == orphans_of(layout)
    record(os.getpid(), path, history)
    running.communicate(b"\n", PATIENCE)


@pytest.mark.parametrize("found", [0, 1], ids=["before it is listed", "before it is read"])
def test_a_child_that_records_itself_meanwhile(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, found: int
) -> None:
    """It is adopted, whenever that happens: the final name was missing, or the provisional one found."""
    path, history = begin_start(layout, str(new_job_id()))
    name = ("provisional_histories", "generation_of_start")[found]
    look = getattr(orphaned_jobs_module, name)

    def late(argument: str) -> object:
        if not path.exists():
            record(os.getpid(), path, history)
        return look(argument)

    monkeypatch.setattr(orphaned_jobs_module, name, late)
    (adopted,) = orphans_of(layout)
    assert isinstance(adopted, History)
    assert os.getpid() == adopted.start.pid
