"""How streams, calls and servers end: by the client, by a deadline, by a shutdown."""

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from worker.api.grpc.channel import Channel
from worker.api.server import ApiServer
from worker.client.errors import RpcError, ServerUnreachable
from worker.client.job import Job
from worker.core.model.job import (
    Chunk,
    JobId,
    JobSpec,
    JobState,
)
from worker.core.model.selection import JobSelection
from worker.core.worker import Worker
from worker.proto import health
from worker.proto import worker as proto

from ..support.served import make_worker, server_tls, serving


class Observed(Worker):
    """Records when its stream is opened and closed."""

    opened: asyncio.Event
    closed: asyncio.Event

    async def stream(self, job_id: JobId, **arguments: Any) -> AsyncGenerator[Chunk, None]:
        """Yield one chunk and wait."""
        del job_id, arguments
        self.opened, self.closed = asyncio.Event(), asyncio.Event()
        try:
            self.opened.set()
            yield Chunk(0, b"first")
            await asyncio.Future[None]()
        finally:
            self.closed.set()


@pytest.mark.parametrize("way", ["reset", "disconnect"])
async def test_a_client_that_disconnects_closes_its_stream(
    pki: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The generator is closed at once, and no warning is logged."""
    caplog.set_level(logging.WARNING)
    worker = make_worker(Observed)
    assert isinstance(worker, Observed)

    async with serving(pki, worker) as served:
        client = await served.client("reader").__aenter__()
        chunks = Job(client, "b58476f2-9479-445b-898d-29eeaf905a47").stream()
        assert Chunk(0, b"first") == await anext(chunks)
        if way == "reset":
            await chunks.aclose()
            await worker.closed.wait()
            await client.__aexit__(None, None, None)
        else:
            await client.__aexit__(None, None, None)
            await worker.closed.wait()
            with pytest.raises(ServerUnreachable):
                await anext(chunks)

    assert [] == [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("timeout", ["50m", "1n", "0n"])
async def test_a_deadline_that_passes_is_reported(
    pki: Path, timeout: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a message and no warning in the log, also if it passed before the call arrived."""
    caplog.set_level(logging.WARNING)
    async with serving(pki) as served:
        async with served.client() as client:
            job = str(await client.start(JobSpec("sleep", ["1000"])))
        async with served.channel() as channel:
            request = proto.WaitRequest(job_id=job)
            with pytest.raises(GRPCError) as caught:
                await wait_with_deadline(channel, request, timeout)
            assert Status.DEADLINE_EXCEEDED == caught.value.status
            assert "the call's deadline has passed" == caught.value.message

    assert [] == [record.getMessage() for record in caplog.records]


async def wait_with_deadline(channel: Channel, request: proto.WaitRequest, timeout: str) -> None:
    """Call Wait with a deadline that the client does not enforce."""
    protocol = await channel.__connect__()
    stream = protocol.processor.connection.create_stream()
    headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/worker.v1.WorkerService/Wait"),
        (":authority", "localhost"),
        ("grpc-timeout", timeout),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    release = await stream.send_request(headers, _processor=protocol.processor)
    data = bytes(request)
    await stream.send_data(struct.pack(">BI", 0, len(data)) + data, end_stream=True)
    answer = dict(await stream.recv_headers())
    release()
    raise GRPCError(Status(int(answer["grpc-status"])), answer["grpc-message"])


async def test_a_shutdown_interrupts_waiting_calls(pki: Path) -> None:
    """Streams, waits, stops, watches and new calls get UNAVAILABLE; new connections are refused."""
    async with serving(pki) as served:
        async with served.client() as client, served.channel() as channel:
            job = str(await client.start(JobSpec("write-and-sleep")))
            stuck = str(await client.start(JobSpec("stuck")))
            chunks = Job(client, job).stream()
            assert Chunk(0, b"12345") == await anext(chunks)
            watch = health.HealthStub(channel).watch(health.HealthCheckRequest())
            assert health.HealthCheckResponseServingStatus.SERVING == (await anext(watch)).status
            calls = [
                asyncio.create_task(blocked)
                for blocked in (anext(chunks), Job(client, job).wait(), Job(client, stuck).stop(grace=0))  # type: ignore[type-var]
            ]
            while (await client.query(stuck)).state is not JobState.STOPPING:
                pass
            await served.server.shut_down(60)
            messages = [str(error) for error in await asyncio.gather(*calls, return_exceptions=True)]
            assert all("code = Unavailable desc = the server is shutting down" in each for each in messages)
            assert "resume at offset 5" in messages[0]
            assert health.HealthCheckResponseServingStatus.NOT_SERVING == (await anext(watch)).status
            with pytest.raises(GRPCError, match="shutting down"):
                await anext(watch)
            with pytest.raises(RpcError, match="Unavailable"):
                await client.query(job)
            async with served.client() as late:
                with pytest.raises(ServerUnreachable, match="connection refused"):
                    await late.query(job)
        assert 2 == len(await served.worker.list(JobSelection(running=True)))


async def test_a_shutdown_has_a_timeout(pki: Path) -> None:
    """close() ends a call that continues; its client reports a lost connection."""

    class Slow(Worker):
        entered: asyncio.Event

        async def query(self, job_id: JobId) -> Any:
            del job_id
            self.entered.set()
            await asyncio.Future[None]()

    worker = make_worker(Slow)
    assert isinstance(worker, Slow)

    async with serving(pki, worker) as served:
        worker.entered = asyncio.Event()
        async with served.client() as client:
            call = asyncio.create_task(client.query("b58476f2-9479-445b-898d-29eeaf905a47"))
            await worker.entered.wait()
            await served.server.shut_down(0)
            assert not call.done()
            await served.server.close()
            with pytest.raises(ServerUnreachable):
                await call


async def test_close_does_not_wait_for_idle_clients(pki: Path) -> None:
    """Connections without calls are closed as well."""
    async with serving(pki) as served, served.client() as client:
        assert await client.health()
        await served.server.shut_down(60)
        await served.server.close()


async def test_a_server_that_was_not_started_can_be_closed(pki: Path) -> None:
    """A caller whose start failed can close the server in any state."""
    worker = make_worker()
    server = ApiServer(worker, server_tls(pki))
    await server.shut_down(1)
    await server.close()
    await worker.close()
