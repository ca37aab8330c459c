"""Sending replies: in turn, within the windows of the client, and no longer than the client's patience.

The private parts of grpclib in this module are listed in private-parts.md.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from betterproto2 import Message
from grpclib.protocol import Connection
from grpclib.server import Stream

from ...core.model.client_id import ClientId
from ...core.model.job import Chunk
from ..bounds import ClientStalled
from ..byte_budget import ByteBudget
from ..wire.encoding import varint
from .sending import PREFIX, Pieces, Wire, framed

MESSAGE_SIZE = 65520
"""Bytes of output in a message: four frames of 16 KiB, less 16 for the prefix and the fields' headers."""

_OUTPUT, _OFFSET, _TIME = b"\x0a", b"\x10", b"\x18"
"""The tags of StreamResponse.output, .offset and .time_ms."""


class Turn:
    """The order in which streams write chunks to one connection: first come, first served.

    When a window opens, grpclib wakes all waiting streams, always in the same order: without turns the
    first stream of a connection could use the whole window, and the others would starve.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.progress = 0.0
        """The loop's time of the last write."""


class ReplySender:
    """Sends the replies of one call; raises ClientStalled if the client opens no window."""

    _turns: ClassVar[WeakKeyDictionary[Connection, Turn]] = WeakKeyDictionary()

    def __init__(
        self, stream: Stream[Any, Any], patience: float, setting: str = "stalled_client_timeout"
    ) -> None:
        self._stream = stream
        self._setting = setting
        self._wire = Wire(stream)
        self._turn = self._turns.setdefault(self._wire.connection, Turn())
        self._patience = patience
        self._time = asyncio.get_running_loop().time
        self._begun = False

    async def send(self, chunk: Chunk) -> None:
        """Write a chunk as StreamResponse messages, once the client has a window for it.

        While a client does not read, only this chunk is in memory; no further output is read.
        """
        await self._write_in_turn(messages(chunk))

    async def send_output(self, message: Message) -> None:
        """Write a message that contains output, as ``send``."""
        await self._write_in_turn(framed(message))

    async def send_message(self, message: Message) -> None:
        """Write a message without output: it does not wait for the output of other calls."""
        await self.send_framed(framed(message))

    async def send_framed(self, rest: Pieces) -> None:
        """Write the pieces of a message, as ``send_message``."""
        await self._begin()
        while rest:
            since = self._time()
            await self._until(self._wire.stream_ready, since)
            await self._until(partial(self._wire.connection_ready, reserve=0), since)
            rest = self._wire.write(rest, reserve=0)

    async def _write_in_turn(self, rest: Pieces) -> None:
        await self._begin()
        while rest:
            since = self._time()
            await self._until(self._wire.stream_ready, since)
            async with self._turn.lock:
                # A stream that waited for its turn during a stall does not wait for the full time again.
                await self._until(self._wire.connection_ready, max(since, self._turn.progress))
                rest = self._wire.write(rest)
                self._turn.progress = self._time()

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._stream.send_initial_metadata()

    async def _until(self, ready: Callable[[], Awaitable[object] | None], since: float) -> None:
        """Wait until the wire is ready, at most until ``since`` plus the client's patience."""
        waiting = ready()
        if waiting is None:
            return
        try:
            async with asyncio.timeout_at(since + self._patience):
                while waiting is not None:
                    await waiting
                    waiting = ready()
        except TimeoutError:
            self._wire.abort_if_stuck()
            raise ClientStalled(self._patience, self._setting) from None


async def send_reply(
    stream: Stream[Any, Any], reply: bytes, budget: ByteBudget, client: ClientId, patience: float
) -> None:
    """Send the reply of a unary call and the status OK: one write where grpclib needs three.

    A reply that the client has no window for is kept for a while: raises QuotaExceeded if the client has
    left too much unread, and ClientStalled.
    """
    if Wire(stream).reply(reply):
        stream._send_initial_metadata_done = True  # noqa: SLF001 - as grpclib does
        stream._send_message_done = True  # noqa: SLF001
        stream._send_trailing_metadata_done = True  # noqa: SLF001
        return
    await send_counted(ReplySender(stream, patience, "reply_timeout"), reply, budget, client)
    stream._send_message_done = True  # noqa: SLF001 - grpclib sends the status


async def send_counted(sender: ReplySender, reply: bytes, budget: ByteBudget, client: ClientId) -> None:
    """Send an encoded reply, which counts for the client until it is written. Raises as ``send_reply``."""
    size = len(reply)
    if not budget.try_take(client, size):
        raise budget.refusal(client)
    try:
        await sender.send_framed([PREFIX.pack(0, size), reply])
    finally:
        budget.release(client, size)


def messages(chunk: Chunk) -> Pieces:
    """Return the pieces of a chunk's gRPC messages: StreamResponses with their prefixes.

    An empty chunk is a message too: its offset is where a tail begins, or where kept output begins.
    """
    pieces: Pieces = []
    data = memoryview(chunk.data)
    time = _TIME + varint(chunk.time_ms) if chunk.time_ms else b""
    for start in range(0, len(data) or 1, MESSAGE_SIZE):
        part = data[start : start + MESSAGE_SIZE]
        head = _OUTPUT + varint(len(part)) if part else b""
        offset = chunk.offset + start
        tail = (_OFFSET + varint(offset) if offset else b"") + time
        pieces += PREFIX.pack(0, len(head) + len(part) + len(tail)) + head, part, tail
    return pieces
