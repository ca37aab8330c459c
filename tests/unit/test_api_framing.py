"""The frames of a chunk are those that h2 would send, for any windows; the private parts this relies on."""

import asyncio
import struct
from importlib.metadata import requires, version
from types import SimpleNamespace
from typing import Any

import pytest
from grpclib.config import Configuration
from grpclib.protocol import Connection, Peer
from grpclib.protocol import Stream as WireStream
from grpclib.server import Stream
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RemoteSettingsChanged, WindowUpdated
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from worker.api.bounds import ClientStalled
from worker.api.byte_budget import ByteBudget
from worker.api.grpc.codec import MessageCodec
from worker.api.grpc.framing import (
    MESSAGE_SIZE,
    ReplySender,
    messages,
    send_reply,
)
from worker.api.grpc.sending import Wire
from worker.core.errors import QuotaExceeded
from worker.core.model.client_id import ClientId
from worker.core.model.job import Chunk
from worker.proto.worker import AttachChunk, AttachInputState, AttachResponse, StreamResponse

CLIENT = ClientId("a", "CN=1")
STREAM = 1
PREFACE_WINDOW = 65535


class Transport(asyncio.Transport):
    """Records what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        """Record the data."""
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        """Whether abort was called."""
        return self.aborted

    def abort(self) -> None:
        """Record the call."""
        self.aborted = True


class Ends:
    """Both ends of a connection with one open stream: grpclib's server side, and h2 as the client."""

    def __init__(self, window: int = PREFACE_WINDOW, frame: int = 16384) -> None:
        self.client = H2Connection(H2Configuration(client_side=True))
        self.client.initiate_connection()
        self.client.update_settings(
            {SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.MAX_FRAME_SIZE: frame}
        )
        headers = [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "x")]
        self.client.send_headers(STREAM, headers, end_stream=True)
        self.server = H2Connection(H2Configuration(client_side=False))
        self.server.initiate_connection()
        self.server.receive_data(self.client.data_to_send())
        self.transport = Transport()
        self.connection = Connection(self.server, self.transport, config=Configuration().__for_server__())
        self.wire = WireStream(self.connection, self.server, self.transport, stream_id=STREAM)
        self.server.send_headers(STREAM, [(":status", "200")])
        self.connection.flush()
        self.received = b""
        self.deliver()

    def deliver(self) -> None:
        """Pass what was written to the client."""
        for data in self.transport.writes:
            for event in self.client.receive_data(data):
                if isinstance(event, DataReceived):
                    self.received += event.data
        self.transport.writes.clear()

    def grant(self, size: int, stream: int | None) -> None:
        """Open the client's window, of the stream or (None) of the connection."""
        self.client.increment_flow_control_window(size, stream)
        self.receive()

    def receive(self) -> None:
        """Pass what the client sent to the server."""
        for event in self.server.receive_data(self.client.data_to_send()):
            if isinstance(event, WindowUpdated | RemoteSettingsChanged):
                self.wire.window_updated.set()

    def windows(self) -> tuple[int, int]:
        """Return the bytes that the server may send: on the connection, on the stream."""
        return (
            self.server.outbound_flow_control_window,
            self.server.streams[STREAM].outbound_flow_control_window,
        )


class ServerStream:
    """The part of grpclib's server stream that the sender uses."""

    def __init__(self, ends: Ends) -> None:
        self._stream = ends.wire

    async def send_initial_metadata(self) -> None:
        """Do nothing: the headers have been sent."""


def sender(ends: Ends, patience: float = 60) -> ReplySender:
    """Return a sender to the client."""
    return ReplySender(ServerStream(ends), patience)  # type: ignore[arg-type]


def expected(chunk: Chunk) -> bytes:
    """Return the messages as betterproto2 and grpclib encode them."""
    whole = b""
    for start in range(0, len(chunk.data) or 1, MESSAGE_SIZE):
        data = chunk.data[start : start + MESSAGE_SIZE]
        reply = StreamResponse(output=data, offset=chunk.offset + start, time_ms=chunk.time_ms)
        message = bytes(reply)
        whole += struct.pack(">BI", 0, len(message)) + message
    return whole


@given(
    offset=st.integers(0, (1 << 64) - 1 - 200_000),
    size=st.integers(0, 200_000),
    time_ms=st.just(0) | st.integers(0, (1 << 63) - 1),
)
def test_messages_are_those_of_the_codec(offset: int, size: int, time_ms: int) -> None:
    """The hand-written encoding has the same bytes as that of a StreamResponse."""
    chunk = Chunk(offset, b"x" * size, time_ms)
    assert expected(chunk) == b"".join(messages(chunk))


@given(
    size=st.integers(1, 140_000),
    window=st.integers(0, 200_000),
    frame=st.sampled_from([16384, 20000, 65536, (1 << 24) - 1]),
    grants=st.lists(st.tuples(st.booleans(), st.integers(1, 70_000)), max_size=6),
)
async def test_frames_are_those_of_h2(
    size: int, window: int, frame: int, grants: list[tuple[bool, int]]
) -> None:
    """The client gets the same bytes and both sides agree on the windows, however the windows open."""
    ends = Ends(window, frame)
    chunk = Chunk(7, bytes(size))
    whole = expected(chunk)
    sending = asyncio.create_task(sender(ends).send(chunk))
    for on_stream, room in [*grants, (True, 200_000), (False, 200_000)]:
        await asyncio.sleep(0)
        ends.deliver()
        ends.grant(room, STREAM if on_stream else None)
    await sending
    ends.deliver()
    assert whole == ends.received
    twin = Ends(window, frame)
    for on_stream, room in [*grants, (True, 200_000), (False, 200_000)]:
        twin.grant(room, STREAM if on_stream else None)
    for start in range(0, len(whole), 16384):
        twin.server.send_data(STREAM, whole[start : start + 16384])
    assert twin.windows() == ends.windows()


async def test_a_chunk_is_one_write() -> None:
    """This holds for any number of frames: each write is a system call and a TLS record."""
    ends = Ends(window=1 << 20)
    ends.grant(1 << 20, None)
    await sender(ends).send(Chunk(0, bytes(2 * MESSAGE_SIZE)))
    assert 1 == len(ends.transport.writes)


async def test_a_reply_and_its_status_are_one_write() -> None:
    """With grpclib they are three."""
    ends = Ends()
    stream, budget = ServerStream(ends), ByteBudget(0, 0, "")
    ends.server.streams[STREAM].state_machine.headers_sent = False
    await send_reply(stream, b"something", budget, CLIENT, 0)  # type: ignore[arg-type]
    assert 1 == len(ends.transport.writes)
    assert stream._send_trailing_metadata_done  # type: ignore[attr-defined]


async def test_a_reply_waits_for_the_window_of_the_client() -> None:
    """Meanwhile it counts for the client; grpclib sends the status afterwards."""
    ends = Ends(window=10)
    stream, budget = ServerStream(ends), ByteBudget(20, 20, "")
    sending = asyncio.create_task(send_reply(stream, b"a long reply", budget, CLIENT, 60))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert 12 == budget.used
    ends.grant(100, STREAM)
    await sending
    ends.deliver()
    assert struct.pack(">BI", 0, 12) + b"a long reply" == ends.received
    assert (0, True) == (budget.used, stream._send_message_done)  # type: ignore[attr-defined]


async def test_a_reply_that_is_not_read_is_abandoned() -> None:
    """At once if the client leaves too much unread, otherwise after a while; the settings are named."""
    ends = Ends(window=10)
    stream, budget = ServerStream(ends), ByteBudget(20, 20, "max_reply_memory_per_client")
    with pytest.raises(ClientStalled, match="setting reply_timeout"):
        await send_reply(stream, b"a long reply", budget, CLIENT, 0.01)  # type: ignore[arg-type]
    assert 0 == budget.used
    with pytest.raises(QuotaExceeded, match="setting max_reply_memory_per_client, or its total"):
        await send_reply(stream, bytes(21), budget, CLIENT, 60)  # type: ignore[arg-type]


async def test_pending_frames_of_h2_go_first() -> None:
    """Frames that h2 has queued are neither lost nor overtaken."""
    ends = Ends()
    ends.server.ping(b"12345678")
    await sender(ends).send(Chunk(0, b"x"))
    [write] = ends.transport.writes
    assert write.startswith(b"\0\0\x08\x06")


async def test_nothing_is_written_to_a_closed_stream() -> None:
    """A reset by the client raises the same error as in grpclib."""
    ends = Ends()
    ends.client.reset_stream(STREAM)
    ends.receive()
    with pytest.raises(StreamClosedError):
        await sender(ends).send(Chunk(0, b"x"))
    assert [] == ends.transport.writes


@pytest.mark.parametrize("stuck", ["stream", "connection", "socket"])
async def test_a_client_that_opens_no_window_is_stalled(stuck: str) -> None:
    """Only a client that does not even read its socket loses its connection: no status can reach it."""
    ends = Ends(window=10 if stuck == "stream" else 1 << 20)
    if stuck == "socket":
        ends.connection.pause_writing()
    with pytest.raises(
        ClientStalled, match=r"has read too little output for 0.01 s \(setting stalled_client_timeout"
    ):
        await sender(ends, 0.01).send(Chunk(0, bytes(2 * MESSAGE_SIZE)))
    assert (stuck == "socket") == ends.transport.aborted


async def test_a_message_without_output_waits_for_no_output() -> None:
    """It uses the part of the window that output leaves free, and does not wait for its turn."""
    ends = Ends(window=1 << 20)
    output = asyncio.create_task(sender(ends).send(Chunk(0, bytes(2 * MESSAGE_SIZE))))
    await asyncio.sleep(0)
    waiting_at = ends.windows()[0]
    assert 0 < waiting_at < 5000
    message = AttachResponse(input=AttachInputState(accepted=7))
    await sender(ends).send_message(message)
    assert waiting_at - 5 - len(bytes(message)) == ends.windows()[0]
    ends.deliver()
    assert ends.received.endswith(struct.pack(">BI", 0, len(bytes(message))) + bytes(message))
    assert not output.done()
    output.cancel()
    await asyncio.gather(output, return_exceptions=True)


async def test_a_long_message_is_sent_as_the_window_opens() -> None:
    """Output of an attached client is split as that of a stream; the client must read in time."""
    ends = Ends(window=1000)
    message = AttachResponse(output=AttachChunk(offset=5, data=bytes(100_000)))
    whole = struct.pack(">BI", 0, len(bytes(message))) + bytes(message)
    sending = asyncio.create_task(sender(ends).send_output(message))
    while not sending.done():
        await asyncio.sleep(0)
        ends.deliver()
        ends.grant(10_000, None)
        ends.grant(10_000, STREAM)
    ends.deliver()
    assert whole == ends.received
    with pytest.raises(ClientStalled):
        await sender(Ends(window=10), 0.01).send_message(message)


async def test_streams_take_turns() -> None:
    """When a connection's window opens repeatedly, each of its streams gets its share."""
    ends = Ends(window=1 << 24)
    sent = []
    headers = [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "x")]
    wires = [ends.wire]
    for stream in (3, 5):
        ends.client.send_headers(stream, headers, end_stream=True)
        ends.receive()
        ends.server.send_headers(stream, [(":status", "200")])
        wires.append(WireStream(ends.connection, ends.server, ends.transport, stream_id=stream))

    async def send(wire: WireStream) -> None:
        ends.wire = wire
        one = sender(ends)
        while True:
            await one.send(Chunk(0, bytes(MESSAGE_SIZE)))
            sent.append(wire.id)

    tasks = [asyncio.create_task(send(wire)) for wire in wires]
    for _ in range(30):
        ends.grant(MESSAGE_SIZE + 8, None)
        for wire in wires:
            wire.window_updated.set()
        for _ in range(5):
            await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(sent) >= 29
    assert all(sent.count(wire.id) >= 9 for wire in wires)


# --- private parts of grpclib and h2: private-parts.md


def test_the_private_parts_are_unchanged() -> None:
    """Before you allow a new release, read private-parts.md: where they are used and why."""
    ends = Ends()
    wire = ends.wire
    assert wire._transport is ends.transport
    assert wire._h2_connection is ends.server
    assert wire.connection is ends.connection
    assert isinstance(wire.window_updated, asyncio.Event)
    assert isinstance(ends.connection.write_ready, asyncio.Event)
    assert isinstance(ends.server.outbound_flow_control_window, int)
    assert isinstance(ends.server._inbound_flow_control_window_manager.max_window_size, int)
    assert isinstance(ends.server.streams[STREAM].outbound_flow_control_window, int)
    assert ends.transport is Peer(ends.transport)._transport
    for name in ("_send_initial_metadata_done", "_send_message_done", "_send_trailing_metadata_done"):
        assert getattr(Stream, name) is False
    assert "application/grpc+proto" == Stream._content_type.fget(SimpleNamespace(_codec=MessageCodec()))  # type: ignore[attr-defined]
    assert Wire(ServerStream(ends)).connection is ends.connection  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["grpclib", "h2"])
def test_the_versions_are_bounded(name: str) -> None:
    """No release is installed whose private parts have not been checked; see private-parts.md."""
    [bound] = [
        each
        for each in map(Requirement, requires("systemd-wrapper") or [])
        if each.name == name and each.marker is None
    ]
    assert any(part.operator in {"<", "~=", "=="} for part in bound.specifier)
    assert bound.specifier.contains(version(name))
