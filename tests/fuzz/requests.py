"""Fuzz HTTP/2 sessions of a writer, and decoding: every message is valid or malformed."""

import asyncio
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["worker.api", "h2", "hpack", "hyperframe", "grpclib"]):
    from h2.config import H2Configuration
    from h2.connection import H2Connection

    from worker.api import certificates
    from worker.api.bounds import Bounds
    from worker.api.server import ApiServer
    from worker.api.server_tls import ServerTls
    from worker.api.tls import pem_certificates
    from worker.api.wire.decoding import MalformedMessage, decode
    from worker.proto import worker as proto

from ..support.served import make_worker, server_tls
from .fuzzing import fuzz

MESSAGES = [
    proto.StartRequest,
    proto.ListRequest,
    proto.QueryRequest,
    proto.AttachRequest,
    proto.UpdateRequest,
]
SEEDS = [
    b"\0" + bytes(proto.StartRequest(name="x", args=["a"], env={"A": "1"})),
    b"\3" + bytes(proto.AttachRequest(open=proto.AttachOpen(job_id="x"))),
    bytes(range(200)),
]
PATHS = ["Start", "List", "Query", "Attach", "Update", "Stream", "Wait"]


def made() -> tuple[ServerTls, list[bytes]]:
    """Return the TLS of a server, and the chain of a writer."""
    with TemporaryDirectory() as directory:
        pki = Path(directory) / "pki"
        certificates.init(pki, key_type=certificates.KeyType.P256)
        return server_tls(pki), [pem_certificates(pki / f"{name}.crt")[0] for name in ("writer", "ca")]


SERVER_TLS, CHAIN = made()


class Certificate(bytes):
    """One of a chain."""

    def public_bytes(self, _encoding: int) -> bytes:
        """Return it in DER."""
        return self


class Tls:
    """What a server's connection asks of TLS."""

    @property
    def _sslobj(self) -> "Tls":
        return self

    def get_verified_chain(self) -> list[Certificate]:
        """Return the chain of a writer."""
        return [Certificate(each) for each in CHAIN]

    def selected_alpn_protocol(self) -> str:
        """Return the protocol that was negotiated."""
        return "h2"

    def getpeercert(self, *, binary_form: bool) -> bytes:
        """Return the certificate of a writer."""
        assert binary_form
        return CHAIN[0]


class Wire(asyncio.Transport):
    """A transport that discards what is written."""

    def __init__(self) -> None:
        super().__init__({"ssl_object": Tls(), "peername": ("192.0.2.1", 1)})
        self.closed = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set what reads from it."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return what reads from it."""
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Discard the data."""

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Record the call."""
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        """Do nothing: all data is here already."""

    resume_reading = pause_reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""

    def get_write_buffer_size(self) -> int:
        """Return 0: nothing waits for the socket."""
        return 0


def message(data: bytes) -> None:
    """Decode a message: it is valid, or malformed."""
    with suppress(MalformedMessage):
        decode(data[1:], MESSAGES[data[0] % len(MESSAGES)] if data else proto.StartRequest)


async def session(provider: "atheris.FuzzedDataProvider") -> None:
    """Send an HTTP/2 session of plausible and of arbitrary frames to a server."""
    worker = make_worker()
    server = ApiServer(worker, SERVER_TLS, bounds=Bounds(request_timeout=0.01, reply_timeout=0.01))
    connection, wire = server._factory.make(), Wire()
    wire.set_protocol(connection)
    connection.connection_made(wire)
    client = H2Connection(H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    stream = 1
    for _ in range(provider.ConsumeIntInRange(0, 20)):
        if provider.ConsumeBool():
            path = f"/worker.v1.WorkerService/{provider.PickValueInList(PATHS)}"
            headers = [(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", "x")]
            more = [("te", "trailers"), ("content-type", "application/grpc")]
            client.send_headers(stream, [*headers, *more])
            content = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 200))
            prefix = b"\0" + len(content).to_bytes(4) if provider.ConsumeBool() else b""
            client.send_data(stream, prefix + content, end_stream=provider.ConsumeBool())
            stream += 2
        sent = client.data_to_send() + provider.ConsumeBytes(provider.ConsumeIntInRange(0, 30))
        if not wire.closed:
            connection.data_received(sent)
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await server._calls.ended()
    await worker.close()


def one(data: bytes) -> None:
    """Fuzz one input."""
    message(data)
    asyncio.run(session(atheris.FuzzedDataProvider(data)))


if __name__ == "__main__":
    fuzz("requests", one, SEEDS)
