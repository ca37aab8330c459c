"""Receiving output: DATA frames go to the call that they are for without an object made of each.

h2 makes four objects of every frame of 16 KiB, and a text of its bytes for a log that nobody
keeps: most of what a client did (docs/performance.md). Everything but plain DATA frames still
goes through h2. What is touched here that grpclib and h2 do not document is all in this module;
tests/unit/test_api_receiving.py pins it. https://www.rfc-editor.org/rfc/rfc9113#name-data
"""

import asyncio
import struct
from collections.abc import Iterator
from time import monotonic

from h2.stream import H2Stream, StreamState

from .connections import Connection

_HEADER = struct.Struct(">HBBBL")  # of a frame: its size in 16 and 8 bits, type, flags, stream
_PLAIN_DATA = (0x0, 0x0)  # neither padded nor the last
_OTHER = 0


class ReceivingConnection(Connection):
    """A client's connection, quick with plain DATA frames."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, once the handshake is done on this side."""
        super().connection_made(transport)
        self._h2 = self.connection._connection  # noqa: SLF001 - see above
        self._begun = b""

    def data_received(self, data: bytes) -> None:
        """Take what the server sent: each run of frames goes one of two ways, all in order."""
        if self._begun:
            data = self._begun + data
        start = end = 0
        way = _OTHER
        for stream_id, start_of_frame, end_of_frame in _frames(data):
            if stream_id != way:
                self._receive(way, data, start, end)
                start, way = start_of_frame, stream_id
            end = end_of_frame
        self._receive(way, data, start, end)
        self._begun = data[end:]

    def _receive(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        """Do what h2 and grpclib do with frames; of DATA of one stream once for all of them."""
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
            super().data_received(data[start:end])  # too late, or too much: h2 knows what to do
            return
        self.connection.ping_ack_process()
        self._h2._inbound_flow_control_window_manager.window_consumed(size)  # noqa: SLF001 - see above
        stream._inbound_window_manager.window_consumed(size)  # noqa: SLF001 - see above
        if size:
            receiver.buffer.add(b"".join(payloads), size)
        receiver.data_received += size
        self.connection.data_received += size
        self.connection.last_data_received = monotonic()

    def _fits(self, stream: H2Stream, size: int) -> bool:
        """Whether there is nothing about these bytes that h2 would refuse."""
        return (
            stream.state_machine.state is StreamState.HALF_CLOSED_LOCAL
            and bool(stream.state_machine.headers_received)
            and stream._expected_content_length is None  # noqa: SLF001 - see above
            and size <= self._h2._inbound_flow_control_window_manager.current_window_size  # noqa: SLF001
            and size <= stream._inbound_window_manager.current_window_size  # noqa: SLF001
            and not self._h2.incoming_buffer._headers_buffer  # noqa: SLF001 - no frame may come between
        )


def _frames(data: bytes | memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield start and end of each whole frame, with its stream if it is plain DATA of usual size."""
    position = 0
    while len(data) - position >= _HEADER.size:
        high, low, kind, flags, stream_id = _HEADER.unpack_from(data, position)
        end = position + _HEADER.size + (high << 8 | low)
        if end > len(data):
            return
        usual = (kind, flags) == _PLAIN_DATA and end - position <= _HEADER.size + 16384
        yield stream_id if usual else _OTHER, position, end
        position = end
