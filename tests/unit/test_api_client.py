"""What the client says when there is no talking to the server, or no sense in its answer."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from worker.api import certificates, tls
from worker.api.certificates import KeyType
from worker.api.client import Client, RpcError, ServerUnreachable
from worker.api.grpc.connections import CLOSE_PATIENCE
from worker.api.roles import Role
from worker.api.server import ApiServer
from worker.core.model.job import Chunk, JobSpec, new_job_id
from worker.core.testing import FakeLimiter, FakeSpawner, MemoryOutputStore
from worker.core.worker import Worker


@dataclass
class Served:
    """A running server and its keys."""

    server: ApiServer
    host: str
    port: int
    pki: Path

    def client(self, name: str = "writer") -> Client:
        """Return a client by the name of its certificate."""
        return Client(self.host, self.port, context(self.pki, self.pki, name))


def context(ca: Path, pki: Path, name: str = "writer") -> tls.ClientContext:
    """Return a client's context with a CA and a certificate of sets that may differ."""
    return tls.client_context(ca=ca / "ca.crt", certificate=pki / f"{name}.crt", key=pki / f"{name}.key")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of certificates, and one that has expired."""
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


def run(
    pki: Path,
    scenario: Callable[[Served], Coroutine[Any, Any, None]],
    kind: type[Worker] = Worker,
    host: str = "127.0.0.1",
) -> None:
    """Run a scenario against a server."""

    async def main() -> None:
        worker = kind(spawner=FakeSpawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore())
        server = ApiServer(
            worker,
            tls.server_context(ca=pki / "ca.crt", certificate=pki / "server.crt", key=pki / "server.key"),
        )
        address, port = (await server.start(host, 0))[0]
        try:
            await scenario(Served(server, address, port, pki))
        finally:
            await server.close()
            await worker.close()

    asyncio.run(main())


def test_connection_refused_tells_how_to_start_a_server(pki: Path) -> None:
    """One line with address and remedy."""

    async def scenario(served: Served) -> None:
        await served.server.close()
        async with served.client() as client:
            with pytest.raises(ServerUnreachable) as caught:
                await client.health()
        assert (
            f"cannot reach the server at 127.0.0.1:{served.port}: "
            "connection refused; `worker up` starts a server" == str(caught.value)
        )

    run(pki, scenario)


def test_a_certificate_of_another_ca_is_refused(pki: Path, other_pki: Path) -> None:
    """The client says what may be wrong with its certificate, since the server does not."""

    async def scenario(served: Served) -> None:
        its_context = context(pki, other_pki)
        async with Client(served.host, served.port, its_context) as client:
            with pytest.raises(ServerUnreachable, match="missing, expired, revoked or of another CA"):
                await client.health()

    run(pki, scenario)


def test_an_expired_certificate_is_named(pki: Path) -> None:
    """The client looks at its own certificate and says since when."""

    async def scenario(served: Served) -> None:
        async with served.client("expired") as client:
            with pytest.raises(ServerUnreachable, match=r"expired.crt expired on \d{4}-\d\d-\d\d"):
                await client.health()

    run(pki, scenario)


def test_a_server_of_another_ca_is_refused(pki: Path, other_pki: Path) -> None:
    """The client does not talk to a server that it cannot verify."""

    async def scenario(served: Served) -> None:
        its_context = context(other_pki, pki)
        async with Client(served.host, served.port, its_context) as client:
            with pytest.raises(ServerUnreachable, match="its certificate is not accepted: "):
                await client.health()

    run(pki, scenario)


def test_something_else_at_the_port(pki: Path) -> None:
    """What does not speak TLS is told to be so."""

    async def main() -> None:
        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example\r\n")
            writer.close()
            await writer.wait_closed()

        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        its_context = context(pki, pki)
        async with listener, Client("127.0.0.1", port, its_context) as client:
            with pytest.raises(ServerUnreachable, match=rf"127.0.0.1:{port}: the TLS handshake failed"):
                await client.health()

    asyncio.run(main())


def test_a_server_that_dies_during_a_call(pki: Path) -> None:
    """It is not taken for a refused certificate."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000"])))
            call = asyncio.create_task(client.wait(job))
            assert await client.health()
            await served.server.close()
            with pytest.raises(ServerUnreachable, match="connection lost"):
                await call

    run(pki, scenario)


def test_a_lost_connection_cancels_nobody(pki: Path) -> None:
    """Whoever made the call can go on, be cancelled at the same moment, and later."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000"])))

            async def call() -> int:
                with pytest.raises(ServerUnreachable, match="connection lost"):
                    await client.wait(job)
                task = asyncio.current_task()
                assert task is not None
                return task.cancelling()

            async def lose(*, cancel: bool) -> "asyncio.Task[int]":
                calling = asyncio.create_task(call())
                assert await client.health()
                connection = client._channel.current
                assert connection is not None
                if cancel:
                    calling.cancel()
                connection.processor.close("Connection lost")
                await asyncio.wait({calling})
                return calling

            assert 0 == (await lose(cancel=False)).result()
            assert (await lose(cancel=True)).cancelled()

    run(pki, scenario)


def test_a_status_that_comes_just_before_the_end_of_the_connection(pki: Path) -> None:
    """A stream that the server breaks off is told so, and never taken for one that is complete."""

    class Speaking(Worker):
        async def stream(self, *_: Any, **__: Any) -> Any:
            yield Chunk(0, b"before")
            await asyncio.Future()

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            chunks = client.stream(str(new_job_id()))
            assert Chunk(0, b"before") == await anext(chunks)
            await served.server.drain(timeout=10)
            # The server's last answer arrives after that of its drain: this call is refused.
            with pytest.raises(RpcError, match="call again later"):
                await client.health()
            connection = client._channel.current
            assert connection is not None
            assert connection._transport is not None
            connection._transport.close()
            with pytest.raises(
                RpcError, match=r"Unavailable desc = the server is shutting down; .* offset 6"
            ):
                await anext(chunks)

    run(pki, scenario, Speaking)


def test_a_server_that_has_vanished_is_not_waited_for(pki: Path) -> None:
    """The patience for its good-bye is ours and not asyncio's 30 s; pins what grpclib keeps private."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            assert await client.health()
            connection = client._channel.current
            assert connection is not None
            secure: Any = connection._transport
            assert secure._ssl_protocol._ssl_shutdown_timeout == CLOSE_PATIENCE

    run(pki, scenario)


def test_text_that_cannot_be_sent_is_refused_here(pki: Path) -> None:
    """A lone surrogate, as it comes from an argument that is not UTF-8, gets an error and no trace."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            with pytest.raises(RpcError, match="InvalidArgument"):
                await client.query("\udcff")
            assert await client.health()

    run(pki, scenario)


def test_a_reply_that_is_malformed_is_no_crash(pki: Path) -> None:
    """The client says so."""

    class Strange(Worker):
        async def start(self, *_: Any, **__: Any) -> Any:
            return "no id"

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            with pytest.raises(RpcError, match="Internal desc = the server's reply makes no sense"):
                await client.start(JobSpec("x"))

    run(pki, scenario, Strange)


def test_an_address_of_ipv6_is_shown_in_brackets(pki: Path) -> None:
    """The port can be told from the address."""

    async def scenario(served: Served) -> None:
        async with served.client() as client:
            assert await client.health()
            await served.server.close()
        async with served.client() as client:
            with pytest.raises(ServerUnreachable, match=rf"at \[::1\]:{served.port}: connection refused"):
                await client.health()

    run(pki, scenario, host="::1")


def test_a_host_that_does_not_exist(pki: Path) -> None:
    """The reason is that of the resolver."""

    async def main() -> None:
        async with Client("no-such-host.invalid", 7443, context(pki, pki)) as client:
            with pytest.raises(ServerUnreachable, match=r"no-such-host.invalid:7443: \w+"):
                await client.health()

    asyncio.run(main())


def test_a_client_that_made_no_call_can_be_closed(pki: Path) -> None:
    """There is nothing to close then."""

    async def main() -> None:
        async with Client("127.0.0.1", 1, context(pki, pki)):
            pass

    asyncio.run(main())
