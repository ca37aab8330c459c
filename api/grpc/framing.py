"""Sending replies and input: a message becomes HTTP/2 frames with one copy, sent with one write.

grpclib encodes a message, joins it with its prefix, and writes each frame of 16 KiB separately, after
h2 has made an object of it: three times the CPU (docs/performance.md). The private parts of grpclib
and h2 are used only in `_Wire` and `send_reply` (docs/private-parts.md).
https://www.rfc-editor.org/rfc/rfc9113#name-data
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from betterproto2 import Message
from grpclib.client import Stream as ClientStream
from grpclib.protocol import Connection
from grpclib.server import Stream
from h2.exceptions import StreamClosedError
from h2.stream import H2Stream

from ...core.model.job import Chunk
from ..bounds import ClientStalled
from ..wire.encoding import encode, varint

MESSAGE_SIZE = 65520
"""Bytes of output in a message: four frames of 16 KiB, less 16 for the prefix and the fields' headers."""

_RESERVE = 4096
"""Bytes of a connection's window that output leaves to other calls. A client that makes a call between two
chunks does not read output meanwhile, and would never get an answer that waits behind it."""

_PREFIX = struct.Struct(">BI")  # of a gRPC message: compressed or not, size
_HEADER = struct.Struct(">HBBBL")  # of a frame: size in 16 and 8 bits, type, flags, stream
_DATA = 0x0
_HEADERS = [(":status", "200"), ("content-type", "application/grpc+proto")]
_TRAILERS = [("grpc-status", "0")]
Pieces = list[bytes | memoryview]
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

    def __init__(self, stream: Stream[Any, Any], patience: float) -> None:
        self._stream = stream
        self._wire = _Wire(stream)
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
        await self._write_in_turn(_framed(message))

    async def send_message(self, message: Message) -> None:
        """Write a message without output: it does not wait for the output of other calls."""
        await self._begin()
        rest = _framed(message)
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
            raise ClientStalled(self._patience) from None


class RequestSender:
    """Sends the requests of one call, after the first one."""

    def __init__(self, stream: Stream[Any, Any] | ClientStream[Any, Any]) -> None:
        self._wire = _Wire(stream)

    async def send(self, message: Message) -> None:
        """Write a message, once the server has a window for it; StreamClosedError if the call has ended."""
        rest = _framed(message)
        while rest:
            while waiting := self._wire.stream_ready() or self._wire.connection_ready(reserve=0):
                await waiting
            rest = self._wire.write(rest, reserve=0)


async def send_reply(stream: Stream[Any, Any], message: Message) -> None:
    """Send the reply of a unary call and the status OK: one write where grpclib needs three."""
    if not _Wire(stream).reply(encode(message)):
        await stream.send_message(message)
        return
    stream._send_initial_metadata_done = True  # noqa: SLF001 - as grpclib does
    stream._send_message_done = True  # noqa: SLF001
    stream._send_trailing_metadata_done = True  # noqa: SLF001


class _Wire:
    """One stream of grpclib, below its messages."""

    def __init__(self, stream: Stream[Any, Any] | ClientStream[Any, Any]) -> None:
        self._wire = stream._stream  # noqa: SLF001 - see the module
        self._transport = self._wire._transport  # noqa: SLF001
        self._h2 = self._wire._h2_connection  # noqa: SLF001
        self.connection = self._wire.connection
        assert self._wire.id is not None
        self._id = self._wire.id

    def stream_ready(self) -> Awaitable[object] | None:
        """Return what to wait for until the client opens this stream's window, or None if it is open."""
        return None if self._open().outbound_flow_control_window > 0 else self._window_update()

    def connection_ready(self, reserve: int = _RESERVE) -> Awaitable[object] | None:
        """Return what to wait for until the connection accepts more, or None if it does now."""
        if not self.connection.write_ready.is_set():
            return self.connection.write_ready.wait()
        return None if self._h2.outbound_flow_control_window > reserve else self._window_update()

    def write(self, pieces: Pieces, reserve: int = _RESERVE) -> Pieces:
        """Write as much as the windows allow, with one write, and return the rest."""
        stream = self._open()
        size = sum(map(len, pieces))
        room = min(stream.outbound_flow_control_window, self._h2.outbound_flow_control_window - reserve)
        room = max(0, room)  # a window may be negative: settings can reduce it
        rest: Pieces = []
        if size > room:
            pieces, rest = _split(pieces, room)
            size = room
        pieces = _frames(pieces, size, self._h2.max_outbound_frame_size, self._id)
        # The same as h2's send_data, without an object and three copies of each frame.
        stream.outbound_flow_control_window -= size
        self._h2.outbound_flow_control_window -= size
        self._transport.write(b"".join((self._h2.data_to_send(), *pieces)))
        self.connection.data_sent += size
        self.connection.data_send_process()
        return rest

    def reply(self, message: bytes) -> bool:
        """Write the reply and the status of a unary call at once; return False if there is no room now."""
        window = min(self._open().outbound_flow_control_window, self._h2.outbound_flow_control_window)
        data = _PREFIX.pack(0, len(message)) + message
        if len(data) > min(window, self._h2.max_outbound_frame_size):
            return False
        if not self.connection.write_ready.is_set():
            return False
        self._h2.send_headers(self._id, _HEADERS)
        self._h2.send_data(self._id, data)
        self._h2.send_headers(self._id, _TRAILERS, end_stream=True)
        self._transport.write(self._h2.data_to_send())
        self.connection.headers_send_process()
        self.connection.data_send_process()
        return True

    def abort_if_stuck(self) -> None:
        """Close a connection whose peer reads nothing at all: no status can reach it."""
        if not self.connection.write_ready.is_set():
            self._transport.abort()

    def _open(self) -> H2Stream:
        if not self._wire.closable:
            raise StreamClosedError(self._id)
        return self._h2.streams[self._id]

    async def _window_update(self) -> None:
        self._wire.window_updated.clear()
        await self._wire.window_updated.wait()


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
        pieces += _PREFIX.pack(0, len(head) + len(part) + len(tail)) + head, part, tail
    return pieces


def _framed(message: Message) -> Pieces:
    """Return a gRPC message with its prefix."""
    data = encode(message)
    return [_PREFIX.pack(0, len(data)), data]


def _split(pieces: Pieces, size: int) -> tuple[Pieces, Pieces]:
    """Split after ``size`` bytes, without copying."""
    for index, piece in enumerate(pieces):
        if len(piece) > size:
            view = memoryview(piece)
            return [*pieces[:index], view[:size]], [view[size:], *pieces[index + 1 :]]
        size -= len(piece)
    return pieces, []


def _frames(pieces: Pieces, size: int, longest: int, stream_id: int) -> Pieces:
    """Return ``size`` bytes as frames, none longer than the client accepts."""
    if 0 < size <= longest:
        return [_header(size, stream_id), *pieces]
    whole = memoryview(b"".join(pieces))
    frames: Pieces = []
    for start in range(0, size, longest):
        data = whole[start : start + longest]
        frames += _header(len(data), stream_id), data
    return frames


def _header(size: int, stream_id: int) -> bytes:
    return _HEADER.pack(size >> 8, size & 0xFF, _DATA, 0, stream_id)
