"""A main process whose parent, a supervisor, has died: identified by its record, watched by a pidfd."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from ...core.model.ending import Ending, Lost
from ..ipc.event_loop import Loop, boottime
from ..kernel import procfs, syscalls
from ..state.history import StartRecord
from .wait_status import ending_of_status

_REAP_TIMEOUT = 10.0
"""Seconds to wait until init has reaped the process: the kernel reports the exit code only then."""

_POLL_INTERVAL = 0.2
"""Seconds between two attempts to read the exit code."""


@dataclass(slots=True)
class OrphanedProcess:
    """The main process of a job; it is not a child of this process. The owner must call ``close``."""

    pid: int
    pidfd: int
    ended_at: float | None = field(default=None)

    @classmethod
    def find(cls, record: StartRecord, pidfd: int | None) -> "OrphanedProcess | None":
        """Return the process that was recorded in this boot, None if it no longer exists.

        A ``pidfd`` that was opened while the process existed identifies it even after its end. The
        result takes ownership of ``pidfd``.
        """
        if pidfd is not None:
            return cls(record.pid, pidfd)
        try:
            pidfd = os.pidfd_open(record.pid)
        except ProcessLookupError:
            return None
        if not procfs.is_process(record.pid, record.start):
            os.close(pidfd)
            return None
        return cls(record.pid, pidfd)

    def ending(self) -> Ending | None:
        """Return how the process ended, None if that may still become known: call again later."""
        self.ended_at = self.ended_at or boottime()
        # In a container init may not reap. Read this before the pidfd: the pid cannot have been reused yet.
        unreaped = procfs.zombie_status(self.pid)
        try:
            status = syscalls.pidfd_wait_status(self.pidfd)
        except OSError as error:
            return Lost(f"its supervisor died, and this kernel does not keep exit codes ({error.strerror})")
        if status is None:
            status = unreaped
        if status is not None:
            return ending_of_status(status)
        if boottime() - self.ended_at < _REAP_TIMEOUT:
            return None
        return Lost("its supervisor died, and no process has reaped it")

    def close(self) -> None:
        """Close the pidfd."""
        os.close(self.pidfd)


class OrphanWatch:
    """Calls ``on_ended`` once, as soon as the ending of an orphaned process is known."""

    def __init__(self, loop: Loop, orphan: OrphanedProcess, on_ended: Callable[[Ending], None]) -> None:
        self._loop = loop
        self._orphan = orphan
        self._on_ended = on_ended
        loop.watch(orphan.pidfd, self._check)

    def _check(self) -> None:
        """Read the exit code; repeat until init has reaped the process, or the exit code is lost."""
        self._loop.unwatch(self._orphan.pidfd)
        ending = self._orphan.ending()
        if ending is None:
            self._loop.call_at(self._check, boottime() + _POLL_INTERVAL)
            return
        self._orphan.close()
        self._on_ended(ending)
