"""The start of a job's main process: clone, record in the history, release, exec."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ...core.steps import Step, reached
from ..ipc.encoding import SpawnPlan
from ..ipc.event_loop import Loop, boottime
from ..kernel import procfs
from ..state.history import StartRecord, open_history, remove_history, write_start
from .birth import Newborn, Zygote, ZygoteDied
from .job_output import JobOutput

_CLONE_ATTEMPTS = 5
"""Zygotes to try, if one after the other is killed."""


class MainProcess(NamedTuple):
    """What identifies a main process, also when its pid is reused: ``start`` is in clock ticks since boot.

    ``started_at`` is in seconds since 1970. ``pid`` 0: not cloned yet, or unknown.
    """

    pid: int = 0
    start: int = 0
    started_at: float = 0.0


class JobStart:
    """One start. ``on_executed`` or ``on_failed`` (stage, errno) is called once, after ``release``."""

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
        self._job = job
        self._plan = plan
        self._history_path = history_path
        self._generation = generation
        self._loop = loop
        self._on_executed = on_executed
        self._on_failed = on_failed
        self._child: Newborn | None = None

    @property
    def pending(self) -> bool:
        """Whether the child waits for its release or for exec."""
        return self._child is not None

    def clone(self, zygote: Zygote, output: JobOutput) -> None:
        """Clone a child that is recorded and waits; OSError if that fails.

        If the zygote dies, the clone is retried with another one.
        """
        for _ in range(_CLONE_ATTEMPTS - 1):
            with suppress(ZygoteDied):
                return self._clone(zygote, output)
            remove_history(self._history_path)  # a child that may exist writes into an unlinked file
        return self._clone(zygote, output)

    def _clone(self, zygote: Zygote, output: JobOutput) -> None:
        history = open_history(self._history_path)
        try:
            child = zygote.bear(self._plan, output.stdout, output.stderr, history)
            self._record(child, history)
        finally:
            os.close(history)

    def _record(self, child: Newborn, history: int) -> None:
        reached(Step.CLONED, self._job)
        self._child = child
        self.main = MainProcess(child.pid, 0, time.time())
        try:
            self._loop.watch(child.errors, self.check_exec)
            self._write_start(history)
        except OSError:
            self._close()  # without its release the child exits
            raise

    def _write_start(self, history: int) -> None:
        stat = procfs.stat(self.main.pid)
        self.main = self.main._replace(start=stat.start if stat else 0)
        timeout = self._plan.spec.timeout
        deadline = None if timeout is None else boottime() + timeout
        pid, start, started_at = self.main
        record = StartRecord(pid, start, procfs.boot_id(), started_at, deadline, self._plan)
        write_start(self._history_path, history, record, self._generation)

    def release(self) -> None:
        """Let the child execute the command: its history is on disk."""
        assert self._child is not None
        reached(Step.RECORDED, self._job)
        with suppress(BrokenPipeError):  # it has failed already, and reports the reason
            os.write(self._child.release, b"!")
        reached(Step.RELEASED, self._job)

    def check_exec(self) -> None:
        """Read whether the command was executed, if that is known by now."""
        if self._child is None:
            return
        try:
            failure = os.read(self._child.errors, 100)
        except BlockingIOError:
            return
        self._close()
        if failure:
            stage, _, number = failure.decode().rpartition(" ")
            self._on_failed(stage, int(number))
        else:
            reached(Step.EXECUTED, self._job)
            self._on_executed()

    def _close(self) -> None:
        assert self._child is not None
        self._loop.unwatch(self._child.errors)
        os.close(self._child.errors)
        os.close(self._child.release)
        self._child = None
