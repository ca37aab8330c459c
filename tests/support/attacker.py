"""A client that sends whatever bytes a test wants over TLS, and reads only when it is told to."""

import select
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, TrailersReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hpack import Encoder

from worker.api.tls import client_context

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0x0, 0x1, 0x2, 0x3, 0x4, 0x6, 0x8
GOAWAY, CONTINUATION, UNKNOWN = 0x7, 0x9, 0x1F
END_STREAM, END_HEADERS = 0x1, 0x4
ENHANCE_YOUR_CALM = 0xB
PATIENCE = 60.0
REQUEST = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
"""The headers of a call, without its path."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of any kind."""
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def message(data: bytes, size: int | None = None) -> bytes:
    """Return a gRPC message, which may announce another size than it has."""
    return struct.pack(">BI", 0, len(data) if size is None else size) + data


def call(stream: int, path: str) -> bytes:
    """Return the frame that begins a call, for a connection whose calls are all made so."""
    return frame(HEADERS, END_HEADERS, stream, Encoder().encode(_with_path(path)))


def _with_path(path: str) -> list[tuple[str, str]]:
    return [*REQUEST[:3], (":path", path), *REQUEST[3:]]


class Attacker:
    """A connection with the certificate of ``name``."""

    def __init__(
        self, port: int, pki: Path, name: str = "reader", *, window: int = 65535, alpn: str | None = "h2"
    ) -> None:
        context = client_context(
            ca=pki / "ca.crt", certificate=pki / f"{name}.crt", key=pki / f"{name}.key"
        )
        context.set_alpn_protocols([] if alpn is None else [alpn])
        plain = socket.create_connection(("127.0.0.1", port))
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self.socket.settimeout(PATIENCE)
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        if window != 65535:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.statuses: dict[int, str] = {}
        self.got: list[int] = []
        """The streams of the data frames that were read."""
        self.data = 0
        """The bytes in these frames."""
        self.goodbye: ConnectionTerminated | None = None
        self.closed = False
        self.flush()
        while self.h2.remote_settings.initial_window_size == 65535 and self.receive():
            self.flush()  # the server's settings are acknowledged

    def send(self, content: bytes) -> None:
        """Send bytes; nothing if the server has closed the connection."""
        with suppress(ConnectionError, ssl.SSLError):  # a write after one that failed has a "bad length"
            self.socket.sendall(content)

    def begin(self, stream: int, path: str, content: bytes | None = None, *, end: bool = False) -> None:
        """Begin a call, with some data; it is sent with the next ``flush``."""
        self.h2.send_headers(stream, _with_path(path))
        if content is not None:
            self.h2.send_data(stream, content, end_stream=end)

    def flush(self) -> None:
        """Send what the h2 library has queued."""
        self.send(self.h2.data_to_send())

    def receive(self) -> bool:
        """Read once, and note statuses and the GOAWAY; return whether the connection is open."""
        try:
            received = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            received = b""
        if not received:
            self.closed = True
            return False
        try:
            events = self.h2.receive_data(received)
        except ProtocolError:  # it does not know of calls that were made without it
            events = H2Connection(H2Configuration()).receive_data(received[_goodbye_in(received) :])
        for event in events:
            self._note(event)
        return True

    def until_closed(self) -> None:
        """Read until the server closes the connection."""
        while self.receive():
            pass

    def until_answered(self, *streams: int) -> None:
        """Read until these calls have a status."""
        while not self.statuses.keys() >= set(streams):
            assert self.receive(), "the server has closed the connection"

    def readable(self) -> bool:
        """Whether there is something to read."""
        return bool(self.socket.pending() or select.select([self.socket], [], [], 0)[0])

    def close(self) -> None:
        """Close the connection without a word."""
        self.socket.close()

    def _note(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goodbye = event
        elif isinstance(event, DataReceived):
            assert event.stream_id is not None
            self.got.append(event.stream_id)
            self.data += len(event.data)
        elif isinstance(event, ResponseReceived | TrailersReceived):
            fields = dict(event.headers or [])
            if "grpc-status" in fields:
                assert event.stream_id is not None
                text = f"{fields['grpc-status']} {fields.get('grpc-message', '')}"
                self.statuses[event.stream_id] = text


def _goodbye_in(received: bytes) -> int:
    """Return where the GOAWAY begins, or the end."""
    position = 0
    while position + 9 <= len(received) and received[position + 3] != GOAWAY:
        position += 9 + int.from_bytes(received[position : position + 3])
    return position


@contextmanager
def attacking(port: int, pki: Path, name: str = "reader", **options: object) -> Iterator[Attacker]:
    """Connect, and close the connection at the end."""
    attacker = Attacker(port, pki, name, **options)  # type: ignore[arg-type] # those of Attacker
    try:
        yield attacker
    finally:
        attacker.close()
