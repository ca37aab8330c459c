"""Clones that fail: neither the supervisor nor the child waits forever."""

import errno
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from worker.core.model.ending import Channel
from worker.core.model.job import JobSpec, new_job_id
from worker.core.ports import RecordedFifo
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.ipc.event_loop import Loop
from worker.linux.recorder.client import RecorderClient
from worker.linux.state.job_directory import fifo_path
from worker.linux.supervisor.birth import Zygote, ZygoteDied
from worker.linux.supervisor.job import Job, Observer, Services
from worker.linux.supervisor.retried_writes import RetriedWrites
from worker.linux.zygote import ANSWER, LENGTH, Request

PATIENCE = 60.0
"""Seconds after which an expected event counts as missing."""

PLAN = SpawnPlan(JobSpec("true", env={"PATH": "/usr/bin:/bin"}))


def children() -> set[str]:
    """Return the pids of our children."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def ending_of(pid: int) -> int:
    """Wait for the end of a child, and return its exit code."""
    pidfd = os.pidfd_open(pid)
    try:
        assert select.select([pidfd], [], [], PATIENCE)[0], "the child does not end"
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_zygote_that_is_stopped() -> None:
    """It is killed after its patience, as if it had died: the supervisor must not block."""
    zygote, before = Zygote(patience=0.3), children()
    zygote.begin()
    (pid,) = map(int, children() - before)
    os.kill(pid, signal.SIGSTOP)
    history = os.open(os.devnull, os.O_WRONLY)
    try:
        with pytest.raises(ZygoteDied):
            zygote.bear(PLAN, 1, 2, history)
        assert -signal.SIGKILL == ending_of(pid)
    finally:
        os.close(history)
        zygote.close()


def test_a_supervisor_that_dies_with_an_answer_unread() -> None:
    """The zygote exits with 0 and prints nothing."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-P", "-m", "worker.linux.zygote", str(theirs.fileno())]
            zygote = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
        request: Request = "/nonexistent", (), ((b"true",), {}, b"/", None)
        body = marshal.dumps(request)
        socket.send_fds(ours, [LENGTH.pack(len(body)) + body], [0, 0, 0, 0, 0])
        answer = ours.recv(ANSWER.size, socket.MSG_PEEK | socket.MSG_WAITALL)
        assert ANSWER.pack(0, errno.ENOENT) == answer
    _, errors = zygote.communicate(timeout=PATIENCE)
    assert (0, b"") == (zygote.returncode, errors)


class FullLoop(Loop):
    """The kernel refuses further watches (epoll(7), max_user_watches)."""

    def watch(self, fd: int, callback: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Refuse."""
        del fd, callback, events
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class NoObserver(Observer):
    """Ignores all events."""


def test_a_child_that_cannot_be_watched(tmp_path: Path) -> None:
    """The start fails, and the child that waits for its release exits."""
    loop, zygote = FullLoop(), Zygote()
    recorder = RecorderClient(loop, tmp_path / "lock", lambda *_: None, lambda *_: None)
    os.mkfifo(fifo_path(tmp_path, Channel.OUTPUT))
    sink = RecordedFifo(fifo_path(tmp_path, Channel.OUTPUT), str(tmp_path), 65536)
    plan = replace(PLAN, sinks={Channel.OUTPUT: sink})
    services = Services("g", loop, zygote, recorder, RetriedWrites())
    job = Job(str(new_job_id()), str(tmp_path), plan, None, services, NoObserver())
    try:
        with pytest.raises(OSError, match="No space left"):
            job.spawn()
        assert 127 == ending_of(job.main.pid)
    finally:
        zygote.close()
