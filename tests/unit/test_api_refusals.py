"""Calls that the server rejects, and the status and message of each."""

import struct
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from worker.client.calls import method
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.model.job import (
    Chunk,
    JobId,
    JobSpec,
    JobState,
    JobStatus,
)
from worker.core.worker import Worker
from worker.proto import worker as proto

from ..support.served import (
    RawCodec,
    make_worker,
    serving,
    unary,
)


async def test_a_command_that_cannot_be_run(pki: Path) -> None:
    """The client gets the reason and the errno, and no job remains."""
    async with serving(pki) as served, served.client() as client:
        with pytest.raises(RpcError) as caught:
            await client.start(JobSpec("missing"))
        error = caught.value
        assert ("InvalidArgument", "missing: No such file or directory", 2) == (
            error.code,
            error.message,
            error.errno,
        )
        assert [] == await client.list()


@pytest.mark.parametrize(
    "job", ["", "x", "b58476f2-9479-445b-898d-29eeaf905a47", "a\nb\0c\x7f%20€", "x" * 60_000]
)
async def test_an_unknown_job(pki: Path, job: str) -> None:
    """For any text, every method answers NotFound with that text."""
    async with serving(pki) as served, served.client() as client:
        for name in ("Query", "Stop", "Wait", "Remove", "Signal", "Pause", "Resume", "Stream"):
            number = {"signal": 1} if name == "Signal" else {}
            request, reply = getattr(proto, f"{name}Request")(job_id=job, **number), proto.StartResponse
            with pytest.raises(RpcError) as caught:
                await client.calls.make(method(name), request, reply, str)
            assert "NotFound" == caught.value.code
            assert f"Job {job} not found"[:1000] == caught.value.message[:1000]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/worker.v1.WorkerService/Start", b"\x0a\x7fls"),
        ("/WorkerService/Start", b"\xff\xff"),
        ("/WorkerService/Start", b"\x0a\x02\xff\xfe"),
        ("/WorkerService/Query", b"\x08\x01"),
        ("/WorkerService/Stream", b"\x0b"),
        ("/grpc.health.v1.Health/Check", b"\0"),
    ],
)
async def test_a_malformed_message_is_an_invalid_argument(pki: Path, path: str, data: bytes) -> None:
    """It changes nothing, and the error describes the fault."""
    async with serving(pki) as served:
        async with served.channel(codec=RawCodec()) as channel:
            with pytest.raises(GRPCError) as caught:
                await unary(channel, path, data, bytes)
            assert Status.INVALID_ARGUMENT == caught.value.status
            assert (caught.value.message or "").startswith("malformed request: ")
        assert [] == await served.worker.list()


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (b"", Status.INVALID_ARGUMENT),
        (b"\0", Status.INVALID_ARGUMENT),
        (b"\0\0\0\0\x05ls", Status.INVALID_ARGUMENT),
        (b"\x01\0\0\0\x02ls", Status.UNIMPLEMENTED),
        (struct.pack(">BI", 0, 0xFFFFFFFF), Status.RESOURCE_EXHAUSTED),
        (struct.pack(">BI", 0, (4 << 20) + 1) + b"x", Status.RESOURCE_EXHAUSTED),
    ],
    ids=["no message", "no size", "cut short", "compressed", "4 GiB", "just too long"],
)
async def test_a_malformed_frame_has_its_own_error(pki: Path, frame: bytes, status: Status) -> None:
    """It gets neither UNKNOWN nor a buffer of 4 GiB."""
    async with (
        serving(pki) as served,
        served.channel() as channel,
        channel.request(
            "/WorkerService/Start", Cardinality.STREAM_STREAM, proto.StartRequest, proto.StartResponse
        ) as stream,
    ):
        await stream.send_request()
        await stream._stream.send_data(frame, end_stream=True)
        stream._end_done = True
        with pytest.raises(GRPCError) as caught:
            await stream.recv_message()
        assert status == caught.value.status
        assert caught.value.message


async def test_a_megabyte_of_arguments(pki: Path) -> None:
    """They arrive complete, and are returned complete."""
    async with serving(pki) as served:
        args = ["x" * 100_000] * 10
        async with served.client() as client:
            job = str(await client.start(JobSpec("echo", args)))
            status = await Job(client, job).wait()
            assert tuple(args) == status.record.spec.args
            output = b"".join([chunk.data async for chunk in Job(client, job).stream()])
            assert " ".join(args).encode() + b"\n" == output


async def test_a_process_that_the_kernel_cannot_kill_yet(pki: Path) -> None:
    """Stop returns an error with the pid and its state."""

    class Impatient(Worker):
        async def _within(self, event: Awaitable[object], seconds: float) -> bool:
            return await super()._within(event, min(seconds, 0.05))

    async with serving(pki, make_worker(Impatient)) as served, served.client() as client:
        job = str(await client.start(JobSpec("stuck")))
        with pytest.raises(RpcError, match="state D") as caught:
            await Job(client, job).stop(grace=0)
        assert "DeadlineExceeded" == caught.value.code
        assert JobState.STOPPING == (await client.query(job)).state


async def test_an_unexpected_error_is_internal_and_logged(
    pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets neither the text nor the traceback; the log has both."""

    class Broken(Worker):
        def jobs(self, *arguments: Any, **options: Any) -> AsyncGenerator[JobStatus, None]:
            raise RuntimeError(f"secret {arguments} {options}")

        async def stream(self, job_id: JobId, **arguments: Any) -> AsyncGenerator[Chunk, None]:
            yield Chunk(0, b"x")
            raise RuntimeError(f"secret {job_id} {arguments}")

    async with serving(pki, make_worker(Broken)) as served, served.client() as client:
        with pytest.raises(RpcError) as caught:
            await client.list()
        assert ("Internal", "internal error; see the server's log") == (
            caught.value.code,
            caught.value.message,
        )
        chunks = Job(client, "b58476f2-9479-445b-898d-29eeaf905a47").stream()
        await anext(chunks)
        with pytest.raises(RpcError, match="Internal"):
            await anext(chunks)

    assert 2 == caplog.text.count("Traceback")
    assert "secret" in caplog.text
