"""Two clients of the same name, from different CAs, over real TLS: they share nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest
from grpclib.const import Cardinality

from worker.api.bounds import Bounds
from worker.client.client import Client
from worker.client.errors import RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.model.job import JobSpec
from worker.core.policy.in_force import PolicyInForce
from worker.proto.worker import StartRequest, StartResponse

from ..support.authorities import TestCA
from ..support.policies import read
from ..support.served import RawCodec, Served, serving
from ..support.waiting import awaited

LONG = JobSpec("sleep", ["1000"])
OWN = """
[[rule]]
name = "own"
calls = ["start", "read", "output", "stop", "signal", "update", "attach", "remove"]
commands = [{ path = "/usr/bin/sleep", args = ["*"] }]
[[quota]]
name = "one"
running_jobs = 1
"""


@pytest.fixture(scope="module")
def namesakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates ``first`` and ``second`` of a writer alice from two CAs, both of which are trusted."""
    pki = tmp_path_factory.mktemp("namesakes") / "pki"
    authorities = {"first": TestCA("one CA"), "second": TestCA("another CA")}
    authorities["first"].server().write(pki, "server")
    for name, ca in authorities.items():
        ca.client("alice").write(pki, name)
    (pki / "ca.crt").write_bytes(b"".join(ca.issued.pem for ca in authorities.values()))
    return pki


@asynccontextmanager
async def both(
    pki: Path, policy: str | None = None, **bounds: int
) -> AsyncIterator[tuple[Served, Client, Client]]:
    """Serve, and connect both clients."""
    in_force = None if policy is None else PolicyInForce(read(policy))
    async with (
        serving(pki, bounds=Bounds(**bounds), policy=in_force) as served,
        served.client("first") as first,
        served.client("second") as second,
        asyncio.timeout(60),
    ):
        yield served, first, second


async def test_request_ids(namesakes: Path) -> None:
    """Each has its own: neither gets the job or the error of the other, also after a removal."""
    async with both(namesakes) as (_, first, second):
        job = (await first.start(JobSpec("true"), request_id="r")).id
        other = (await second.start(JobSpec("echo", ["x"]), request_id="r")).id
        assert job != other
        await Job(first, job).wait()
        await Job(first, job).remove()
        assert job == (await first.start(JobSpec("true"), request_id="r")).id
        assert other == (await second.start(JobSpec("echo", ["x"]), request_id="r")).id
        with pytest.raises(RpcError, match="AlreadyExists"):
            await second.start(JobSpec("true"), request_id="r")


async def test_connections(namesakes: Path) -> None:
    """Each has its own bound."""
    async with both(namesakes, max_connections_per_client=1) as (served, first, second):
        for client in (first, second):
            await client.list()
        for name in ("first", "second"):
            async with served.client(name) as one_more:
                with pytest.raises(ServerUnreachable, match="'alice' has 1 connections"):
                    await one_more.list()


async def test_streams(namesakes: Path) -> None:
    """Each has its own bound."""
    async with (
        both(namesakes, max_streams_per_client=1) as (_, first, second),
        AsyncExitStack() as streams,
    ):
        job = str(await first.start(JobSpec("write-and-sleep")))
        for client in (first, second):
            stream = await streams.enter_async_context(aclosing(Job(client, job).stream()))
            await anext(stream)
        for client in (first, second):
            with pytest.raises(RpcError, match="'alice' has 1 streams open"):
                await anext(Job(client, job).stream())


async def test_calls_in_progress(namesakes: Path) -> None:
    """Each has its own bound."""
    async with both(namesakes, max_calls_per_client=1) as (_, first, second):
        job = str(await first.start(JobSpec("stuck")))
        stop = asyncio.create_task(Job(first, job).stop())

        async def has_begun() -> bool:
            try:
                await first.query(job)
            except RpcError as error:
                assert "'alice' has 1 calls in progress" in str(error)  # noqa: PT017 - it may come later
                return True
            return False

        await awaited(has_begun)
        await second.query(job)
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)


async def _occupies(served: Served, size: int) -> bool:
    return served.server._calls.requests.used >= size


async def test_memory_of_requests(namesakes: Path) -> None:
    """What one occupies is not counted for the other."""
    size = 60_000
    async with (
        both(namesakes, max_request_memory_per_client=128 << 10) as (served, _, second),
        served.channel("first", RawCodec()) as channel,
        channel.request(
            "/worker.v1.WorkerService/Start", Cardinality.UNARY_UNARY, StartRequest, StartResponse
        ) as stream,
    ):
        await stream.send_request()
        wire = stream._stream  # no public method sends a part of a message
        await wire.send_data(b"\0" + size.to_bytes(4, "big"))
        await awaited(lambda: _occupies(served, size))
        await second.start(JobSpec("true", labels={"large": "x" * (size - 1000)}))
        await stream.cancel()


async def test_jobs_and_quotas_of_a_policy(namesakes: Path) -> None:
    """The jobs of one are not ``own`` for the other, and count for the quota of their owner only."""
    async with both(namesakes, OWN) as (_, first, second):
        job = str(await first.start(LONG))
        hidden = Job(second, job)
        for call in (hidden.query, hidden.stop, hidden.remove):
            with pytest.raises(RpcError, match="NotFound"):
                await call()
        assert [] == await second.list()
        await second.start(LONG)
        for client in (first, second):
            with pytest.raises(RpcError, match="'alice' has 1 running jobs"):
                await client.start(LONG)
            assert 1 == len(await client.list())
        await Job(first, job).stop()
