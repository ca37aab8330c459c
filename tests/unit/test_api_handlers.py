"""Handlers without a network: text with whole characters, health, and the shutdown."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api.errors import CallRejected
from worker.api.grpc.framing import MESSAGE_SIZE
from worker.api.handlers import Handlers
from worker.api.shutdown import Shutdown, ShuttingDown
from worker.core.model.job import (
    Chunk,
    JobId,
    JobSpec,
    new_job_id,
)
from worker.core.testing import FakeLimiter, FakeSpawner, MemoryOutputStore
from worker.core.worker import Worker
from worker.proto import worker as proto
from worker.proto.health import HealthCheckRequest, HealthCheckResponseServingStatus


def make_worker(kind: type[Worker] = Worker) -> Worker:
    """Return a Worker over fakes."""
    return kind(spawner=FakeSpawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore())


def handlers_with_output(*chunks: Chunk) -> Handlers:
    """Return handlers for a Worker all of whose jobs have these chunks of output."""

    class Recorded(Worker):
        async def stream(self, job_id: JobId, **_: Any) -> AsyncGenerator[Chunk, None]:
            del job_id
            for chunk in chunks:
                yield chunk

    return Handlers(make_worker(Recorded), Shutdown())


def consecutive(*pieces: bytes) -> list[Chunk]:
    """Return these bytes as chunks, each at the end of the previous one."""
    return [Chunk(sum(map(len, pieces[:index])), data) for index, data in enumerate(pieces)]


async def collect(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    """Return all chunks."""
    return [chunk async for chunk in chunks]


async def stream_text(*chunks: Chunk) -> list[bytes]:
    """Return the text replies of a job with this output."""
    request = proto.StreamRequest(job_id=str(new_job_id()))
    return [reply.data for reply in await collect(handlers_with_output(*chunks).stream_text(request))]


async def test_no_character_spans_missing_bytes() -> None:
    """Two halves on both sides of bytes that are no longer kept are not one character."""
    first, *rest = "€".encode()
    chunks = [Chunk(0, bytes([first])), Chunk(1, bytes(rest[:1])), Chunk(100, bytes(rest[1:]) + b"x")]
    assert "\ufffd\ufffdx" == b"".join(await stream_text(*chunks)).decode()


@given(pieces=st.lists(st.binary(max_size=8), max_size=6))
async def test_text_does_not_depend_on_the_chunks(pieces: list[bytes]) -> None:
    """However any bytes are split, the text is that of the whole; each reply is valid UTF-8."""
    replies = await stream_text(*consecutive(*pieces))
    assert b"".join(pieces).decode(errors="replace") == "".join(each.decode() for each in replies)
    assert b"" not in replies


@given(text=st.text(), cut=st.integers(1, 3))
async def test_no_character_is_split(text: str, cut: int) -> None:
    """Chunks that end within a character result in the same text."""
    data = text.encode("utf-8", "replace")
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    assert data == b"".join(await stream_text(*consecutive(*pieces)))


@pytest.mark.parametrize("data", [b"x" * 200_000, "é€😀".encode() * 40_000, b"\xff" * 131_040])
async def test_long_text_is_split_between_characters(data: bytes) -> None:
    """A chunk whose text is longer than a message becomes several messages, each valid UTF-8."""
    replies = await stream_text(Chunk(0, data))
    assert data.decode(errors="replace") == "".join(reply.decode() for reply in replies)
    assert max(map(len, replies)) <= MESSAGE_SIZE


async def test_an_incomplete_character_at_the_end() -> None:
    """Output that ends within a character ends with U+FFFD."""
    assert "€\ufffd".encode() == b"".join(await stream_text(*consecutive(b"\xe2\x82\xac\xe2", b"\x82")))


async def test_bytes_are_exact_and_have_their_offset() -> None:
    """The path of worker.v1 decodes nothing."""
    request = proto.StreamRequest(job_id=str(new_job_id()))
    expected = [Chunk(0, b"\xff\0"), Chunk(2, b"\xe2")]
    assert expected == await collect(handlers_with_output(*expected).stream(request))


@pytest.mark.parametrize("service", ["", "worker.v1.WorkerService", "WorkerService"])
async def test_health_of_our_services(service: str) -> None:
    """Both services and the server as a whole are SERVING."""
    reply = await Handlers(make_worker(), Shutdown()).check_health(HealthCheckRequest(service=service))
    assert HealthCheckResponseServingStatus.SERVING == reply.status


async def test_health_of_an_unknown_service() -> None:
    """The health protocol requires NOT_FOUND."""
    with pytest.raises(CallRejected, match="there is no service 'x'"):
        await Handlers(make_worker(), Shutdown()).check_health(HealthCheckRequest(service="x"))


@pytest.mark.parametrize(
    ("service", "reported"),
    [
        ("", ["SERVING", "NOT_SERVING"]),
        ("x", ["SERVICE_UNKNOWN"]),
    ],
)
async def test_a_watch_on_health_ends_with_the_server(service: str, reported: list[str]) -> None:
    """It reports the state at once, stays open, and reports the shutdown."""
    names: list[str] = []
    shutdown = Shutdown()
    watch = Handlers(make_worker(), shutdown).watch_health(HealthCheckRequest(service=service))
    with pytest.raises(ShuttingDown):  # noqa: PT012 - raised after the last reply
        async with aclosing(watch) as replies:
            async for reply in replies:
                names.append(reply.status.name)
                asyncio.get_running_loop().call_soon(shutdown.begin)
    assert reported == names


@pytest.mark.parametrize(("offset", "read", "resume"), [(0, 0, 0), (4, 1, 21)])
async def test_an_interrupted_stream_names_the_offset_to_resume_at(
    offset: int, read: int, resume: int
) -> None:
    """It is the offset of the next byte, whether the stream has sent output or not."""
    shutdown = Shutdown()
    worker = make_worker()
    job = await worker.start(JobSpec("ls") if read else JobSpec("sleep", ["1000"]))
    request = proto.StreamRequest(job_id=str(job), offset=offset)
    async with aclosing(Handlers(worker, shutdown).stream(request)) as replies:
        for _ in range(read):
            await anext(replies)
        asyncio.get_running_loop().call_soon(shutdown.begin)
        if read:
            shutdown.begin()
        with pytest.raises(ShuttingDown, match=f"resume at offset {resume}$"):
            await anext(replies)
    await worker.close()


@pytest.mark.parametrize("method", ["wait", "stop"])
async def test_waiting_calls_end_at_the_shutdown(method: str) -> None:
    """Wait and Stop raise ShuttingDown; a Wait that ends does not affect the job."""
    shutdown = Shutdown()
    worker = make_worker()
    handlers = Handlers(worker, shutdown)
    job = await worker.start(JobSpec("sleep", ["1000"]))
    call = (
        handlers.wait(proto.WaitRequest(job_id=str(job)))
        if method == "wait"
        else handlers.stop(proto.StopRequest(job_id=str(job), signal=1, grace_ms=100_000))
    )
    asyncio.get_running_loop().call_soon(shutdown.begin)
    with pytest.raises(ShuttingDown):
        await call
    with pytest.raises(ShuttingDown):
        await handlers.wait(proto.WaitRequest(job_id=str(job)))
    await worker.close()


async def test_a_timeout_of_the_handler_itself_is_not_a_shutdown() -> None:
    """Only the interruption by the shutdown becomes ShuttingDown."""
    with pytest.raises(TimeoutError):
        async with Shutdown().interrupts("x"):
            raise TimeoutError


async def test_a_call_that_is_cancelled_while_it_waits_stays_cancelled() -> None:
    """A cancellation by the client does not become ShuttingDown."""
    shutdown = Shutdown()

    async def block() -> None:
        async with shutdown.interrupts("x"):
            await asyncio.Future[None]()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    shutdown.begin()
    assert task.cancelled()
