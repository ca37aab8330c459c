"""Errors of the client when the server cannot be reached or its answer is invalid."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from worker.api import certificates, tls
from worker.api.certificates import KeyType
from worker.api.grpc.connection import CLOSE_PATIENCE
from worker.api.roles import Role
from worker.client.errors import RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.model.job import Chunk, JobSpec, new_job_id
from worker.core.worker import Worker

from ..support.clients import impatient
from ..support.served import make_worker, serving


def context(ca: Path, pki: Path, name: str = "writer") -> tls.ClientContext:
    """Return a client's context with a CA and a certificate of sets that may differ."""
    return tls.client_context(ca=ca / "ca.crt", certificate=pki / f"{name}.crt", key=pki / f"{name}.key")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of certificates, and an expired one."""
    directory = tmp_path_factory.mktemp("client") / "pki"
    certificates.init(directory, key_type=KeyType.P256)
    certificates.issue(directory, "expired", [Role.WRITER], key_type=KeyType.P256, days=-1)
    return directory


@pytest.fixture(scope="module")
def other_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of another CA."""
    directory = tmp_path_factory.mktemp("other") / "pki"
    certificates.init(directory, key_type=KeyType.P256)
    return directory


async def test_connection_refused_names_the_remedy(pki: Path) -> None:
    """One line with the address and the command that starts a server."""
    async with serving(pki) as served:
        await served.server.close()
        async with served.client() as client:
            with pytest.raises(ServerUnreachable) as caught:
                await client.health()
        assert (
            f"cannot reach the server at 127.0.0.1:{served.port}: "
            "connection refused; `worker up` starts a server" == str(caught.value)
        )


async def test_a_certificate_of_another_ca_is_rejected(pki: Path, other_pki: Path) -> None:
    """The client reports who has issued its certificate, which the server does not trust."""
    reason = "was not issued by a CA that the server trusts; its issuer is 'CN=worker CA"
    async with (
        serving(pki) as served,
        impatient(served.host, served.port, context(pki, other_pki)) as client,
    ):
        with pytest.raises(ServerUnreachable, match=reason):
            await client.health()


async def test_an_expired_certificate_is_named(pki: Path) -> None:
    """The client checks its own certificate and reports the date of its expiry."""
    async with serving(pki) as served, served.client("expired") as client:
        with pytest.raises(ServerUnreachable, match=r"expired.crt expired on \d{4}-\d\d-\d\d"):
            await client.health()


async def test_a_server_of_another_ca_is_rejected(pki: Path, other_pki: Path) -> None:
    """The client sends nothing to a server that it cannot verify."""
    async with (
        serving(pki) as served,
        impatient(served.host, served.port, context(other_pki, pki)) as client,
    ):
        with pytest.raises(ServerUnreachable, match="its certificate is not accepted: "):
            await client.health()


async def test_another_service_at_the_port(pki: Path) -> None:
    """A service without TLS is reported as a failed handshake."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n")
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, impatient("127.0.0.1", port, context(pki, pki)) as client:
        with pytest.raises(ServerUnreachable, match=rf"127.0.0.1:{port}: the TLS handshake failed"):
            await client.health()


async def test_a_server_that_dies_during_a_call(pki: Path) -> None:
    """The error is a lost connection, not a rejected certificate."""
    async with serving(pki) as served, served.client() as client:
        job = str(await client.start(JobSpec("sleep", ["1000"])))
        call = asyncio.create_task(Job(client, job).wait())
        assert await client.health()
        await served.server.close()
        with pytest.raises(ServerUnreachable, match="connection lost"):
            await call


async def test_a_lost_connection_leaves_no_cancellation(pki: Path) -> None:
    """The calling task can continue, and can be cancelled at the same moment and later."""
    async with serving(pki) as served, served.client() as client:
        job = str(await client.start(JobSpec("sleep", ["1000"])))

        async def call() -> int:
            with pytest.raises(ServerUnreachable, match="connection lost"):
                await Job(client, job).wait()
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        async def lose(*, cancel: bool) -> "asyncio.Task[int]":
            calling = asyncio.create_task(call())
            assert await client.health()
            current = client.calls._server.connection._channel.current
            assert current is not None
            if cancel:
                calling.cancel()
            current.processor.close("Connection lost")
            await asyncio.wait({calling})
            return calling

        assert 0 == (await lose(cancel=False)).result()
        assert (await lose(cancel=True)).cancelled()


async def test_a_status_that_arrives_just_before_the_connection_ends(pki: Path) -> None:
    """A stream that the server interrupts ends with the status, and is never taken for a complete one."""

    class Writing(Worker):
        async def stream(self, *_: Any, **__: Any) -> Any:
            yield Chunk(0, b"before")
            await asyncio.Future()

    async with serving(pki, make_worker(Writing)) as served, served.client() as client:
        chunks = Job(client, new_job_id()).stream()
        assert Chunk(0, b"before") == await anext(chunks)
        await served.server.shut_down(timeout=10)
        # The rejection of this call arrives after the status of the stream.
        with pytest.raises(RpcError, match="call again later"):
            await client.health()
        current = client.calls._server.connection._channel.current
        assert current is not None
        assert current.transport is not None
        current.transport.close()
        with pytest.raises(RpcError, match=r"Unavailable desc = the server is shutting down; .* offset 6"):
            await anext(chunks)


async def test_the_closing_tls_alert_has_a_short_timeout(pki: Path) -> None:
    """A client waits CLOSE_PATIENCE for a server that has vanished, not asyncio's default of 30 s."""
    async with serving(pki) as served, served.channel() as channel:
        await channel.connect()
        assert channel.current is not None
        secure: Any = channel.current.transport
        assert CLOSE_PATIENCE == secure._ssl_protocol._ssl_shutdown_timeout


async def test_text_that_cannot_be_encoded_is_rejected(pki: Path) -> None:
    """A lone surrogate, from an argument that is not UTF-8, is an error and not a traceback."""
    async with serving(pki) as served, served.client() as client:
        with pytest.raises(RpcError, match="InvalidArgument"):
            await client.query("\udcff")
        assert await client.health()


async def test_an_invalid_reply(pki: Path) -> None:
    """The client reports it as an internal error."""

    class Invalid(Worker):
        async def start(self, *_: Any, **__: Any) -> Any:
            return "no id"

    async with serving(pki, make_worker(Invalid)) as served, served.client() as client:
        with pytest.raises(RpcError, match="Internal desc = the server's reply is invalid"):
            await client.start(JobSpec("x"))


async def test_an_ipv6_address_is_shown_in_brackets(pki: Path) -> None:
    """The port can be distinguished from the address."""
    async with serving(pki, host="::1") as served:
        async with served.client() as client:
            assert await client.health()
            await served.server.close()
        async with served.client() as client:
            with pytest.raises(ServerUnreachable, match=rf"at \[::1\]:{served.port}: connection refused"):
                await client.health()


async def test_a_host_that_does_not_exist(pki: Path) -> None:
    """The reason is that of the resolver."""
    async with impatient("no-such-host.invalid", 7443, context(pki, pki)) as client:
        with pytest.raises(ServerUnreachable, match=r"no-such-host.invalid:7443: \w+"):
            await client.health()


async def test_a_client_that_made_no_call_can_be_closed(pki: Path) -> None:
    """It has no connection to close."""
    async with impatient("127.0.0.1", 1, context(pki, pki)):
        pass
