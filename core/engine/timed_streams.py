"""Streams that are limited by time, or whose chunks have times."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from ..errors import NoOutputKept, OutputUnavailable
from ..model.channel import Channel
from ..model.job import Chunk, Extent, JobId
from ..model.stream_times import StreamTimes
from ..ports import Clock, TimedOutputStore
from .following import StreamEnd
from .waiting import occurs_before

LONGEST_SLEEP = 60.0
"""Seconds after which the wall clock is read again: it may have been set."""


class TimedStream:
    """One stream of a job's output, as far as times concern it."""

    def __init__(
        self, outputs: TimedOutputStore, job: JobId, channel: Channel, times: StreamTimes, clock: Clock
    ) -> None:
        self._outputs = outputs
        self._job = job
        self._channel = channel
        self._times = times
        self._clock = clock
        self.begun = times.since_ms is None
        """Whether the byte with which the stream begins is known; before, chunks are skipped."""

    async def start(self, offset: int, extent: Extent) -> int:
        """Return the later of this offset and the first byte since the requested time.

        That is 0 if such bytes may have been discarded: the gap to the first kept byte shows it. ``begun``
        stays False if no such byte is there yet.
        """
        if self._times.since_ms is None:
            return offset
        try:
            found = await self._outputs.offset_at(self._job, self._channel, self._times.since_ms)
        except NoOutputKept:  # deleted while the job runs
            found = extent.end
        self.begun = found < extent.end
        return max(offset, 0 if self.begun and found <= extent.first else found)

    def end(self, end: StreamEnd) -> StreamEnd:
        """Return the end of the stream: that of the job, or when the time is over."""
        if self._times.until_ms is None:
            return end

        return StreamEnd(
            lambda: occurs_before(end.wait(), self._wait_over()),
            lambda: 0 if self._seconds_left() < 0 else end.size(),
        )

    async def select(self, chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
        """Yield the requested part of the chunks, divided where the time changes if they need times."""
        async with aclosing(chunks):
            async for chunk in chunks:
                if not chunk.data or not self._needs_times:
                    if self.begun:
                        yield chunk
                    del chunk
                    continue
                for part in await self._divided(chunk):
                    if self._times.until_ms is not None and part.time_ms > self._times.until_ms:
                        return
                    self.begun = self.begun or part.time_ms >= (self._times.since_ms or 0)
                    if self.begun:
                        yield part if self._times.timestamps else Chunk(part.offset, part.data)
                    del part
                del chunk

    @property
    def _needs_times(self) -> bool:
        return self._times.timestamps or self._times.until_ms is not None or not self.begun

    async def _divided(self, chunk: Chunk) -> Iterable[Chunk]:
        """Return the chunk in parts with one time each, without bytes that were discarded meanwhile.

        Each part is made when it is asked for: one of them is in memory besides the chunk.
        """
        offset, data = chunk.offset, chunk.data
        while data:
            try:
                stamps = await self._outputs.times(self._job, self._channel, offset, len(data))
            except NoOutputKept:  # deleted while the job runs
                break
            except OutputUnavailable as error:
                if error.first is None or error.first <= offset:
                    raise
                data = data[error.first - offset :]
                offset = error.first
                continue
            ends = [stamp.offset for stamp in stamps[1:]] + [offset + len(data)]
            return (
                Chunk(stamp.offset, data[stamp.offset - offset : end - offset], stamp.time_ms)
                for stamp, end in zip(stamps, ends, strict=True)
            )
        return ()

    async def _wait_over(self) -> None:
        while (left := self._seconds_left()) >= 0:
            await self._clock.sleep(min(left, LONGEST_SLEEP) + 0.001)

    def _seconds_left(self) -> float:
        return (self._times.until_ms or 0) / 1000 - self._clock.now()
