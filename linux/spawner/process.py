"""A job as the server sees it: what its supervisor has reported."""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

from ...core.errors import ActionRefused
from ...core.lifecycle import Whom
from ...core.model.ending import Cause, End, Lost
from ...core.model.input import InputState
from ...core.model.job import JobId, JobState
from ...core.model.terminal import WindowSize
from ...core.ports import Placement, Progress, Survivor
from ..ipc.encoding import end_from_message, ending_from_message, placement_from_message
from ..kernel import procfs
from ..state.history import HistoryUnreadable, read_history
from ..state.job_directory import history_path
from .pipe_size import set_pipe_size
from .spooled_input import SpooledInput

_FREEZE_TIMEOUT = 2.0
_FREEZE_INTERVAL = 0.01
"""Seconds that a pause waits until all processes are frozen, and seconds between checks."""


class Caller(Protocol):
    """Sends requests to the supervisor of a job."""

    async def call(self, job: JobId, do: str, **arguments: object) -> dict[str, Any]:
        """Send a request that may be repeated, and return the answer."""

    async def call_once(self, job: JobId, do: str, **arguments: object) -> dict[str, Any]:
        """Send a request that must not be repeated, and return the answer."""


class SupervisedProcess:
    """A Process. It holds the FIFOs and a pidfd of the main process open: both outlive the supervisor."""

    def __init__(self, caller: Caller, job: JobId, generation: str, directory: str) -> None:
        self.job = job
        self.pid = 0
        self.started_at = 0.0
        self.placement = Placement()
        self.progress = Progress(JobState.RUNNING)
        self.generation = generation
        self.pidfd: int | None = None
        self._caller = caller
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._fifos: list[int] = []
        self._resumes = 0
        self._directory = directory

    async def stop(self, signal: int, grace: float, *, signal_all: bool = False) -> None:
        await self._caller.call(
            self.job, "stop", signal=int(signal), grace=float(grace), signal_all=signal_all
        )

    async def signal(self, number: int, *, all_processes: bool = False) -> None:
        whom = Whom.ALL if all_processes else Whom.MAIN
        _accepted(await self._caller.call_once(self.job, "signal", signal=int(number), whom=whom))

    async def pause(self) -> None:
        deadline, resumes = time.monotonic() + _FREEZE_TIMEOUT, self._resumes
        while not _accepted(await self._caller.call(self.job, "pause"))["frozen"]:
            if time.monotonic() > deadline:  # a process in an uninterruptible system call freezes after it
                return
            await asyncio.sleep(_FREEZE_INTERVAL)
            if self._resumes != resumes:  # another request would undo the resume
                return

    async def resume(self) -> None:
        self._resumes += 1
        _accepted(await self._caller.call(self.job, "resume"))

    @cached_property
    def _input(self) -> SpooledInput:
        """Made when it is used: most jobs have no input."""
        return SpooledInput(self._directory, self._report_input)

    async def input(self) -> InputState:
        return await self._input.state()

    async def set_input_writer(self, writer: str) -> None:
        await self._input.set_writer(writer)

    async def write_input(self, offset: int, data: bytes) -> InputState:
        return await self._input.write(offset, data)

    async def end_input(self, offset: int) -> InputState:
        return await self._input.end(offset)

    async def resize(self, size: WindowSize) -> None:
        _accepted(await self._caller.call(self.job, "resize", rows=size.rows, columns=size.columns))

    async def _report_input(self, end: int | None) -> Mapping[str, Any] | None:
        answer = await self._caller.call(self.job, "input", end=end)
        return answer.get("input")

    async def survivors(self) -> Sequence[Survivor]:
        answer = await self._caller.call(self.job, "survivors")
        return [Survivor(pid, state) for pid, state in answer["survivors"]]

    async def wait(self) -> End:
        return await asyncio.shield(self._end)

    @property
    def has_ended(self) -> bool:
        """Whether the end is known."""
        return self._end.done()

    def hold_fifos(self, paths: Iterable[str], size: int | None = None) -> None:
        """Hold the FIFOs open: the bytes in them then outlive supervisor and recorder.

        ``size`` is for FIFOs that no other process has open yet, see ``set_pipe_size``.
        """
        for path in paths:
            with suppress(FileNotFoundError):
                self._fifos.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
                if size is not None:
                    set_pipe_size(self._fifos[-1], size)

    def apply(self, message: Mapping[str, Any]) -> None:
        """Apply what the supervisor reports."""
        if "pid" in message:
            self.pid, self.started_at = message["pid"], message["started_at"]
        if "input" in message:
            self._input.apply(message["input"])
        if "placement" in message:
            self.placement = placement_from_message(message["placement"])
        if "end" in message:
            self.set_end(end_from_message(message["end"]))
            return
        if "start" in message:
            self._hold_process(self.pid, message["start"])
        if "state" in message:
            ending = ending_from_message(message["ending"])
            trouble = message.get("output_trouble", "")
            paused = message.get("paused", False)
            cause = Cause(message["cause"])
            self.progress = Progress(JobState(message["state"]), ending, cause, trouble, paused)

    def resume_input(self) -> None:
        """Pass on input that an earlier server has accepted."""
        self._input.resume()

    def hold_unreported(self, directory: str) -> None:
        """Hold the main process, if it was started and its supervisor died before it reported that."""
        if self.pid:
            return
        with suppress(HistoryUnreadable):
            history = read_history(history_path(directory))
            if history is not None:
                self._hold_process(history.start.pid, history.start.start)

    def set_end(self, end: End) -> None:
        """Set the end, wake all waiters, and close all descriptors. Idempotent."""
        if not self._end.done():
            self.progress = Progress.at_end(end)
            self._end.set_result(end)
        self.close()

    def set_lost(self, reason: str, at: float) -> None:
        """Set the end of a lost job."""
        self.set_end(End(Lost(reason), Cause.NONE, 0, {}, at))

    def close(self) -> None:
        """Close all descriptors. Idempotent."""
        if "_input" in vars(self):  # it was used
            self._input.close()
        for fd in self._fifos:
            os.close(fd)
        self._fifos.clear()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def _hold_process(self, pid: int, start: int) -> None:
        """Hold a pidfd of the main process: it gives the exit code even after another process reaped it."""
        if self.pidfd is not None:
            return
        with suppress(OSError):  # it has ended, or no descriptor is free: continue without the pidfd
            pidfd = os.pidfd_open(pid)
            same = False
            try:
                same = procfs.is_process(pid, start)
            finally:
                if same:
                    self.pidfd = pidfd
                else:
                    os.close(pidfd)


def _accepted(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request; raise ActionRefused if it was refused."""
    if "refused" in answer:
        raise ActionRefused(answer["refused"])
    if "error" in answer:  # an unknown request
        raise ActionRefused(
            "the supervisor of this job is of an earlier version, which cannot do this; "
            "jobs started from now on have a new one"
        )
    return answer
