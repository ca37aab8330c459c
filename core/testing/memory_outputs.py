"""An OutputStore in memory, and the sink that a FakeSpawner writes to."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from ..errors import NoOutputKept, OutputUnavailable
from ..model.ending import Channel
from ..model.job import Extent, JobId, Stamp
from ..ports import Sink, SinkKind


@dataclass(slots=True)
class MemorySink:
    """One channel in memory: the last ``most`` bytes, 0: all; ``dropped`` is the first kept offset.

    ``now`` returns the wall clock time in seconds; ``stamps`` has the time of each write.
    """

    most: int = 0
    now: Callable[[], float] = time.time
    stamps: list[Stamp] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    dropped: int = 0
    watches: set["MemoryWatch"] = field(default_factory=set)

    @property
    def kind(self) -> SinkKind:
        """How it is written to: by ``write``."""
        return SinkKind.IN_PROCESS

    @property
    def size(self) -> int:
        """The number of bytes written, including the dropped ones."""
        return self.dropped + len(self.data)

    def write(self, data: bytes) -> None:
        """Append data, drop the oldest beyond the bound, and notify all watches."""
        if data:
            self.stamps.append(Stamp(self.size, int(self.now() * 1000)))
        self.data += data
        if self.most and len(self.data) > self.most:
            self.drop(len(self.data) - self.most)
        for watch in self.watches:
            watch.notify()

    def drop(self, count: int) -> None:
        """Delete the oldest bytes."""
        del self.data[:count]
        self.dropped += count


class MemoryWatch:
    """A Watch that loses no notification."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Make the current or the next call of ``changed`` return."""
        self._changed.set()

    async def changed(self) -> None:
        """Return when output has been written since the last call."""
        await self._changed.wait()
        self._changed.clear()


class MemoryOutputStore:
    """An OutputStore that lasts as long as its object; ``now`` is the wall clock."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self._sinks: dict[JobId, dict[Channel, MemorySink]] = {}

    @property
    def sink_kind(self) -> SinkKind:
        """Objects with a ``write``."""
        return SinkKind.IN_PROCESS

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Create one sink for each channel of a new job."""
        sinks = {channel: MemorySink(most // len(channels), self.now) for channel in channels}
        self._sinks[job] = sinks
        return dict(sinks)

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        """Return the kept range."""
        sink = self.sink(job, channel)
        return Extent(sink.dropped, sink.size)

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``offset``, none at the end."""
        sink = self.sink(job, channel)
        if offset < sink.dropped:
            raise OutputUnavailable(f"output before byte {sink.dropped} is not kept", sink.dropped)
        start = offset - sink.dropped
        return bytes(sink.data[start : start + size])

    async def times(self, job: JobId, channel: Channel, offset: int, size: int) -> Sequence[Stamp]:
        """Return when the bytes of a range were written."""
        sink = self.sink(job, channel)
        if offset < sink.dropped:
            raise OutputUnavailable(f"output before byte {sink.dropped} is not kept", sink.dropped)
        ends = [each.offset for each in sink.stamps[1:]] + [sink.size]
        return [
            Stamp(max(offset, stamp.offset), stamp.time_ms)
            for stamp, end in zip(sink.stamps, ends, strict=True)
            if stamp.offset < offset + size and offset < end
        ]

    async def offset_at(self, job: JobId, channel: Channel, time_ms: int) -> int:
        """Return the offset of the first kept byte written at this time or later; without one, the end."""
        sink = self.sink(job, channel)
        found = next((each.offset for each in sink.stamps if each.time_ms >= time_ms), sink.size)
        return max(found, sink.dropped)

    @asynccontextmanager
    async def watch(self, job: JobId) -> AsyncIterator[MemoryWatch]:
        """Watch all channels of a job."""
        watch = MemoryWatch()
        sinks = list(self._sinks.get(job, {}).values())
        for sink in sinks:
            sink.watches.add(watch)
        try:
            yield watch
        finally:
            for sink in sinks:
                sink.watches.discard(watch)

    async def remove(self, job: JobId) -> None:
        """Delete a job's output. Idempotent."""
        self._sinks.pop(job, None)

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Delete the output of all other jobs."""
        for job in self._sinks.keys() - set(keep):
            del self._sinks[job]

    async def close(self) -> None:
        """Keep the output: another Worker may use this store."""

    @contextmanager
    def deleted(self, job: JobId) -> Iterator[None]:
        """Behave as if a job's output had been deleted; on exit new output of the job is kept again."""
        sinks = self._sinks.pop(job)
        yield
        self._sinks[job] = sinks

    def drop_before(self, job: JobId, channel: Channel, offset: int) -> None:
        """Drop the output before an offset, as a store with a bound does."""
        sink = self.sink(job, channel)
        sink.drop(offset - sink.dropped)

    @property
    def jobs(self) -> AbstractSet[JobId]:
        """The jobs that have output in this store."""
        return self._sinks.keys()

    def sink(self, job: JobId, channel: Channel = Channel.OUTPUT) -> MemorySink:
        """Return the sink of a channel, so that a test can write in place of the job."""
        try:
            return self._sinks[job][channel]
        except KeyError:
            raise NoOutputKept(f"no {channel} of job {job} is kept") from None
