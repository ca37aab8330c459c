"""The ports: protocols that adapters implement.

Every adapter must pass the contract suite of its port in ``worker.core.testing``.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from .model.ending import (
    Cause,
    Channel,
    End,
    Ending,
    Lost,
)
from .model.input import InputState
from .model.job import (
    Extent,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
    PastRequest,
    Stamp,
)
from .model.limits import ResourceLimits, ResourceUsage
from .model.terminal import WindowSize


class PlacementKind(StrEnum):
    """What a limiter prepares for a job, and what a spawner must do with it.

    NONE: nothing; the limiter enforces no limit. CGROUPS: directories of cgroupfs (``Placement``); the
    spawner places the main process in each of them before the command's first instruction.
    """

    NONE = "none"
    CGROUPS = "cgroups"


@dataclass(frozen=True, slots=True)
class Placement:
    """The cgroup directories of a job: all data needed to place, kill and watch its processes.

    ``unified`` is a v2 cgroup: the main process is created in it; cgroup.kill and cgroup.events are
    used there. ``legacy`` are v1 cgroups, joined before the exec. ``oom_events`` is a file with a line
    ``oom_kill N`` (memory.events on v2, memory.oom_control on v1).
    """

    unified: str | None = None
    legacy: tuple[str, ...] = ()
    oom_events: str | None = None

    @property
    def kind(self) -> PlacementKind:
        """Whether there is anything to be placed in."""
        return PlacementKind.CGROUPS if self.unified or self.legacy else PlacementKind.NONE


class Scope(Protocol):
    """The cgroups prepared for one job, with its limits set."""

    @property
    def placement(self) -> Placement:
        """Where the processes of the job are placed."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """Guarantees that do not hold on this host, as messages for the user."""
        ...

    async def update(self, limits: ResourceLimits) -> None:
        """Replace the limits of a running job.

        Raises LimitsUnsupported, LimitsRejected, or LimitBelowUsage, a LimitsRejected that states how
        much memory the job uses; the limits are unchanged then.
        """
        ...

    async def usage(self) -> ResourceUsage:
        """Return the usage until now; once no process remains, the total."""
        ...

    async def remove(self) -> None:
        """Remove the cgroups and with them the usage. Idempotent; no process may remain."""
        ...


class ResourceLimiter(Protocol):
    """Prepares scopes, in which limits are enforced.

    It cannot place a process: the spawner does. Nor can it know when a scope can be removed and its usage
    is final: the spawner reports with ``Process.wait`` that no process is left.
    """

    @property
    def kind(self) -> PlacementKind:
        """The kind of placement of its scopes."""
        ...

    async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> Scope:
        """Prepare the scope of a job that ``parent``, a pid, will start, before any of its processes runs.

        Raises LimitsUnsupported or LimitsRejected; nothing is left behind then.
        """
        ...

    async def reopen(self, job: JobId, placement: Placement) -> Scope | None:
        """Return the existing scope with this placement, None if there is none."""
        ...

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Remove the scopes of all other jobs of this worker."""
        ...

    async def close(self) -> None:
        """Release everything that is not in use by a job."""
        ...


class SinkKind(StrEnum):
    """What a spawner must do with a sink, by the class of the sink.

    RECORDED_FIFO: ``RecordedFifo``. APPENDED_FILE: ``AppendedFile``. IN_PROCESS: ``InProcessSink``.
    A spawner and a store of the same author may use another string for a kind of their own.
    """

    RECORDED_FIFO = "recorded-fifo"
    APPENDED_FILE = "appended-file"
    IN_PROCESS = "in-process"


class Sink(Protocol):
    """Where a spawner sends one channel of a job's output."""

    @property
    def kind(self) -> str:
        """One of SinkKind, or a kind of the adapter's own."""
        ...


@dataclass(frozen=True, slots=True)
class RecordedFifo:
    """A FIFO that the spawner's recorder empties into segment files, whatever happens to the server.

    The store creates the FIFO at ``path`` and the directory. The job has the FIFO as its stdout or stderr;
    the spawner unlinks it when the job is forgotten. A segment is the file ``CHANNEL-OFFSET`` in
    ``directory``: OFFSET is that of its first byte in the channel, in decimal. A segment that holds
    ``segment_size`` bytes is followed by another. The latest ``most_segments`` are kept, including the one
    that is being written; 0: all. At least one segment exists from the first byte on, and its name and size
    give the end of the channel. No other job may use ``directory`` for the same channel.

    ``times``: the recorder also keeps when the bytes were written, in files ``CHANNEL.times-OFFSET`` of the
    same directory (linux/state/time_entries.py). For each segment they have at most a sixteenth of
    ``segment_size``, but 4096 bytes if that is more.
    """

    path: str
    directory: str
    segment_size: int
    most_segments: int = 0
    times: bool = False

    def __post_init__(self) -> None:
        _check_absolute(self.path)
        _check_absolute(self.directory)
        if self.segment_size < 1 or self.most_segments < 0:
            raise ValueError(f"segments of {self.segment_size} bytes, {self.most_segments} of them")

    @property
    def kind(self) -> SinkKind:
        """How it is written to."""
        return SinkKind.RECORDED_FIFO


@dataclass(frozen=True, slots=True)
class AppendedFile:
    """A regular file that the job itself appends to: its stdout or stderr, opened O_WRONLY | O_APPEND.

    The store creates the file; the job's first byte goes to ``start``, the size of the file at that time.
    The output is complete when no process of the job is left. Such a file cannot be bounded, a full disk is
    an error of the job (ENOSPC), and a job can truncate its own output.
    """

    path: str
    start: int = 0

    def __post_init__(self) -> None:
        _check_absolute(self.path)
        if self.start < 0:
            raise ValueError(f"the output begins at {self.start}; must be 0 or more")

    @property
    def kind(self) -> SinkKind:
        """How it is written to."""
        return SinkKind.APPENDED_FILE


@runtime_checkable
class InProcessSink(Sink, Protocol):
    """An object that the spawner writes to, in the process of the Worker: for fakes and embedded use.

    Output that a job writes while no Worker runs is lost, unless the spawner keeps it.
    """

    @property
    def size(self) -> int:
        """How many bytes have been written since the sink was made."""
        ...

    def write(self, data: bytes) -> None:
        """Append the bytes, and wake the watches."""
        ...


def _check_absolute(path: str) -> None:
    if not path.startswith("/"):  # the supervisor has another working directory
        raise ValueError(f"{path!r} is not an absolute path")


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job, as reported by its spawner.

    ``output_trouble`` and ``paused`` are as in JobStatus.
    """

    state: JobState
    ending: Ending | None = None
    cause: Cause = Cause.NONE
    output_trouble: str = ""
    paused: bool = False

    @classmethod
    def at_end(cls, end: End) -> "Progress":
        """Return the progress of a finished job."""
        state = JobState.LOST if isinstance(end.ending, Lost) else JobState.EXITED
        return cls(state, end.ending, end.cause)


@dataclass(frozen=True, slots=True)
class Survivor:
    """A process of a job that has not ended: its pid and its state letter (proc(5))."""

    pid: int
    state: str


class Process(Protocol):
    """A job that runs, or has ended and is not yet forgotten."""

    @property
    def pid(self) -> int:
        """The pid of the main process."""
        ...

    @property
    def started_at(self) -> float:
        """The time of the exec in seconds since 1970."""
        ...

    @property
    def placement(self) -> Placement:
        """The placement that it was spawned with."""
        ...

    @property
    def progress(self) -> Progress:
        """The current progress, without a round trip."""
        ...

    async def stop(self, signal: int, grace: float) -> None:
        """End every process of the job; a second stop joins the first.

        The main process gets the signal first and the others later (core/termination.py); SIGKILL follows
        after ``grace`` s. Returns when the request is accepted; ``wait`` returns the end.
        """
        ...

    async def survivors(self) -> Sequence[Survivor]:
        """Return the processes of the job that have not ended."""
        ...

    async def wait(self) -> End:
        """Return the end, once no process remains and the output is complete.

        Supports any number of concurrent waiters; safe to cancel.
        """
        ...


class SignalableProcess(Process, Protocol):
    """A Process of which single processes can be signalled: an optional capability of a spawner."""

    async def stop(self, signal: int, grace: float, *, signal_all: bool = False) -> None:
        """As in Process; ``signal_all``: signal every process at once."""
        ...

    async def signal(self, number: int, *, all_processes: bool = False) -> None:
        """Send a signal to the main process, or to all, and do nothing else; never twice.

        Raises ActionRefused if that is not permitted.
        """
        ...


class PausableProcess(Process, Protocol):
    """A Process that can be frozen: an optional capability of a spawner.

    ``Progress.paused`` shows it. A stop and the timeout thaw it; the timeout counts meanwhile.
    """

    async def pause(self) -> None:
        """Freeze every process of the job; idempotent.

        Raises ActionRefused if the host cannot, or if the processes are being ended.
        """
        ...

    async def resume(self) -> None:
        """Thaw every process of the job; idempotent."""
        ...


class InteractiveProcess(Process, Protocol):
    """A Process that can pass bytes to its stdin: an optional capability of a spawner.

    For jobs whose spec has ``stdin``. Accepted bytes reach the job once and in order, whether or not the
    Worker is still there. Every method may be repeated.
    """

    async def input(self) -> InputState:
        """Return how much was accepted so far, also by an earlier Worker."""
        ...

    async def write_input(self, offset: int, data: bytes) -> InputState:
        """Accept the bytes from ``offset`` on, without those that were accepted before.

        Waits while too many bytes wait to be read by the job; once the job reads no more, they are
        discarded. Raises InputMisplaced if there is a gap before ``offset``, or if the input has ended
        before the last of the bytes.
        """
        ...

    async def end_input(self, offset: int) -> InputState:
        """End the input: after ``offset`` bytes the job reads the end of the file.

        Raises InputMisplaced unless exactly this many bytes were accepted.
        """
        ...


class TerminalProcess(Process, Protocol):
    """A Process that may have a terminal: an optional capability of a spawner."""

    async def resize(self, size: WindowSize) -> None:
        """Change the size of the terminal, of a job whose spec has one; the kernel sends SIGWINCH."""
        ...


class ProcessSpawner(Protocol):
    """Starts, stops and watches processes, also while no Worker is running.

    It enforces no limit: the limiter does, by the placement. Without cgroups it cannot guarantee that no
    process of an ended job is left, and counts no OOM kills. It cannot keep output after the job: the store
    does, and only a sink that does not depend on the Worker (not IN_PROCESS) receives all of it.
    """

    @property
    def accepts(self) -> frozenset[PlacementKind]:
        """The kinds of placement that it supports."""
        ...

    @property
    def accepts_sinks(self) -> frozenset[str]:
        """The kinds of sink that it writes to: of SinkKind, or of its own."""
        ...

    async def parent(self) -> int:
        """Return the pid of the parent process of all jobs.

        If it is in a delegated cgroup, the jobs can be placed below that.
        """
        ...

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        """Execute the command inside its placement, with its output connected to the sinks.

        Raises SpawnFailed, and InvalidJobSpec for what the spawner cannot apply, such as ``user`` or
        ``ulimits``; no instruction of the command has run then.
        """
        ...

    async def recover(self) -> Mapping[JobId, Process]:
        """Return all jobs that run, or have ended and are not yet forgotten."""
        ...

    async def forget(self, job: JobId) -> None:
        """Delete the state of a job whose end is journaled. Idempotent."""
        ...

    async def close(self) -> None:
        """Disconnect; jobs keep running."""
        ...


class Watch(Protocol):
    """Notifies of new output."""

    async def changed(self) -> None:
        """Return when output may have been written since the last call. A hint; safe to cancel."""
        ...

    def notify(self) -> None:
        """Make the current or the next call of ``changed`` return."""
        ...


class OutputStore(Protocol):
    """Stores the output of jobs.

    It cannot know that the output of a job is complete: the spawner reports that in ``End.output``, with
    the exact size of each channel. Whether output survives a crash of the server depends on what writes
    to the sink.
    """

    @property
    def sink_kind(self) -> str:
        """The kind of all its sinks: one of SinkKind, or a kind of its own."""
        ...

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Prepare the output of a new job and return one sink for each channel.

        The store keeps at most ``most`` bytes, divided equally among the channels, and at least half of
        that, discarding the oldest; 0 keeps all. Raises InvalidJobSpec if the store cannot bound output,
        QuotaExceeded if there is no space, StorageUnavailable if the storage cannot be written.
        """
        ...

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        """Return the kept range; raise NoOutputKept if there is no such channel."""
        ...

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``offset``, and no bytes only at the end.

        Raises OutputUnavailable, with the first kept offset, for bytes that are no longer kept, and
        NoOutputKept if there is no such channel.
        """
        ...

    def watch(self, job: JobId) -> AbstractAsyncContextManager[Watch]:
        """Watch a job's output for writes after entering the context."""
        ...

    async def remove(self, job: JobId) -> None:
        """Delete a job's output. Idempotent."""
        ...

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Delete the output of all other jobs."""
        ...

    async def close(self) -> None:
        """Close files and watches; the output is kept."""
        ...


class TimedOutputStore(OutputStore, Protocol):
    """An OutputStore that keeps when output was written: an optional capability.

    A time may be up to 100 ms too early, or more for older output, and is never later than the end of the
    write. If the wall clock was set back, later bytes have earlier times.
    """

    async def times(self, job: JobId, channel: Channel, offset: int, size: int) -> Sequence[Stamp]:
        """Return when bytes that ``read`` has returned were written, in order of their offsets.

        The first stamp has the given offset; all are among the ``size`` bytes from there. Raises
        OutputUnavailable and NoOutputKept as ``read`` does, and TimesNotKept.
        """
        ...

    async def offset_at(self, job: JobId, channel: Channel, time_ms: int) -> int:
        """Return the offset of the first kept byte written at this time or later; without one, the end.

        If the clock was set back, one such byte whose predecessor was written before that time. Raises
        NoOutputKept, and TimesNotKept if it is not known which byte that is.
        """
        ...


class JobJournal(Protocol):
    """Stores job records across restarts. Every method may raise JournalUnusable."""

    async def load(self) -> Sequence[JobRecord]:
        """Return every readable record, oldest first."""
        ...

    @property
    def unreadable(self) -> Collection[JobId]:
        """The jobs whose records ``load`` could not read; these records are set aside unchanged."""
        ...

    async def put(self, record: JobRecord) -> None:
        """Insert or replace a record; once this returns, the record survives a crash of this process."""
        ...

    async def remove(self, job: JobId, remember: PastRequest | None = None) -> None:
        """Delete a record and store its start request, atomically. Idempotent."""
        ...

    async def past_request(self, owner: str, request_id: str) -> PastRequest | None:
        """Return the stored start request, None if there is none."""
        ...

    async def forget_requests(self, before: float) -> None:
        """Delete the requests whose jobs were removed before this time in seconds since 1970."""
        ...

    async def close(self) -> None:
        """Close the journal."""
        ...


class Clock(Protocol):
    """The wall clock, for display, and a clock to measure time with."""

    def now(self) -> float:
        """Return the wall clock time in seconds since 1970; it may jump."""
        ...

    def boottime(self) -> float:
        """Return CLOCK_BOOTTIME in seconds; it never jumps and includes time in suspend."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""
        ...
