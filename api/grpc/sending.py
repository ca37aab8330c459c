"""Sending messages: one becomes HTTP/2 frames with one copy, sent with one write.

grpclib encodes a message, joins it with its prefix, and writes each frame of 16 KiB separately, after
h2 has made an object of it: three times the CPU (docs/explanation/performance.md). The private parts of
grpclib and h2 are used only in `Wire` (private-parts.md).
https://www.rfc-editor.org/rfc/rfc9113#name-data
"""

import struct
from collections.abc import Awaitable
from typing import Any

from betterproto2 import Message
from grpclib.client import Stream as ClientStream
from grpclib.server import Stream
from h2.exceptions import StreamClosedError
from h2.stream import H2Stream

from ..wire.encoding import encode

RESERVE = 4096
"""Bytes of a connection's window that output leaves to other calls. A client that makes a call between two
chunks does not read output meanwhile, and would never get an answer that waits behind it."""

PREFIX = struct.Struct(">BI")  # of a gRPC message: compressed or not, size
_HEADER = struct.Struct(">HBBBL")  # of a frame: size in 16 and 8 bits, type, flags, stream
_DATA = 0x0
_HEADERS = [(":status", "200"), ("content-type", "application/grpc+proto")]
_TRAILERS = [("grpc-status", "0")]
Pieces = list[bytes | memoryview]


class RequestSender:
    """Sends the requests of one call, after the first one."""

    def __init__(self, stream: Stream[Any, Any] | ClientStream[Any, Any]) -> None:
        self._wire = Wire(stream)

    async def send(self, message: Message) -> None:
        """Write a message, once the server has a window for it; StreamClosedError if the call has ended."""
        rest = framed(message)
        while rest:
            while waiting := self._wire.stream_ready() or self._wire.connection_ready(reserve=0):
                await waiting
            rest = self._wire.write(rest, reserve=0)


class Wire:
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

    def connection_ready(self, reserve: int = RESERVE) -> Awaitable[object] | None:
        """Return what to wait for until the connection accepts more, or None if it does now."""
        if not self.connection.write_ready.is_set():
            return self.connection.write_ready.wait()
        return None if self._h2.outbound_flow_control_window > reserve else self._window_update()

    def write(self, pieces: Pieces, reserve: int = RESERVE) -> Pieces:
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
        data = PREFIX.pack(0, len(message)) + message
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


def framed(message: Message) -> Pieces:
    """Return a gRPC message with its prefix."""
    data = encode(message)
    return [PREFIX.pack(0, len(data)), data]


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
