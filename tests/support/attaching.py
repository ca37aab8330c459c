"""Inputs for jobs, and what an attached client gets."""

import asyncio
from collections.abc import AsyncIterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from worker.api.attach_messages import ChannelChunk
from worker.client.attachment import AttachCall, AttachEvent, attach_call
from worker.client.client import Client
from worker.core.model.ending import Channel
from worker.core.model.input import InputState


class Typed:
    """An input whose pieces are chosen as the test goes on; ``size`` counts what was read."""

    def __init__(self, *pieces: bytes, ended: bool = False) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.size = 0
        self.type(*pieces)
        if ended:
            self.end()

    def type(self, *pieces: bytes) -> None:
        """Add to the input."""
        for piece in pieces:
            self._pieces.put_nowait(piece)

    def end(self) -> None:
        """End the input."""
        self._pieces.put_nowait(b"")

    async def read(self) -> bytes:
        """Return the next piece, as a client reads it."""
        piece = await self._pieces.get()
        self.size += len(piece)
        return piece


class Attached:
    """What an attached client got: output by channel, which must be contiguous, and the newest state."""

    def __init__(self, starts: dict[Channel, int] | None = None) -> None:
        self.output: dict[Channel, bytes] = {}
        self._positions = dict(starts or {})
        self.input = InputState()

    def add(self, event: AttachEvent) -> None:
        """Record an event."""
        if isinstance(event, InputState):
            self.input = event
            return
        position = self._positions.get(event.channel, event.chunk.offset)
        assert position == event.chunk.offset
        self._positions[event.channel] = position + len(event.chunk.data)
        self.output[event.channel] = self.output.get(event.channel, b"") + event.chunk.data

    async def all_of(self, events: AsyncIterable[AttachEvent]) -> "Attached":
        """Record all events."""
        async for event in events:
            self.add(event)
        return self


def output_of(events: Sequence[AttachEvent | None]) -> bytes:
    """Return the output in events."""
    return b"".join(each.chunk.data for each in events if isinstance(each, ChannelChunk))


def attach_once(client: Client, job: object, **arguments: Any) -> AbstractAsyncContextManager[AttachCall]:
    """Open a single call, whose requests and replies the test chooses."""
    return attach_call(client.calls._server.connection, str(job), **arguments)
