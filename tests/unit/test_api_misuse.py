"""Clients that use HTTP/2 as no gRPC client does: the server accepts it, at no cost to other clients."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived
from hpack import Encoder

from worker.api.bounds import Bounds
from worker.api.grpc import connection
from worker.api.grpc.requests import WINDOW

from ..support.served import Served, serving

DATA, HEADERS, RST_STREAM, PING, ALTSVC, GREASE = 0x0, 0x1, 0x3, 0x6, 0xA, 0x1F
END_STREAM, END_HEADERS = 0x1, 0x4
MESSAGE = struct.pack(">BI", 0, 0)  # an empty HealthCheckRequest


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of any kind."""
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def headers(
    stream: int, *more: tuple[bytes, bytes], path: bytes = b"/grpc.health.v1.Health/Check"
) -> bytes:
    """Return the frame that begins a call, by default of Health/Check."""
    usual = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    return frame(HEADERS, END_HEADERS, stream, Encoder().encode([*usual, *more]))


class Bare:
    """A connection that sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        writer.write(self.h2.data_to_send())
        self.h2.send_headers(
            1, [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "")]
        )
        self.h2.clear_outbound_data_buffer()  # the test sends these frames itself

    async def status(self) -> str:
        """Return the gRPC status of the first call."""
        while data := await self.reader.read(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, ResponseReceived | TrailersReceived):
                    for name, value in event.headers:
                        if name == "grpc-status":
                            return str(value)
        return "the connection is closed"


@asynccontextmanager
async def bare(served: Served, receive_buffer: int = 65536) -> AsyncIterator[Bare]:
    """Connect, and close the connection at the end."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, (served.host, served.port))
    reader, writer = await asyncio.open_connection(
        sock=plain, ssl=served.context(), server_hostname=served.host, limit=65536
    )
    try:
        yield Bare(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "call",
    [
        frame(GREASE, 0, 0, b"x")
        + headers(1)
        + frame(GREASE, 7, 1, b"x")
        + frame(DATA, END_STREAM, 1, MESSAGE),
        frame(ALTSVC, 0, 0, b"\0\x01ah2=:1") + headers(1) + frame(DATA, END_STREAM, 1, MESSAGE),
        headers(1) + frame(DATA, 0, 1) * 1000 + frame(DATA, END_STREAM, 1, MESSAGE),
        headers(1)
        + frame(DATA, 0, 1, MESSAGE[:2])
        + frame(DATA, 0, 1)
        + frame(DATA, END_STREAM, 1, MESSAGE[2:]),
        headers(1) + frame(DATA, 0, 1, MESSAGE) + frame(DATA, END_STREAM, 1),
        headers(1, (b"some-bin", b"a")) + frame(DATA, END_STREAM, 1, MESSAGE),
        headers(1, (b"some", b"\xff\xfe")) + frame(DATA, END_STREAM, 1, MESSAGE),
    ],
    ids=["unknown", "altsvc", "empty", "empty within", "empty end", "not base64", "not ascii"],
)
async def test_frames_that_may_be_ignored_are_not_errors(
    pki: Path, caplog: pytest.LogCaptureFixture, call: bytes
) -> None:
    """With frames of extensions, empty frames or unusual metadata the call is still answered."""
    async with serving(pki) as served, bare(served) as client:
        client.writer.write(call)
        assert "0" == await asyncio.wait_for(client.status(), 30)

    assert [] == [each.message for each in caplog.records if each.levelno >= logging.WARNING]


async def test_unread_data_is_bounded(pki: Path) -> None:
    """A client can send only a little of each call before the server reads it."""
    async with serving(pki) as served, bare(served) as client:
        client.writer.write(headers(1) + frame(DATA, END_STREAM, 1, MESSAGE))
        assert "0" == await asyncio.wait_for(client.status(), 30)
        assert WINDOW == client.h2.remote_settings.initial_window_size


STREAM = b"/worker.v1.WorkerService/Stream"
ATTACH = b"/worker.v1.WorkerService/Attach"


@pytest.mark.parametrize("sent", [b"", frame(DATA, 0, 1, MESSAGE[:3])], ids=["nothing", "half of a prefix"])
@pytest.mark.parametrize("path", [STREAM, ATTACH, b"/worker.v1.WorkerService/Wait"])
async def test_a_request_that_does_not_arrive(pki: Path, path: bytes, sent: bytes) -> None:
    """A call whose request does not arrive ends after a timeout: 4 is DEADLINE_EXCEEDED."""
    bounds = Bounds(request_timeout=0.01)
    async with serving(pki, bounds=bounds) as served, bare(served) as client:
        client.writer.write(headers(1, path=path) + sent)
        assert "4" == await asyncio.wait_for(client.status(), 30)


async def test_streams_are_counted_before_their_request(pki: Path) -> None:
    """Open calls without a request are bounded as well: 8 is RESOURCE_EXHAUSTED."""
    async with serving(pki, bounds=Bounds(max_streams=0)) as served, bare(served) as client:
        client.writer.write(headers(1, path=STREAM))
        assert "8" == await asyncio.wait_for(client.status(), 30)


async def test_calls_that_are_reset_at_once_leave_nothing_behind(pki: Path) -> None:
    """This includes calls that had not begun: a connection may last for months."""
    async with serving(pki) as served, bare(served) as client:
        resets = [
            headers(stream) + frame(DATA, 0, stream, MESSAGE) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
            for stream in range(3, 403, 2)
        ]
        client.writer.write(headers(1) + b"".join(resets) + frame(DATA, END_STREAM, 1, MESSAGE))
        assert "0" == await asyncio.wait_for(client.status(), 30)
        [only] = served.server.connections
        assert {} == only.processor.streams


async def test_a_client_that_sends_and_does_not_read_is_disconnected(
    pki: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answers to its pings do not accumulate without bound (CVE-2019-9512)."""
    monkeypatch.setattr(connection, "MOST_UNREAD", 100_000)

    bounds = Bounds(ping_burst=1_000_000)
    async with serving(pki, bounds=bounds) as served, bare(served, receive_buffer=4096) as client:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionError):  # noqa: PT012 - either call may fail
            for _ in range(1000):
                client.writer.write(frame(PING, 0, 0, b"12345678") * 1000)
                await asyncio.wait_for(client.writer.drain(), 30)

    assert "closing the connection: the client sends requests and reads no answers" in caplog.text


@pytest.mark.parametrize(
    "malformed",
    [
        [(b":method", b"POST"), (b":scheme", b"https")],
        [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/x"), (b":path", b"/y")],
        [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/x"), (b":status", b"200")],
        [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/x"), (b"Te", b"trailers")],
        [],
    ],
    ids=["no path", "two paths", "unknown", "upper case", "empty"],
)
async def test_malformed_headers(pki: Path, malformed: list[tuple[bytes, bytes]]) -> None:
    """Their stream is reset, and the other calls of the connection go on (RFC 9113, section 8.1.1)."""
    async with serving(pki) as served, bare(served) as client:
        client.writer.write(
            headers(1)
            + frame(HEADERS, END_HEADERS, 3, Encoder().encode(malformed))
            + frame(DATA, END_STREAM, 1, MESSAGE)
        )
        assert "0" == await asyncio.wait_for(client.status(), 30)
        [only] = served.server.connections
        assert {} == only.processor.streams
