"""The fast path for DATA frames has the same result as h2 and grpclib (private-parts.md)."""

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from grpclib.client import Handler
from grpclib.config import Configuration
from grpclib.utils import Wrapper
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.api.grpc.connection import Http2Connection
from worker.api.grpc.message_buffer import ReplyBuffer
from worker.api.grpc.receiving import ReceivingConnection

from ..support.examples import examples

if TYPE_CHECKING:
    from grpclib.protocol import Stream


class Recorder(asyncio.Transport):
    """A transport that records what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Record the data."""
        self.written += data

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Record the call."""
        self.closed = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""

    def get_write_buffer_size(self) -> int:
        """Return 0: nothing waits for the socket."""
        return 0


class End:
    """A client's end with two calls."""

    def __init__(self, kind: type[Http2Connection]) -> None:
        config = Configuration().__for_client__()
        self.transport = Recorder()
        self.protocol = kind(Handler(), config, H2Configuration(client_side=True, header_encoding="ascii"))
        self.protocol.connection_made(self.transport)
        self.streams: list[Stream] = []

    async def call(self) -> None:
        """Begin both calls."""
        for _ in range(2):
            stream = self.protocol.connection.create_stream(wrapper=Wrapper())
            headers = [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "x")]
            await stream.send_request(headers, end_stream=True, _processor=self.protocol.processor)
            self.streams.append(stream)

    def state(self) -> list[Any]:
        """Return everything that callers and the server can observe."""
        h2 = self.protocol.connection._connection
        seen: list[Any] = [
            self.transport.closed,
            self.transport.written,
            h2._inbound_flow_control_window_manager.current_window_size,
        ]
        for stream in self.streams:
            buffer = stream.buffer
            assert isinstance(buffer, ReplyBuffer)
            known = h2.streams.get(stream.id)
            seen += [
                bytes(buffer._data),
                buffer._owed,
                buffer._ended,
                stream.headers,
                stream.trailers,
                known and known._inbound_window_manager.current_window_size,
                known and known.closed,
            ]
        return seen


steps = st.lists(
    st.tuples(
        st.sampled_from(["data", "data", "data", "padded", "empty", "ping", "end", "reset"]),
        st.sampled_from([1, 3]),
        st.integers(1, 16384),
    ),
    max_size=12,
)


@settings(max_examples=examples(150))
@given(steps=steps, cuts=st.lists(st.integers(0, 120_000), max_size=6))
async def test_the_result_is_that_of_the_libraries(
    steps: list[tuple[str, int, int]], cuts: list[int]
) -> None:
    """For any frames, split anywhere, the result is the same as with the libraries alone."""
    ends = [End(Http2Connection), End(ReceivingConnection)]
    for end in ends:
        await end.call()
    data = sent_by_a_server(ends[0].transport.written, steps)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, stop in pairwise(places):
        for end in ends:
            end.protocol.data_received(data[start:stop])
    assert ends[0].state() == ends[1].state()
    for end in ends:
        end.protocol.connection_lost(None)


def sent_by_a_server(received: bytes, steps: list[tuple[str, int, int]]) -> bytes:
    """Return the bytes of a server that takes these steps, as far as they are allowed."""
    server = H2Connection(H2Configuration(client_side=False, header_encoding="ascii"))
    server.initiate_connection()
    server.receive_data(received)
    begun: set[int] = set()
    ended: set[int] = set()
    for kind, stream, size in steps:
        if kind == "ping":
            server.ping(b"12345678")
        elif stream not in begun:
            server.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
            begun.add(stream)
        elif stream not in ended:
            send(server, kind, stream, size)
            if kind in {"end", "reset"}:
                ended.add(stream)
    return server.data_to_send()


def send(server: H2Connection, kind: str, stream: int, size: int) -> None:
    """Send something on an open stream."""
    match kind:
        case "data":
            server.send_data(stream, bytes([stream, size % 256]) * (size // 2))
        case "padded":
            server.send_data(stream, b"p" * (size // 2), pad_length=size % 256)
        case "empty":
            server.send_data(stream, b"")
        case "end":
            server.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        case "reset":
            server.reset_stream(stream)


async def test_data_for_a_call_that_has_ended() -> None:
    """h2 rejects it, as without the fast path."""
    ends = [End(Http2Connection), End(ReceivingConnection)]
    frame = b"\0\0\4\0\0" + b"\0\0\0\1" + b"late"
    for end in ends:
        await end.call()
        end.protocol.connection._connection.reset_stream(1)
        end.protocol.data_received(b"\0\0\0\4\0\0\0\0\0" + frame)
    assert ends[0].state() == ends[1].state()
    for end in ends:
        end.protocol.connection_lost(None)
