"""The start of a job's main process: its history, the clone, and whether it executed the command."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ...core.model.ending import Ending, Signaled
from ...core.steps import Step, reached
from ..ipc.encoding import SpawnPlan
from ..ipc.event_loop import Loop, boottime
from ..kernel import procfs
from ..state.history import (
    StartRecord,
    create_history,
    provisional_path,
    read_history,
)
from ..zygote.client import Descriptors, Zygote, ZygoteDied
from ..zygote.plan import HistoryPaths
from .job_streams import JobStreams

_CLONE_ATTEMPTS = 5
"""Zygotes to try, if one after the other is killed."""

NO_HISTORY = -1

KILLED = "killed"
"""The stage of a failure: a signal, its number, ended the process before it executed the command."""


class MainProcess(NamedTuple):
    """What identifies a main process, also when its pid is reused: ``start`` is in clock ticks since boot.

    ``started_at`` is in seconds since 1970. ``pid`` 0: not cloned yet, or unknown.
    """

    pid: int = 0
    start: int = 0
    started_at: float = 0.0


class JobStart:
    """One start. ``on_executed`` or ``on_failed`` (stage, errno) is called once, after ``clone``."""

    def __init__(
        self,
        job: str,
        plan: SpawnPlan,
        history_path: str,
        generation: str,
        loop: Loop,
        on_executed: Callable[[], None],
        on_failed: Callable[[str, int], None],
    ) -> None:
        self.main = MainProcess()
        self.history = NO_HISTORY
        """The descriptor of the history after ``clone``, for the caller to close."""
        self.pending = False
        """Whether it is unknown yet if the command was executed."""
        self._job = job
        self._plan = plan
        self._history_path = history_path
        self._generation = generation
        self._loop = loop
        self._on_executed = on_executed
        self._on_failed = on_failed
        self._errors: int | None = None

    def clone(self, zygote: Zygote, streams: JobStreams) -> None:
        """Clone a child that records itself and executes the command; OSError if that fails.

        If the zygote dies, the clone is retried with another one.
        """
        now, timeout = boottime(), self._plan.spec.timeout
        deadline = None if timeout is None else now + timeout
        record = StartRecord(
            0, 0, procfs.boot_id(), time.time(), deadline, self._plan, streams.terminal.number
        )
        for attempt in range(_CLONE_ATTEMPTS - 1):
            with suppress(ZygoteDied):
                return self._attempt(attempt, record, zygote, streams)
        return self._attempt(_CLONE_ATTEMPTS - 1, record, zygote, streams)

    def _attempt(self, attempt: int, record: StartRecord, zygote: Zygote, streams: JobStreams) -> None:
        errors, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._errors = errors
        history = NO_HISTORY
        try:
            self._loop.watch(errors, self.check_exec)
            history = create_history(self._history_path, attempt, record, self._generation)
            reached(Step.HISTORY_MADE, self._job)
            pid = self._clone(attempt, zygote, streams, history, theirs)
        except BaseException:
            self._close()
            if history != NO_HISTORY:
                os.close(history)
            raise
        finally:
            os.close(theirs)
        reached(Step.CLONED, self._job)
        self.main = MainProcess(pid, 0, record.started_at)
        self.history, self.pending = history, True

    def _clone(self, attempt: int, zygote: Zygote, streams: JobStreams, history: int, errors: int) -> int:
        """Return the pid of a child, which records itself in this history."""
        paths = HistoryPaths(provisional_path(self._history_path, attempt), self._history_path)
        try:
            with streams.ends() as ends:
                return zygote.clone(self._plan, paths, Descriptors(history, errors, *ends), streams.held)
        except BaseException as error:
            with suppress(FileNotFoundError):
                os.unlink(paths.provisional)  # if there is a child, it cannot execute the command any more
            # Unless it has recorded itself before; only that of a zygote that died can have.
            recorded = read_history(self._history_path) if isinstance(error, ZygoteDied) else None
            if recorded is None:
                raise
            return recorded.start.pid

    def check_exec(self) -> None:
        """Read whether the command was executed, if that is known by now."""
        failure = self._read_errors()
        if failure is None:
            return
        self._close()
        stat = procfs.stat(self.main.pid)
        if failure:
            self._fail(failure)
        elif stat is None or not stat.before_exec:
            self._succeed(stat)
        # Otherwise it was killed, and ends at any moment: the signal is known then.

    def child_ended(self, ending: Ending) -> None:
        """Decide whether the command was executed: the child has ended, and is not reaped yet."""
        if not self.pending:
            return
        failure = self._read_errors()
        self._close()
        stat = procfs.stat(self.main.pid)
        if failure:
            self._fail(failure)
        elif stat is None or not stat.before_exec:
            self._succeed(stat)
        else:
            self.pending = False
            self._on_failed(KILLED, ending.number if isinstance(ending, Signaled) else 0)

    def _read_errors(self) -> str | None:
        """Return what the child has written before its end or exec; None if neither has happened."""
        if self._errors is None:
            return None
        try:
            return os.read(self._errors, 100).decode()
        except BlockingIOError:  # or the zygote has not closed its copy of the pipe yet
            return None

    def _fail(self, failure: str) -> None:
        self.pending = False
        stage, _, number = failure.rpartition(" ")
        self._on_failed(stage, int(number))

    def _succeed(self, stat: procfs.Stat | None) -> None:
        self.pending = False
        self.main = self.main._replace(start=stat.start if stat else 0)
        reached(Step.EXECUTED, self._job)
        self._on_executed()

    def _close(self) -> None:
        if self._errors is not None:
            self._loop.unwatch(self._errors)
            os.close(self._errors)
            self._errors = None
