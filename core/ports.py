"""What the core needs of the world, as protocols that adapters fulfil.

Each protocol has a suite in ``worker.core.testing`` that every adapter passes.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from .model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Lost,
)
from .model.job import (
    Extent,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
    PastRequest,
)
from .model.limits import ResourceLimits, ResourceUsage


class PlacementKind(StrEnum):
    """How a process can be put where its limits hold."""

    NONE = "none"
    CGROUPS = "cgroups"


@dataclass(frozen=True, slots=True)
class Placement:
    """All that is needed to place, end and watch the processes of one job: directories of cgroupfs.

    ``unified`` is a cgroup of v2: the main process is born in it, cgroup.kill and cgroup.events
    are used there. ``legacy`` are groups of v1 controllers, joined before the exec. ``oom_events``
    is a file with a line ``oom_kill N`` (memory.events on v2, memory.oom_control on v1).
    """

    unified: str | None = None
    legacy: tuple[str, ...] = ()
    oom_events: str | None = None

    @property
    def kind(self) -> PlacementKind:
        """Whether there is anything to be placed in."""
        return PlacementKind.CGROUPS if self.unified or self.legacy else PlacementKind.NONE


class Scope(Protocol):
    """The place prepared for one job, with its limits set."""

    @property
    def placement(self) -> Placement:
        """Where the job's processes are to be born."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What cannot be guaranteed here, in words for the user."""
        ...

    async def update(self, limits: ResourceLimits) -> None:
        """Replace the limits while the job runs.

        Raises LimitsUnsupported or LimitsRejected, and the limits are as they were then.
        """
        ...

    async def usage(self) -> ResourceUsage:
        """Return what has been used so far: once no process is left, in all."""
        ...

    async def remove(self) -> None:
        """Take the place down, and its usage with it. Idempotent; no process may be left."""
        ...


class ResourceLimiter(Protocol):
    """Makes places in which limits hold."""

    @property
    def kind(self) -> PlacementKind:
        """What kind of placement its scopes have."""
        ...

    async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> Scope:
        """Make a scope before anything runs, where children of the process ``parent`` can be placed.

        Raises LimitsUnsupported or LimitsRejected, and leaves nothing behind then.
        """
        ...

    async def reopen(self, job: JobId, placement: Placement) -> Scope | None:
        """Return the scope in which a job was placed, by whomever, or None if it is gone."""
        ...

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Remove every scope of this worker that belongs to none of these jobs."""
        ...

    async def close(self) -> None:
        """Let go of everything that is not in use by a job."""
        ...


class SinkKind(StrEnum):
    """What a spawner must do to have output recorded."""

    FIFO = "fifo"
    MEMORY = "memory"


class Sink(Protocol):
    """Where one channel of a job's output goes; which attributes it has depends on the kind."""

    @property
    def kind(self) -> SinkKind:
        """How it is written to."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come, as seen by whoever runs it.

    ``output_trouble`` as in JobStatus.
    """

    state: JobState
    ending: Ending | None = None
    cause: Cause = Cause.NONE
    output_trouble: str = ""

    @classmethod
    def at_end(cls, end: End) -> "Progress":
        """Return how far a job has come that is over."""
        state = JobState.LOST if isinstance(end.ending, Lost) else JobState.EXITED
        return cls(state, end.ending, end.cause)


@dataclass(frozen=True, slots=True)
class Survivor:
    """A process that is still there: its pid and the state letter of proc(5)."""

    pid: int
    state: str


class Process(Protocol):
    """A job that runs, or has ended and is not forgotten."""

    @property
    def pid(self) -> int:
        """The main process."""
        ...

    @property
    def started_at(self) -> float:
        """When the command was executed, in seconds since 1970."""
        ...

    @property
    def placement(self) -> Placement:
        """Where it was born."""
        ...

    @property
    def progress(self) -> Progress:
        """What is known at this moment, without asking anybody."""
        ...

    async def stop(self, signal: int, grace: float) -> None:
        """Ask for the end of every process of the job; a second stop joins the first.

        Returns when the request is taken; ``wait`` tells the end.
        """
        ...

    async def survivors(self) -> Sequence[Survivor]:
        """Return the processes of the job that are left."""
        ...

    async def wait(self) -> End:
        """Return how it ended, once no process is left and the output is complete.

        For any number of waiters; safe to cancel.
        """
        ...


class ProcessSpawner(Protocol):
    """Starts, ends and watches processes, also while the Worker itself is away."""

    @property
    def accepts(self) -> frozenset[PlacementKind]:
        """The kinds of placement it can put processes in."""
        ...

    @property
    def accepts_sinks(self) -> frozenset[SinkKind]:
        """The kinds of sink it can connect processes to."""
        ...

    async def parent(self) -> int:
        """Return the pid of the process whose children jobs are.

        A delegated control group that it lives in is where they can be placed.
        """
        ...

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        """Execute the command inside its placement.

        Raises SpawnFailed, and no instruction of the command has run then.
        """
        ...

    async def recover(self) -> Mapping[JobId, Process]:
        """Return what runs, and what has ended and is not forgotten."""
        ...

    async def forget(self, job: JobId) -> None:
        """Drop what is kept about a job whose end is journaled. Idempotent."""
        ...

    async def close(self) -> None:
        """Disconnect; jobs run on."""
        ...


class Watch(Protocol):
    """Tells when there may be more to read."""

    async def changed(self) -> None:
        """Return when output may have been added since the last call. A hint; safe to cancel."""
        ...

    def notify(self) -> None:
        """Have ``changed`` return, at once or when it is called next."""
        ...


class OutputStore(Protocol):
    """Keeps what jobs write."""

    @property
    def sink_kind(self) -> SinkKind:
        """The kind of its sinks."""
        ...

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Make room for a new job's output.

        At most ``most`` bytes are kept, an equal part for each channel, and at least half of that; the
        oldest go first. 0: all are kept. Raises QuotaExceeded when there is no room, StorageUnavailable
        when there is no writing at all.
        """
        ...

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        """Return which bytes are kept; raise NoOutputKept if there is no such channel."""
        ...

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``offset``, none at the end.

        Raises OutputUnavailable, with the first kept offset, for bytes that are no longer kept, and
        NoOutputKept if there is no such channel.
        """
        ...

    def watch(self, job: JobId) -> AbstractAsyncContextManager[Watch]:
        """Watch the job's output; what is written after entering is noticed."""
        ...

    async def remove(self, job: JobId) -> None:
        """Delete a job's output. Idempotent."""
        ...

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Delete the output of every job that is none of these."""
        ...

    async def close(self) -> None:
        """Let go of files and watches; what was written stays."""
        ...


class JobJournal(Protocol):
    """Remembers jobs across restarts. Raises JournalUnusable when it cannot."""

    async def load(self) -> Sequence[JobRecord]:
        """Return every record that can be read, oldest first."""
        ...

    @property
    def unreadable(self) -> Collection[JobId]:
        """The jobs whose records could not be read by ``load``: set aside, and left as they are."""
        ...

    async def put(self, record: JobRecord) -> None:
        """Insert or replace; the record survives the death of this process from here on."""
        ...

    async def remove(self, job: JobId, remember: PastRequest | None = None) -> None:
        """Drop a record, and in the same step remember the request that started it. Idempotent."""
        ...

    async def past_request(self, owner: str, request_id: str) -> PastRequest | None:
        """Return what is remembered of a request, None if nothing is."""
        ...

    async def forget_requests(self, before: float) -> None:
        """Drop the requests whose jobs were removed before this time, in seconds since 1970."""
        ...

    async def close(self) -> None:
        """Release what is held open."""
        ...


class Clock(Protocol):
    """Time: one to show, one to measure with."""

    def now(self) -> float:
        """Return seconds since 1970, for people; may jump."""
        ...

    def boottime(self) -> float:
        """Return seconds of CLOCK_BOOTTIME; never jumps, goes on during suspend."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
