"""Streaming a job's output: before, during and after, from anywhere, to anybody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from worker.core.engine import following
from worker.core.engine.defaults import MemoryJournal
from worker.core.errors import InvalidJobSpec, OutputUnavailable
from worker.core.model.ending import Channel
from worker.core.model.job import (
    Chunk,
    JobId,
    JobRecord,
    JobSpec,
    Leftovers,
)
from worker.core.testing import FakeMachine, MemoryOutputStore
from worker.core.testing.memory_outputs import MemoryWatch

from ..support.streaming import collect, printing, sink

LONG = JobSpec("sleep", ["1000"])


async def test_a_stream_after_the_end_has_everything() -> None:
    """Any bytes, in pieces that can be sent, up to the last one."""
    data = bytes(range(256)) * 1000
    machine = printing(data)
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    assert data == await collect(worker, job)


async def test_a_job_that_writes_nothing_has_an_empty_stream() -> None:
    """The stream ends with the job, without a chunk."""
    worker = FakeMachine().worker()
    job = await worker.start(JobSpec("true"))
    assert b"" == await collect(worker, job)


async def test_a_stream_follows_and_ends_with_the_job() -> None:
    """What is written comes at once; silence is no end; the end comes when the job is over."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["5"]))
    async with aclosing(worker.stream(job)) as stream:
        for offset, data in ((0, b"one"), (3, b"two"), (6, b"three")):
            chunk = asyncio.ensure_future(anext(stream))
            await machine.clock.advance(1.0)
            assert not chunk.done()
            sink(machine, job).write(data)
            assert Chunk(offset, data) == await chunk
        end = asyncio.ensure_future(anext(stream, None))
        await machine.clock.advance(5.0)
        assert await end is None


async def test_a_stream_outlasts_the_main_process() -> None:
    """While a child is left, it may write; the stream ends after its last word."""
    machine = printing(b"main ", child_seconds=5.0)
    worker = machine.worker()
    job = await worker.start(JobSpec("print", leftovers=Leftovers.WAIT))
    stream = asyncio.create_task(collect(worker, job))
    await machine.clock.advance(4.0)
    assert not stream.done()
    sink(machine, job).write(b"child")
    await machine.clock.advance(1.0)
    assert b"main child" == await stream


def test_no_stream_ends_before_the_last_word() -> None:
    """A job may write and end at any moment of a read that is under way."""

    class Slow(MemoryOutputStore):
        async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
            data = await super().read(job, channel, offset, size)
            for _ in range(10):
                await asyncio.sleep(0)
            return data

    async def scenario(turns: int) -> None:
        machine = FakeMachine(outputs=Slow())
        worker = machine.worker()
        job = await worker.start(LONG)
        stream = asyncio.create_task(collect(worker, job))
        for _ in range(turns):
            await asyncio.sleep(0)
        sink(machine, job).write(b"last word")
        machine.spawner.kill(job)
        assert b"last word" == await stream

    for turns in range(20):
        asyncio.run(scenario(turns))


async def test_all_clients_get_the_same_whenever_they_come() -> None:
    """Before, during and after; one that goes away disturbs nobody."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["21"]))
    clients, written = [], b""
    for number in range(20):
        clients.append(asyncio.create_task(collect(worker, job)))
        gone = asyncio.create_task(collect(worker, job))
        await machine.clock.advance(1.0)
        line = b"%d\n" % number * 10_000
        sink(machine, job).write(line)
        written += line
        gone.cancel()
    clients.append(asyncio.create_task(collect(worker, job)))
    await machine.clock.advance(1.0)
    assert [written] * 21 == await asyncio.gather(*clients)
    assert written == await collect(worker, job)


async def test_a_stream_that_is_left_leaves_nothing() -> None:
    """No watch and no task stay behind, whether it was closed or cancelled while it waited."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(LONG)
    before = asyncio.all_tasks()
    sink(machine, job).write(b"something")
    async with aclosing(worker.stream(job)) as stream:
        await anext(stream)
        assert 1 == len(sink(machine, job).watches)
    waiting = asyncio.create_task(collect(worker, job))
    await machine.clock.advance(0)
    assert 1 == len(sink(machine, job).watches)
    waiting.cancel()
    await machine.clock.advance(0)
    assert set() == sink(machine, job).watches
    assert before == asyncio.all_tasks()


async def test_a_watch_is_only_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing tells of output, a slow look finds it all the same."""

    class Deaf(MemoryOutputStore):
        @asynccontextmanager
        async def watch(self, job: JobId) -> AsyncIterator[MemoryWatch]:
            del job
            yield MemoryWatch()

    monkeypatch.setattr(following, "SLOW_LOOK", 0.001)
    machine = FakeMachine(outputs=Deaf())
    worker = machine.worker()
    job = await worker.start(LONG)
    async with aclosing(worker.stream(job)) as stream:
        chunk = asyncio.ensure_future(anext(stream))
        await machine.clock.advance(0)
        sink(machine, job).write(b"unheard")
        assert b"unheard" == (await chunk).data


async def test_without_follow_a_stream_ends_at_what_is_there() -> None:
    """It waits for nothing, and what is written meanwhile is for the next one."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(LONG)
    assert b"" == await collect(worker, job, follow=False)
    sink(machine, job).write(b"x" * (following.CHUNK_SIZE + 1))
    async with aclosing(worker.stream(job, follow=False)) as stream:
        assert following.CHUNK_SIZE == len((await anext(stream)).data)
        sink(machine, job).write(b"y" * 10)
        assert [Chunk(following.CHUNK_SIZE, b"x")] == [chunk async for chunk in stream]


async def test_removing_a_job_ends_its_streams() -> None:
    """Whoever still reads learns that the rest is gone."""
    machine = printing(b"x" * (following.CHUNK_SIZE + 1))
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    async with aclosing(worker.stream(job)) as stream:
        await anext(stream)
        await worker.remove(job)
        with pytest.raises(OutputUnavailable):
            await anext(stream)


async def test_split_output_is_streamed_apart() -> None:
    """Stdout unless stderr is asked for; each has its own offsets and its own end."""
    worker = printing(b"out", b"err!").worker()
    job = await worker.start(JobSpec("print", split_output=True))
    for channel, expected in (
        (None, b"out"),
        (Channel.OUTPUT, b"out"),
        (Channel.STDOUT, b"out"),
        (Channel.STDERR, b"err!"),
    ):
        assert expected == await collect(worker, job, channel=channel)


async def test_output_in_one_has_no_parts() -> None:
    """Stderr alone cannot be had where it was not recorded alone."""
    worker = printing(b"out", b"err").worker()
    job = await worker.start(JobSpec("print"))
    assert b"outerr" == await collect(worker, job)
    with pytest.raises(InvalidJobSpec, match="channel: the job was not started with split output"):
        await collect(worker, job, channel=Channel.STDERR)


class GatedJournal(MemoryJournal):
    """Takes an end only once its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def put(self, record: JobRecord) -> None:
        """Wait with the end."""
        if record.end is not None:
            await self.gate.wait()
        await super().put(record)


async def test_a_stream_ends_when_the_job_is_over_and_not_before() -> None:
    """Whoever has seen the end of a stream can rely on the job's being over, and remove it."""
    journal = GatedJournal()
    worker = FakeMachine(journal=journal).worker()
    job = await worker.start(JobSpec("echo", ["hi"]))
    chunks = worker.stream(job)
    assert b"hi\n" == (await anext(chunks)).data
    rest = asyncio.ensure_future(anext(chunks, None))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not rest.done()
    journal.gate.set()
    assert await rest is None
    await worker.remove(job)
    await worker.close()
