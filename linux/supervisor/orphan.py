"""A main process whose parent has died: known again by its record, watched through a pidfd."""

import os
import signal
from dataclasses import dataclass, field

from ...core.model.ending import (
    Ending,
    Exited,
    Lost,
    Signaled,
)
from ..ipc.event_loop import boottime
from ..kernel import procfs, syscalls
from ..state.history import StartRecord

_PATIENCE = 10.0
"""Seconds that init gets to reap it: only then does the kernel tell the exit code."""


@dataclass(slots=True)
class OrphanedProcess:
    """Somebody else's child that is a job's main process. Closes nothing by itself."""

    pid: int
    pidfd: int
    ended_at: float | None = field(default=None)

    @classmethod
    def find(cls, record: StartRecord, pidfd: int | None) -> "OrphanedProcess | None":
        """Return the process that was recorded in this boot, None if it is gone.

        A ``pidfd`` from when it was certainly there makes it known even then: it will be closed.
        """
        if pidfd is not None:
            return cls(record.pid, pidfd)
        try:
            pidfd = os.pidfd_open(record.pid)
        except ProcessLookupError:
            return None
        stat = procfs.stat(record.pid)
        if stat is None or stat.start != record.start:  # the pid is somebody else's by now
            os.close(pidfd)
            return None
        return cls(record.pid, pidfd)

    def ending(self) -> Ending | None:
        """Return how the process ended, None if that may still become known: ask again."""
        self.ended_at = self.ended_at or boottime()
        # In a container init may reap nobody. Before it is asked, so that the pid was nobody else's yet.
        unreaped = procfs.zombie_status(self.pid)
        try:
            status = syscalls.pidfd_wait_status(self.pidfd)
        except OSError as error:
            return Lost(f"its supervisor had died, and this kernel keeps no exit codes ({error.strerror})")
        if status is None:
            status = unreaped
        if status is not None:
            return ending_of_status(status)
        if boottime() - self.ended_at < _PATIENCE:
            return None
        return Lost("its supervisor had died, and nobody has reaped it")

    def close(self) -> None:
        """Let go of the pidfd."""
        os.close(self.pidfd)


def ending_of_status(status: int) -> Ending:
    """Return what a wait(2) status says."""
    if os.WIFSIGNALED(status):
        return Signaled(int(signal.Signals(os.WTERMSIG(status))))
    return Exited(os.WEXITSTATUS(status))


def ending_of_child(info: os.waitid_result) -> Ending:
    """Return what waitid(2) says of a child that has ended."""
    if info.si_code == os.CLD_EXITED:
        return Exited(info.si_status)
    return Signaled(info.si_status)
