"""What a client says about a connection that cannot be made: the reason, and what helps."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from errno import EHOSTUNREACH
from pathlib import Path

import pytest

from worker.client.errors import ServerUnreachable
from worker.client.unreachable import why_unreachable

from ..support.authorities import Issued, TestCA, now
from ..support.clients import impatient

CA = TestCA("the CA")


@asynccontextmanager
async def tls_server(directory: Path, own: Issued) -> AsyncIterator[int]:
    """Yield the port of a server with this certificate at every address of the loopback."""
    own.write(directory, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("host", "own", "remedy"),
    [
        ("127.0.0.2", CA.server(), "on its machine, `worker certs renew server --host 127.0.0.2` adds"),
        (
            "127.0.0.1",
            CA.server(end=now() - timedelta(hours=1)),
            "certificate has expired; on its machine, `worker certs renew server` renews it",
        ),
        ("127.0.0.1", TestCA("another CA").server(), "it is of another CA: select that CA"),
    ],
    ids=["other name", "expired", "other CA"],
)
async def test_the_certificate_of_the_server(tmp_path: Path, host: str, own: Issued, remedy: str) -> None:
    """Each reason for which it is not accepted has its own remedy."""
    (tmp_path / "ca.crt").write_bytes(CA.issued.pem)
    context = CA.client("x").context(tmp_path / "ca.crt", tmp_path, "x")
    async with tls_server(tmp_path, own) as port, impatient(host, port, context) as client:
        with pytest.raises(ServerUnreachable) as caught:
            await client.health()
    assert f"at {host}:{port}: its certificate is not accepted: " in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("error", "host", "words"),
    [
        (ConnectionRefusedError(111, "x"), "::1", "connection refused; `worker up` starts a server"),
        (
            ConnectionRefusedError(111, "x"),
            "build",
            "connection refused; no server listens there: `worker up --listen` on that machine",
        ),
        (
            OSError("Multiple exceptions: [Errno 111] a, [Errno 111] b"),
            "localhost",
            "connection refused; `worker up` starts a server",
        ),
        (OSError(EHOSTUNREACH, "Connect call failed"), "build", "No route to host; check the address ("),
        (socket.gaierror(-2, "Name or service not known"), "b", "Name or service not known; check the "),
        (ConnectionResetError(), "b", "it closed the connection before it has answered; is it a worker "),
    ],
)
def test_an_error_of_the_system(error: OSError, host: str, words: str) -> None:
    """The remedy follows the reason; `worker up` is one only for a server of this machine."""
    assert why_unreachable(error, host).startswith(words)
