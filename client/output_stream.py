"""The output of a job over any number of connections: each byte once."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from ..api import translate
from ..core.model.channel import Channel
from ..core.model.job import Chunk
from ..core.model.stream_start import FromOffset, StreamStart
from ..core.model.stream_times import StreamTimes
from ..proto import worker
from .calls import method
from .connection import Connection


class OutputStream:
    """A stream that keeps its position; each call of `chunks` continues where the previous one ended."""

    def __init__(
        self, job: str, channel: Channel | None, start: StreamStart, times: StreamTimes, *, follow: bool
    ) -> None:
        self._job = job
        self._channel = channel
        self._start = start
        self._times = times
        self._follow = follow

    async def chunks(self, connection: Connection) -> AsyncGenerator[Chunk, None]:
        """Make a call, and yield what it returns."""
        request = translate.stream_request(
            self._job, self._channel, self._start, self._times, follow=self._follow
        )
        call = connection.replies(method("Stream"), request, worker.StreamResponse, _chunk)
        async with aclosing(call) as chunks:
            async for chunk in chunks:
                # A tail or a time is resolved once: the first chunk, maybe empty, has its offset.
                self._start = FromOffset(chunk.offset + len(chunk.data))
                self._times = replace(self._times, since_ms=None)
                yield chunk


def _chunk(reply: worker.StreamResponse) -> Chunk:
    return Chunk(reply.offset, reply.output, reply.time_ms)
