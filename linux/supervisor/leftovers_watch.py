"""Notices that no process of a job is left, after its main process has ended."""

import os
import select
from collections.abc import Callable
from contextlib import suppress

from ..ipc.event_loop import Loop, boottime
from .job_processes import JobProcesses, is_empty

_FIRST_INTERVAL = 0.01
"""Seconds until the next check of processes that send no events; doubles up to ``_LONGEST_INTERVAL``."""
_LONGEST_INTERVAL = 0.2


class LeftoversWatch:
    """Calls ``on_empty`` once after ``begin``, as soon as no process of the job is left."""

    def __init__(self, loop: Loop, processes: JobProcesses, on_empty: Callable[[], None]) -> None:
        self._loop = loop
        self._processes = processes
        self._on_empty = on_empty
        self._interval = _FIRST_INTERVAL
        self._events: int | None = None
        self._active = False

    def begin(self) -> None:
        """Check now, and keep checking."""
        self._active = True
        self._check()

    def close(self) -> None:
        """Stop checking. Idempotent."""
        self._active = False
        self._loop.call_at(self._check, None)
        if self._events is not None:
            self._loop.unwatch(self._events)
            os.close(self._events)
            self._events = None

    def _check(self) -> None:
        if not self._active:
            return
        if is_empty(self._processes):
            self.close()
            self._on_empty()
            return
        if self._events is None:
            self._events = self._processes.open_events()
            if self._events is not None:
                self._loop.watch(self._events, self._on_event, select.EPOLLPRI)
        # Events exist on cgroup v2 only, and none reports what happened between the check and the watch.
        self._loop.call_at(self._check, boottime() + self._interval)
        self._interval = min(2 * self._interval, _LONGEST_INTERVAL)

    def _on_event(self) -> None:
        assert self._events is not None
        with suppress(OSError):  # ENODEV: the cgroup has been removed
            os.pread(self._events, 100, 0)  # acknowledges the event (kernfs)
        self._check()
