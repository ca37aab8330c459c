"""The server over real TLS on loopback: the right that each method requires, and its effect."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from worker.api.grpc.channel import Channel
from worker.api.methods import METHODS, Unary
from worker.api.roles import Right
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.model.ending import Exited, Signaled
from worker.core.model.job import Chunk, JobSpec
from worker.core.model.limits import (
    IoLimit,
    LimitBounds,
    MemoryLimit,
    ResourceLimits,
)
from worker.core.model.stream_start import LastBytes
from worker.core.testing import FakeLimiter, FakeSpawner, MemoryOutputStore
from worker.core.worker import Worker
from worker.proto import worker as proto

from ..support.served import (
    BINARY,
    serving,
    unary,
)


async def test_the_whole_life_of_a_job(pki: Path) -> None:
    """Start, query, stream, wait, list and remove work together."""
    async with serving(pki) as served, served.client() as client:
        assert await client.health()
        job = (await client.start(JobSpec("binary", labels={"a": "b"}), request_id="1")).id
        assert job == (await client.start(JobSpec("binary", labels={"a": "b"}), request_id="1")).id
        status = await Job(client, job).wait()
        assert (Exited(0), "writer") == (status.ending, status.record.owner)
        assert status == await client.query(str(job))
        assert BINARY == b"".join([chunk.data async for chunk in Job(client, job).stream()])
        tail = [chunk async for chunk in Job(client, job).stream(start=LastBytes(3))]
        assert [Chunk(len(BINARY) - 3, b""), Chunk(len(BINARY) - 3, BINARY[-3:])] == tail
        assert [status] == await client.list(labels={"a": "b"})
        assert [] == await client.list(running=True)
        await Job(client, job).remove()
        assert [] == await client.list()


async def test_limits_are_updated_while_a_job_runs(pki: Path) -> None:
    """An update changes only the limits that it names; one that names none is rejected."""
    async with serving(pki) as served, served.client() as client:
        spec = JobSpec("sleep", ["1000"], limits=ResourceLimits(pids=5, io=(IoLimit("/dev/vda", 1),)))
        job = str(await client.start(spec))
        await Job(client, job).update(ResourceLimits(pids=7, io=(IoLimit("/dev/vda", None, 2),)))
        holds = ResourceLimits(pids=7, io=(IoLimit("/dev/vda", 1, 2),))
        assert holds == (await client.query(job)).record.limits
        with pytest.raises(RpcError, match="InvalidArgument desc = limits: none is given"):
            await Job(client, job).update(ResourceLimits())
        await Job(client, job).stop()
        with pytest.raises(RpcError, match="FailedPrecondition desc = the process is already finished"):
            await Job(client, job).update(ResourceLimits(pids=9))
        assert holds == (await client.query(job)).record.limits


async def test_the_limits_of_the_server_apply_to_every_job(pki: Path) -> None:
    """A job without limits gets the default; one above the maximum is rejected with the bound."""
    bounds = LimitBounds(
        ResourceLimits(pids=10), ResourceLimits(pids=20, memory=MemoryLimit(max=4096), cpuset="0-1,3")
    )
    worker = Worker(
        spawner=FakeSpawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore(), limits=bounds
    )

    async with serving(pki, worker) as served, served.client() as client:
        job = str(await client.start(JobSpec("sleep", ["1000"])))
        holds = ResourceLimits(pids=10, memory=MemoryLimit(max=4096), cpuset="0-1,3")
        assert holds == (await client.query(job)).record.limits
        refusal = "InvalidArgument desc = limits.pids: 21 is above this server's maximum of 20"
        with pytest.raises(RpcError, match=refusal):
            await client.start(JobSpec("true", limits=ResourceLimits(pids=21)))
        with pytest.raises(RpcError, match=refusal):
            await Job(client, job).update(ResourceLimits(pids=21))
        refusal = "limits.cpuset: CPU 2 is not among those that this server allows, 0-1,3"
        with pytest.raises(RpcError, match=refusal):
            await Job(client, job).update(ResourceLimits(cpuset="1-3"))
        await Job(client, job).update(ResourceLimits(cpuset="3,0"))
        assert [job] == [str(each.record.id) for each in await client.list()]
        await Job(client, job).stop(grace=0)


async def test_stop_returns_when_the_job_is_finished(pki: Path) -> None:
    """The signal is the requested one; a second stop fails because the job is finished."""
    async with serving(pki) as served, served.client() as client:
        job = str(await client.start(JobSpec("sleep", ["1000"])))
        await Job(client, job).stop(signal=10)
        assert Signaled(10) == (await client.query(job)).ending
        with pytest.raises(RpcError) as caught:
            await Job(client, job).stop()
        assert "rpc error: code = FailedPrecondition desc = the process is already finished" == str(
            caught.value
        )


async def test_every_method_requires_its_right(pki: Path) -> None:
    """The matrix of the table: on every path, exactly the clients with the right are admitted."""

    async def denied(channel: Channel, path: str) -> bool:
        method = METHODS[path]
        try:
            cardinality = Cardinality.UNARY_UNARY if isinstance(method, Unary) else Cardinality.UNARY_STREAM
            async with channel.request(path, cardinality, method.request, method.reply) as stream:
                await stream.send_message(method.request(), end=True)
                await stream.recv_message()
                if method.name == "Watch":
                    await stream.cancel()
        except GRPCError as error:
            return error.status is Status.PERMISSION_DENIED
        return False

    async with serving(pki) as served:
        for name, rights in (("writer", set(Right)), ("reader", {Right.READ}), ("nobody", set())):
            async with served.channel(name) as channel:
                allowed = {path for path in METHODS if not await denied(channel, path)}
                assert {
                    path for path, method in METHODS.items() if method.right in {*rights, None}
                } == allowed


async def test_a_method_that_is_not_in_the_table_does_not_exist(pki: Path) -> None:
    """This includes our additional methods on the original's path."""
    async with serving(pki) as served, served.channel() as channel:
        for path in (
            "/WorkerService/List",
            "/worker.v1.WorkerService/Restart",
            "/WorkerService/Update",
            "/x/y",
            "/",
        ):
            with pytest.raises(GRPCError) as caught:
                await unary(channel, path, proto.StopRequest(), proto.StopResponse)
            assert Status.UNIMPLEMENTED == caught.value.status


async def test_the_original_path_sends_text(pki: Path) -> None:
    """Binary output is valid UTF-8 there, at every boundary of chunks."""
    async with serving(pki) as served:
        async with served.client() as client:
            job = str(await client.start(JobSpec("binary")))
        async with (
            served.channel("reader") as channel,
            channel.request(
                "/WorkerService/Stream",
                Cardinality.UNARY_STREAM,
                proto.StreamRequest,
                proto.StreamResponse,
            ) as stream,
        ):
            await stream.send_message(proto.StreamRequest(job_id=job), end=True)
            pieces = [reply.output.decode() async for reply in stream]
            assert BINARY.decode(errors="replace") == "".join(pieces)


async def test_the_certificate_is_read_once_per_connection(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further calls of the same client do not read it again."""
    parsed: list[bytes] = []
    from worker.api import client_check

    read = client_check.read_certificate

    def recording(certificate: bytes) -> Any:
        parsed.append(certificate)
        return read(certificate)

    monkeypatch.setattr(client_check, "read_certificate", recording)

    async with serving(pki) as served:
        for _ in range(2):
            async with served.client() as client:
                await asyncio.gather(*(client.health() for _ in range(5)))

    assert 2 == len(parsed)
