"""Streams of output before, during and after the run of a job."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from worker.core import (
    Channel,
    Chunk,
    InvalidJobSpec,
    JobId,
    JobRecord,
    JobSpec,
    Leftovers,
    MemoryJournal,
    OutputUnavailable,
)
from worker.core.engine import following
from worker.core.testing import FakeMachine, MemoryOutputStore, MemoryWatch

from ..support.streaming import collect, printing

LONG = JobSpec("sleep", ["1000"])


async def test_a_stream_after_the_end_is_complete() -> None:
    """It yields every byte in chunks of bounded size."""
    data = bytes(range(256)) * 1000
    machine = printing(data)
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    assert data == await collect(worker, job)


async def test_the_stream_of_a_job_without_output_is_empty() -> None:
    """The stream ends with the job and yields no chunk."""
    worker = FakeMachine().worker()
    job = await worker.start(JobSpec("true"))
    assert b"" == await collect(worker, job)


async def test_a_stream_follows_and_ends_with_the_job() -> None:
    """Output is yielded immediately; the stream ends when the job finishes, and not on silence."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["5"]))
    async with aclosing(worker.stream(job)) as stream:
        for offset, data in ((0, b"one"), (3, b"two"), (6, b"three")):
            chunk = asyncio.ensure_future(anext(stream))
            await machine.clock.advance(1.0)
            assert not chunk.done()
            machine.outputs.sink(job).write(data)
            assert Chunk(offset, data) == await chunk
        end = asyncio.ensure_future(anext(stream, None))
        await machine.clock.advance(5.0)
        assert await end is None


async def test_a_stream_outlasts_the_main_process() -> None:
    """While a child remains it can write; the stream ends after the last output of the child."""
    machine = printing(b"main ", child_seconds=5.0)
    worker = machine.worker()
    job = await worker.start(JobSpec("print", leftovers=Leftovers.WAIT))
    stream = asyncio.create_task(collect(worker, job))
    await machine.clock.advance(4.0)
    assert not stream.done()
    machine.outputs.sink(job).write(b"child")
    await machine.clock.advance(1.0)
    assert b"main child" == await stream


async def test_no_stream_ends_before_the_last_output() -> None:
    """A job may write and end at any moment of a read in progress."""

    class Slow(MemoryOutputStore):
        async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
            data = await super().read(job, channel, offset, size)
            for _ in range(10):
                await asyncio.sleep(0)
            return data

    for turns in range(20):
        machine = FakeMachine(outputs=Slow())
        worker = machine.worker()
        job = await worker.start(LONG)
        stream = asyncio.create_task(collect(worker, job))
        for _ in range(turns):
            await asyncio.sleep(0)
        machine.outputs.sink(job).write(b"last output")
        machine.spawner.kill(job)
        assert b"last output" == await stream


async def test_all_clients_get_the_same_output() -> None:
    """Clients may begin before, during or after the writes; cancelling one does not affect the others."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["21"]))
    clients, written = [], b""
    for number in range(20):
        clients.append(asyncio.create_task(collect(worker, job)))
        cancelled = asyncio.create_task(collect(worker, job))
        await machine.clock.advance(1.0)
        line = b"%d\n" % number * 10_000
        machine.outputs.sink(job).write(line)
        written += line
        cancelled.cancel()
    clients.append(asyncio.create_task(collect(worker, job)))
    await machine.clock.advance(1.0)
    assert [written] * 21 == await asyncio.gather(*clients)
    assert written == await collect(worker, job)


async def test_a_closed_stream_leaves_nothing() -> None:
    """No watch and no task remain after a stream is closed, or cancelled while it waits."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(LONG)
    before = asyncio.all_tasks()
    machine.outputs.sink(job).write(b"something")
    async with aclosing(worker.stream(job)) as stream:
        await anext(stream)
        assert 1 == len(machine.outputs.sink(job).watches)
    waiting = asyncio.create_task(collect(worker, job))
    await machine.clock.advance(0)
    assert 1 == len(machine.outputs.sink(job).watches)
    waiting.cancel()
    await machine.clock.advance(0)
    assert set() == machine.outputs.sink(job).watches
    assert before == asyncio.all_tasks()


async def test_a_watch_is_only_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any notification the stream finds new output by polling."""

    class Silent(MemoryOutputStore):
        @asynccontextmanager
        async def watch(self, job: JobId) -> AsyncIterator[MemoryWatch]:
            del job
            yield MemoryWatch()

    monkeypatch.setattr(following, "POLL_INTERVAL", 0.001)
    machine = FakeMachine(outputs=Silent())
    worker = machine.worker()
    job = await worker.start(LONG)
    async with aclosing(worker.stream(job)) as stream:
        chunk = asyncio.ensure_future(anext(stream))
        await machine.clock.advance(0)
        machine.outputs.sink(job).write(b"polled")
        assert b"polled" == (await chunk).data


async def test_without_follow_a_stream_ends_at_the_current_end() -> None:
    """It does not wait, and does not yield what is written meanwhile."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(LONG)
    assert b"" == await collect(worker, job, follow=False)
    machine.outputs.sink(job).write(b"x" * (following.CHUNK_SIZE + 1))
    async with aclosing(worker.stream(job, follow=False)) as stream:
        assert following.CHUNK_SIZE == len((await anext(stream)).data)
        machine.outputs.sink(job).write(b"y" * 10)
        assert [Chunk(following.CHUNK_SIZE, b"x")] == [chunk async for chunk in stream]


async def test_removing_a_job_ends_its_streams() -> None:
    """A stream of a removed job raises OutputUnavailable."""
    machine = printing(b"x" * (following.CHUNK_SIZE + 1))
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    async with aclosing(worker.stream(job)) as stream:
        await anext(stream)
        await worker.remove(job)
        with pytest.raises(OutputUnavailable):
            await anext(stream)


async def test_split_output_has_a_stream_for_each_channel() -> None:
    """The default is stdout; each channel has its own offsets and its own end."""
    worker = printing(b"out", b"err!").worker()
    job = await worker.start(JobSpec("print", split_output=True))
    for channel, expected in (
        (None, b"out"),
        (Channel.OUTPUT, b"out"),
        (Channel.STDOUT, b"out"),
        (Channel.STDERR, b"err!"),
    ):
        assert expected == await collect(worker, job, channel=channel)


async def test_combined_output_has_one_channel() -> None:
    """Stderr cannot be streamed unless it was recorded separately."""
    worker = printing(b"out", b"err").worker()
    job = await worker.start(JobSpec("print"))
    assert b"outerr" == await collect(worker, job)
    with pytest.raises(InvalidJobSpec, match="channel: the job was not started with split output"):
        await collect(worker, job, channel=Channel.STDERR)


class GatedJournal(MemoryJournal):
    """A journal that stores an end only after its gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def put(self, record: JobRecord) -> None:
        """Wait for the gate before an end is stored."""
        if record.end is not None:
            await self.gate.wait()
        await super().put(record)


async def test_a_stream_does_not_end_before_its_job_has_finished() -> None:
    """After the end of a stream the job has finished and can be removed."""
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
