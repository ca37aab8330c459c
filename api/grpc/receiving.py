"""Receiving output: DATA frames reach their call without an object for each of them.

h2 makes four objects of every frame of 16 KiB, and formats its bytes for a log that is disabled: most
of a client's CPU time (docs/explanation/performance.md). All frames except plain DATA still go through
h2. The private parts of grpclib and h2 in this module are listed in private-parts.md;
tests/unit/test_api_receiving.py compares the result with that of the libraries.
https://www.rfc-editor.org/rfc/rfc9113#name-data
"""

import asyncio
import struct
from collections.abc import Iterator
from time import monotonic

from h2.stream import H2Stream, StreamState

from .connection import Http2Connection

_HEADER = struct.Struct(">HBBBL")  # of a frame: size in 16 and 8 bits, type, flags, stream
_PLAIN_DATA = (0x0, 0x0)  # neither padded nor the last
_OTHER = 0


class ReceivingConnection(Http2Connection):
    """A client's connection with a fast path for plain DATA frames."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start HTTP/2; the TLS handshake is complete on this side."""
        super().connection_made(transport)
        self._h2 = self.connection._connection  # noqa: SLF001 - see the module
        self._incomplete = b""

    def data_received(self, data: bytes) -> None:
        """Process what the server sent: each run of frames takes one of two paths, all in order."""
        if self._incomplete:
            data = self._incomplete + data
        start = end = 0
        path = _OTHER
        for stream_id, start_of_frame, end_of_frame in _frames(data):
            if stream_id != path:
                self._receive(path, data, start, end)
                start, path = start_of_frame, stream_id
            end = end_of_frame
        self._receive(path, data, start, end)
        self._incomplete = data[end:]

    def _receive(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        """Process frames as h2 and grpclib do; the DATA frames of one stream all at once."""
        if start == end:
            return
        if stream_id == _OTHER or self.connection.is_closing():
            super().data_received(data[start:end])
            return
        frames = memoryview(data)[start:end]
        payloads = [frames[first + _HEADER.size : last] for _, first, last in _frames(frames)]
        size = sum(map(len, payloads))
        stream = self._h2.streams.get(stream_id)
        receiver = self.processor.streams.get(stream_id)
        if stream is None or receiver is None or not self._fits(stream, size):
            super().data_received(data[start:end])  # too late, or too much: h2 handles it
            return
        self.connection.ping_ack_process()
        self._h2._inbound_flow_control_window_manager.window_consumed(size)  # noqa: SLF001
        stream._inbound_window_manager.window_consumed(size)  # noqa: SLF001
        if size:
            receiver.buffer.add(b"".join(payloads), size)
        receiver.data_received += size
        self.connection.data_received += size
        self.connection.last_data_received = monotonic()

    def _fits(self, stream: H2Stream, size: int) -> bool:
        """Whether h2 would accept these bytes."""
        return (
            stream.state_machine.state is StreamState.HALF_CLOSED_LOCAL
            and bool(stream.state_machine.headers_received)
            and stream._expected_content_length is None  # noqa: SLF001
            and size <= self._h2._inbound_flow_control_window_manager.current_window_size  # noqa: SLF001
            and size <= stream._inbound_window_manager.current_window_size  # noqa: SLF001
            and not self._h2.incoming_buffer._headers_buffer  # noqa: SLF001 - no frame may come between
        )


def _frames(data: bytes | memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield stream, start and end of each complete frame; the stream is _OTHER unless it is plain DATA."""
    position = 0
    while len(data) - position >= _HEADER.size:
        high, low, kind, flags, stream_id = _HEADER.unpack_from(data, position)
        end = position + _HEADER.size + (high << 8 | low)
        if end > len(data):
            return
        usual = (kind, flags) == _PLAIN_DATA and end - position <= _HEADER.size + 16384
        yield stream_id if usual else _OTHER, position, end
        position = end
