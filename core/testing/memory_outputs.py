"""An OutputStore in memory, and the sink that a FakeSpawner writes to."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ..errors import NoOutputKept, OutputUnavailable
from ..model.ending import Channel
from ..model.job import Extent, JobId
from ..ports import Sink, SinkKind


@dataclass(slots=True)
class MemorySink:
    """Output kept in memory: the last ``most`` bytes, 0: all; ``dropped`` bytes are no longer kept."""

    most: int = 0
    data: bytearray = field(default_factory=bytearray)
    dropped: int = 0
    watches: set["MemoryWatch"] = field(default_factory=set)

    @property
    def kind(self) -> SinkKind:
        """How it is written to: by ``write``."""
        return SinkKind.MEMORY

    @property
    def size(self) -> int:
        """How many bytes have ever been written."""
        return self.dropped + len(self.data)

    def write(self, data: bytes) -> None:
        """Append, and tell whoever watches."""
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
    """A Watch that loses no notice."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Wake whoever waits, now or next."""
        self._changed.set()

    async def changed(self) -> None:
        """Return when something has been written since the last call."""
        await self._changed.wait()
        self._changed.clear()


class MemoryOutputStore:
    """An OutputStore that lasts as long as its object."""

    def __init__(self) -> None:
        self._sinks: dict[JobId, dict[Channel, MemorySink]] = {}

    @property
    def sink_kind(self) -> SinkKind:
        """Sinks with a ``write``."""
        return SinkKind.MEMORY

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Make room for a new job's output."""
        sinks = {channel: MemorySink(most // len(channels)) for channel in channels}
        self._sinks[job] = sinks
        return dict(sinks)

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        """Return which bytes are kept."""
        sink = self._sink(job, channel)
        return Extent(sink.dropped, sink.size)

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``offset``, none at the end."""
        sink = self._sink(job, channel)
        if offset < sink.dropped:
            raise OutputUnavailable(f"output before byte {sink.dropped} is not kept", sink.dropped)
        start = offset - sink.dropped
        return bytes(sink.data[start : start + size])

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
        """Delete the output of every job that is none of these."""
        for job in self._sinks.keys() - set(keep):
            del self._sinks[job]

    async def close(self) -> None:
        """Keep the output: the store may be handed to another Worker."""

    def drop_before(self, job: JobId, channel: Channel, offset: int) -> None:
        """Delete the oldest output, as a store with a bound does."""
        sink = self._sink(job, channel)
        sink.drop(offset - sink.dropped)

    def _sink(self, job: JobId, channel: Channel) -> MemorySink:
        try:
            return self._sinks[job][channel]
        except KeyError:
            raise NoOutputKept(f"no {channel} of job {job} is kept") from None
