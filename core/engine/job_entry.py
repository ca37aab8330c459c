"""A job in the registry: its record, and the phase that it is in, with what the job has in that phase."""

import asyncio
from dataclasses import dataclass, field

from ..model.ending import Channel
from ..model.job import JobRecord, JobState
from ..ports import Process, Progress, Scope


@dataclass(slots=True, eq=False)
class Launching:
    """The launch task prepares and spawns the job; ``scope`` is set once its cgroups are prepared."""

    task: asyncio.Task[None] = field(init=False)
    scope: Scope | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """The job has a process.

    ``scope`` is None if its cgroups were not found at recovery, or are being removed at its end.
    ``updating`` serializes changes of the limits and the end of the job; ``finished`` is set once
    the job is Finished.
    """

    process: Process
    scope: Scope | None
    updating: asyncio.Lock = field(default_factory=asyncio.Lock)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    async def why_unfinished(self) -> str:
        """Return what is missing until the end of a job whose processes got SIGKILL."""
        left = ", ".join(f"{each.pid} in state {each.state}" for each in await self.process.survivors())
        if left:
            return f"process {left} remains; SIGKILL is repeated until it ends"
        if trouble := self.process.progress.output_trouble:
            return f"the rest of its output cannot be recorded: {trouble}"
        return "its output is still being recorded"


@dataclass(frozen=True, slots=True)
class Finished:
    """The record has the end of the job.

    ``kept_by_spawner``: the end is not journaled, or the spawner has not yet forgotten the job.
    """

    kept_by_spawner: bool


@dataclass(frozen=True, slots=True)
class Removing:
    """A finished job whose removal has begun: only a repeated start request still finds it."""

    kept_by_spawner: bool


Phase = Launching | Running | Finished | Removing

FINISHED = {kept: Finished(kept) for kept in (False, True)}
REMOVING = {kept: Removing(kept) for kept in (False, True)}
"""The values of these phases, by ``kept_by_spawner``: thousands of jobs share them."""


class JobEntry:
    """A job in the registry: its record, and the phase that it is in.

    A finished job has no process, scope, task, event or lock of its own. ``input_writer``: who has written
    last to its stdin, as far as this Worker has seen it (job_input.py).
    """

    __slots__ = ("input_writer", "phase", "record")

    def __init__(self, record: JobRecord, phase: Phase) -> None:
        self.record = record
        self.phase = phase
        self.input_writer = ""

    @property
    def progress(self) -> Progress:
        """The state of the job, as far as it is known now."""
        match self.phase:
            case Launching():
                return Progress(JobState.STARTING)
            case Running(process=process):
                return process.progress
            case Finished() | Removing():
                assert self.record.end is not None
                return Progress.at_end(self.record.end)

    @property
    def scope(self) -> Scope | None:
        """The cgroups of the job: None before they are prepared and after they are removed."""
        match self.phase:
            case Launching(scope=scope) | Running(scope=scope):
                return scope
            case Finished() | Removing():
                return None

    @property
    def is_finished(self) -> bool:
        """Whether the job has finished."""
        return isinstance(self.phase, Finished | Removing)

    async def wait_finished(self) -> None:
        """Return once a job that has been launched is finished."""
        if isinstance(self.phase, Running):
            await self.phase.finished.wait()

    def final_size(self, channel: Channel) -> int | None:
        """Return the size of all output in bytes, None while the job may write more."""
        return self.record.end.output.get(channel, 0) if self.record.end else None
