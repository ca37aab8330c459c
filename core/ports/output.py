"""The port of output: sinks, which a spawner writes to, and the store that keeps and reads it."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from ..model.ending import (
    Channel,
)
from ..model.job import (
    Extent,
    JobId,
    Stamp,
)


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
