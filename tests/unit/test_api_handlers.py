"""Handlers without a network: text that is never cut, health, and what drains tell."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from grpclib.exceptions import GRPCError
from hypothesis import given
from hypothesis import strategies as st

from worker.api.draining import Drain, ShuttingDown
from worker.api.grpc.framing import MESSAGE_SIZE
from worker.api.handlers import Handlers
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


def handlers_with_output(*pieces: bytes) -> Handlers:
    """Return handlers whose every job has this output, in these chunks."""

    class Recorded(Worker):
        async def stream(self, job_id: JobId, **_: Any) -> AsyncGenerator[Chunk, None]:
            del job_id
            offset = 0
            for data in pieces:
                yield Chunk(offset, data)
                offset += len(data)

    return Handlers(make_worker(Recorded), Drain())


async def collect(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    """Return all chunks."""
    return [chunk async for chunk in chunks]


def test_no_character_spans_what_is_missing() -> None:
    """Halves on both sides of bytes that are no longer kept are no character, not even by chance."""
    first, *rest = "€".encode()

    class Gapped(Worker):
        async def stream(self, job_id: JobId, **_: Any) -> AsyncGenerator[Chunk, None]:
            del job_id
            yield Chunk(0, bytes([first]))
            yield Chunk(1, bytes(rest[:1]))
            yield Chunk(100, bytes(rest[1:]) + b"x")

    handlers = Handlers(make_worker(Gapped), Drain())
    replies = asyncio.run(collect(handlers.stream_text(proto.StreamRequest(job_id=str(new_job_id())))))
    assert "\ufffd\ufffdx" == b"".join(reply.data for reply in replies).decode()


def stream_text(*pieces: bytes) -> list[bytes]:
    """Return the text replies of a job with this output."""
    request = proto.StreamRequest(job_id=str(new_job_id()))
    replies = asyncio.run(collect(handlers_with_output(*pieces).stream_text(request)))
    return [reply.data for reply in replies]


@given(pieces=st.lists(st.binary(max_size=8), max_size=6))
def test_text_does_not_depend_on_the_chunks(pieces: list[bytes]) -> None:
    """Any bytes, cut anywhere, become the text of the whole; each reply is UTF-8 by itself."""
    replies = stream_text(*pieces)
    assert b"".join(pieces).decode(errors="replace") == "".join(each.decode() for each in replies)
    assert b"" not in replies


@given(text=st.text(), cut=st.integers(1, 3))
def test_no_character_is_cut(text: str, cut: int) -> None:
    """Chunks that end within a character give exactly the text."""
    data = text.encode("utf-8", "replace")
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    assert data == b"".join(stream_text(*pieces))


@pytest.mark.parametrize("data", [b"x" * 200_000, "é€😀".encode() * 40_000, b"\xff" * 131_040])
def test_long_text_is_cut_between_characters(data: bytes) -> None:
    """A chunk that becomes more text than fits a message becomes several, each whole UTF-8."""
    replies = stream_text(data)
    assert data.decode(errors="replace") == "".join(reply.decode() for reply in replies)
    assert max(map(len, replies)) <= MESSAGE_SIZE


def test_an_unfinished_character_at_the_end_is_told() -> None:
    """Output that ends within a character ends with U+FFFD."""
    assert "€\ufffd".encode() == b"".join(stream_text(b"\xe2\x82\xac\xe2", b"\x82"))


def test_bytes_are_exact_and_carry_their_offset() -> None:
    """On our own path nothing is decoded."""
    request = proto.StreamRequest(job_id=str(new_job_id()))
    chunks = asyncio.run(collect(handlers_with_output(b"\xff\0", b"\xe2").stream(request)))
    assert [Chunk(0, b"\xff\0"), Chunk(2, b"\xe2")] == chunks


@pytest.mark.parametrize("service", ["", "worker.v1.WorkerService", "WorkerService"])
def test_health_of_our_services(service: str) -> None:
    """Both paths and the server as a whole are healthy."""
    reply = asyncio.run(Handlers(make_worker(), Drain()).check_health(HealthCheckRequest(service=service)))
    assert HealthCheckResponseServingStatus.SERVING == reply.status


def test_health_of_an_unknown_service() -> None:
    """The protocol wants NOT_FOUND."""
    with pytest.raises(GRPCError, match="no service 'x' here"):
        asyncio.run(Handlers(make_worker(), Drain()).check_health(HealthCheckRequest(service="x")))


@pytest.mark.parametrize(
    ("service", "told"),
    [
        ("", ["SERVING", "NOT_SERVING"]),
        ("x", ["SERVICE_UNKNOWN"]),
    ],
)
def test_a_watch_on_health_ends_with_the_server(service: str, told: list[str]) -> None:
    """It tells the state at once, stays, and tells when the server drains."""
    names: list[str] = []

    async def watch() -> None:
        drain = Drain()
        async with aclosing(
            Handlers(make_worker(), drain).watch_health(HealthCheckRequest(service=service))
        ) as replies:
            async for reply in replies:
                names.append(reply.status.name)
                asyncio.get_running_loop().call_soon(drain.begin)

    with pytest.raises(ShuttingDown):
        asyncio.run(watch())
    assert told == names


def test_a_drained_stream_names_the_offset_to_resume_at() -> None:
    """What comes next is told, whether something was sent or not."""

    async def drained(offset: int, read: int) -> str:
        drain = Drain()
        worker = make_worker()
        job = await worker.start(JobSpec("sleep", ["1000"]))
        handlers = Handlers(worker, drain)
        if read:
            job = await worker.start(JobSpec("ls"))
        request = proto.StreamRequest(job_id=str(job), offset=offset)
        async with aclosing(handlers.stream(request)) as replies:
            for _ in range(read):
                await anext(replies)
            asyncio.get_running_loop().call_soon(drain.begin)
            if read:
                drain.begin()
            with pytest.raises(ShuttingDown) as caught:
                await anext(replies)
        await worker.close()
        return str(caught.value)

    assert "resume at offset 0" in asyncio.run(drained(0, 0))
    assert "resume at offset 21" in asyncio.run(drained(4, 1))


@pytest.mark.parametrize("method", ["wait", "stop"])
def test_calls_that_block_end_when_the_server_drains(method: str) -> None:
    """Wait and Stop are told; the job is not affected by a Wait that ends."""

    async def drained() -> None:
        drain = Drain()
        worker = make_worker()
        handlers = Handlers(worker, drain)
        job = await worker.start(JobSpec("sleep", ["1000"]))
        call = (
            handlers.wait(proto.WaitRequest(job_id=str(job)))
            if method == "wait"
            else handlers.stop(proto.StopRequest(job_id=str(job), signal=1, grace_ms=100_000))
        )
        asyncio.get_running_loop().call_soon(drain.begin)
        with pytest.raises(ShuttingDown):
            await call
        with pytest.raises(ShuttingDown):
            await handlers.wait(proto.WaitRequest(job_id=str(job)))
        await worker.close()

    asyncio.run(drained())


def test_a_timeout_of_the_handler_itself_is_none_of_the_drain() -> None:
    """Only the drain's own interruption is told as a shutdown."""

    async def time_out() -> None:
        async with Drain().interrupts("x"):
            raise TimeoutError

    with pytest.raises(TimeoutError):
        asyncio.run(time_out())


def test_a_call_that_is_cancelled_while_it_blocks_stays_cancelled() -> None:
    """A client that goes away is not told that the server shuts down."""

    async def cancel() -> bool:
        drain = Drain()

        async def block() -> None:
            async with drain.interrupts("x"):
                await asyncio.Future[None]()

        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        drain.begin()
        return task.cancelled()

    assert asyncio.run(cancel())


async def test_a_list_cuts_long_arguments() -> None:
    """Jobs with a megabyte of arguments do not make a list that clients refuse; Query tells them all."""
    handlers = Handlers(make_worker(), Drain())
    arguments = ["a", "b" * 1_000_000, "c"]
    started = await handlers.start(proto.StartRequest(name="echo", args=arguments))
    [listed] = (await handlers.list(proto.ListRequest())).jobs
    assert ["a", "..."] == listed.args
    assert arguments == (await handlers.query(proto.QueryRequest(job_id=started.job_id))).args
