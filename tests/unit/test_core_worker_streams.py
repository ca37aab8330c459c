"""Streaming a job's output: before, during and after, from anywhere, to anybody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import output
from worker.core.defaults import MemoryJournal
from worker.core.ending import Channel
from worker.core.errors import InvalidJobSpec, OutputUnavailable
from worker.core.job import Chunk, JobId, JobRecord, JobSpec, Leftovers, new_job_id
from worker.core.output import CHUNK_SIZE
from worker.core.testing import FakeMachine, FakeProgram, MemoryOutputStore
from worker.core.testing.fake_spawner import PROGRAMS
from worker.core.testing.memory_outputs import MemorySink, MemoryWatch
from worker.core.worker import Worker

LONG = JobSpec("sleep", ["1000"])


def sink(machine: FakeMachine, job: JobId, channel: Channel = Channel.OUTPUT) -> MemorySink:
    """Return what a job writes to, so that a test can write in its place."""
    return machine.outputs._sinks[job][channel]


def printing(data: bytes, errors: bytes = b"", **how: float) -> FakeMachine:
    """Return a machine with a program ``print`` that writes this."""
    return FakeMachine({**PROGRAMS, "print": lambda _: FakeProgram(data, errors, **how)})


async def collect(worker: Worker, job: JobId, **options: int | bool | Channel | None) -> bytes:
    """Read a stream to its end; its chunks must be whole and in order, that of a tail's begin is empty."""
    chunks = [chunk async for chunk in worker.stream(job, **options)]
    for before, after in pairwise(chunks):
        assert before.offset + len(before.data) == after.offset
    if "tail_lines" in options or "tail_bytes" in options:
        assert b"" == chunks.pop(0).data
    assert all(0 < len(chunk.data) <= CHUNK_SIZE for chunk in chunks)
    return b"".join(chunk.data for chunk in chunks)


# --- every byte once, and an end


def test_a_stream_after_the_end_has_everything() -> None:
    """Any bytes, in pieces that can be sent, up to the last one."""
    data = bytes(range(256)) * 1000

    async def scenario() -> None:
        machine = printing(data)
        worker = machine.worker()
        job = await worker.start(JobSpec("print"))
        await worker.wait(job)
        assert data == await collect(worker, job)

    asyncio.run(scenario())


def test_a_job_that_writes_nothing_has_an_empty_stream() -> None:
    """The stream ends with the job, without a chunk."""

    async def scenario() -> None:
        worker = FakeMachine().worker()
        job = await worker.start(JobSpec("true"))
        assert b"" == await collect(worker, job)

    asyncio.run(scenario())


def test_a_stream_follows_and_ends_with_the_job() -> None:
    """What is written comes at once; silence is no end; the end comes when the job is over."""

    async def scenario() -> None:
        machine = FakeMachine()
        worker = machine.worker()
        job = await worker.start(JobSpec("sleep", ["5"]))
        async with aclosing(worker.stream(job)) as stream:
            for offset, data in ((0, b"one"), (3, b"two"), (6, b"three")):
                following = asyncio.ensure_future(anext(stream))
                await machine.clock.advance(1.0)
                assert not following.done()
                sink(machine, job).write(data)
                assert Chunk(offset, data) == await following
            end = asyncio.ensure_future(anext(stream, None))
            await machine.clock.advance(5.0)
            assert await end is None

    asyncio.run(scenario())


def test_a_stream_outlasts_the_main_process() -> None:
    """While a child is left, it may write; the stream ends after its last word."""

    async def scenario() -> None:
        machine = printing(b"main ", child_seconds=5.0)
        worker = machine.worker()
        job = await worker.start(JobSpec("print", leftovers=Leftovers.WAIT))
        stream = asyncio.create_task(collect(worker, job))
        await machine.clock.advance(4.0)
        assert not stream.done()
        sink(machine, job).write(b"child")
        await machine.clock.advance(1.0)
        assert b"main child" == await stream

    asyncio.run(scenario())


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


def test_all_clients_get_the_same_whenever_they_come() -> None:
    """Before, during and after; one that goes away disturbs nobody."""

    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_a_stream_that_is_left_leaves_nothing() -> None:
    """No watch and no task stay behind, whether it was closed or cancelled while it waited."""

    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_a_watch_is_only_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing tells of output, a slow look finds it all the same."""

    class Deaf(MemoryOutputStore):
        @asynccontextmanager
        async def watch(self, job: JobId) -> AsyncIterator[MemoryWatch]:
            del job
            yield MemoryWatch()

    async def scenario() -> None:
        machine = FakeMachine(outputs=Deaf())
        worker = machine.worker()
        job = await worker.start(LONG)
        async with aclosing(worker.stream(job)) as stream:
            following = asyncio.ensure_future(anext(stream))
            await machine.clock.advance(0)
            sink(machine, job).write(b"unheard")
            assert b"unheard" == (await following).data

    monkeypatch.setattr(output, "SLOW_LOOK", 0.001)
    asyncio.run(scenario())


# --- from where, and how far


@given(data=st.binary(max_size=50), offset=st.integers(0, 60))
def test_a_stream_starts_at_any_offset(data: bytes, offset: int) -> None:
    """The offset is where a client resumes; beyond the end of a finished job there is nothing."""

    async def scenario() -> None:
        worker = printing(data).worker()
        job = await worker.start(JobSpec("print"))
        assert data[offset:] == await collect(worker, job, offset=offset)
        assert data[offset:] == await collect(worker, job, offset=offset, follow=False)

    asyncio.run(scenario())


def test_an_offset_may_lie_in_the_future() -> None:
    """A stream of a running job waits until that byte has been written."""

    async def scenario() -> None:
        machine = FakeMachine()
        worker = machine.worker()
        job = await worker.start(LONG)
        async with aclosing(worker.stream(job, offset=4)) as stream:
            following = asyncio.ensure_future(anext(stream))
            for piece in (b"ab", b"cd", b"ef"):
                await machine.clock.advance(0)
                assert not following.done()
                sink(machine, job).write(piece)
            assert Chunk(4, b"ef") == await following

    asyncio.run(scenario())


def test_without_follow_a_stream_ends_at_what_is_there() -> None:
    """It waits for nothing, and what is written meanwhile is for the next one."""

    async def scenario() -> None:
        machine = FakeMachine()
        worker = machine.worker()
        job = await worker.start(LONG)
        assert b"" == await collect(worker, job, follow=False)
        sink(machine, job).write(b"x" * (CHUNK_SIZE + 1))
        async with aclosing(worker.stream(job, follow=False)) as stream:
            assert CHUNK_SIZE == len((await anext(stream)).data)
            sink(machine, job).write(b"y" * 10)
            assert [Chunk(CHUNK_SIZE, b"x")] == [chunk async for chunk in stream]

    asyncio.run(scenario())


class Stingy(MemoryOutputStore):
    """Gives a few bytes at a time, as a store may at the end of a segment."""

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Give less than was asked for."""
        return await super().read(job, channel, offset, min(size, 3))


@given(
    text=st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\xff"]), max_size=20).map(b"".join),
    lines=st.integers(0, 8),
    size=st.integers(0, 30),
    dropped=st.integers(0, 20),
    look_back=st.integers(1, 5),
    stingy=st.booleans(),
)
def test_tails(text: bytes, lines: int, size: int, dropped: int, look_back: int, stingy: bool) -> None:  # noqa: FBT001
    """The last lines, or bytes, of what is kept; the last line may lack its newline."""
    kept = text[min(dropped, len(text)) :]
    last_lines = b"".join(kept.splitlines(keepends=True)[-lines:] if lines else [])
    last_bytes = kept[-size:] if size else b""

    async def scenario() -> None:
        machine = printing(text)
        if stingy:
            machine.outputs = Stingy()
        worker = machine.worker()
        job = await worker.start(JobSpec("print"))
        await worker.wait(job)
        machine.outputs.drop_before(job, Channel.OUTPUT, len(text) - len(kept))
        for follow in (True, False):
            assert last_lines == await collect(worker, job, tail_lines=lines, follow=follow)
            assert last_bytes == await collect(worker, job, tail_bytes=size, follow=follow)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(output, "_LOOK_BACK", look_back)
        asyncio.run(scenario())


def test_a_tail_is_followed() -> None:
    """What comes after the tail belongs to the stream."""

    async def scenario() -> None:
        machine = FakeMachine()
        worker = machine.worker()
        job = await worker.start(JobSpec("sleep", ["5"]))
        sink(machine, job).write(b"1\n2\n3\n")
        stream = asyncio.create_task(collect(worker, job, tail_lines=1))
        await machine.clock.advance(1.0)
        sink(machine, job).write(b"4\n")
        await machine.clock.advance(4.0)
        assert b"3\n4\n" == await stream

    asyncio.run(scenario())


@pytest.mark.parametrize("option", ["offset", "tail_lines", "tail_bytes"])
def test_negative_numbers_are_refused(option: str) -> None:
    """No byte lies there; the argument is named."""

    async def scenario() -> None:
        worker = FakeMachine().worker()
        job = await worker.start(JobSpec("true"))
        with pytest.raises(InvalidJobSpec, match=f"^{option.replace('_', ' ')}: -1; must be 0 or more"):
            await collect(worker, job, **{option: -1})

    asyncio.run(scenario())


# --- stores with a bound, and output that is gone


def test_a_stream_starts_at_the_first_kept_byte() -> None:
    """Where older output is no longer kept, the offset of the first chunk says so."""

    async def scenario() -> None:
        machine = printing(b"0123456789")
        worker = machine.worker()
        job = await worker.start(JobSpec("print"))
        await worker.wait(job)
        machine.outputs.drop_before(job, Channel.OUTPUT, 7)
        for follow in (True, False):
            chunks = [chunk async for chunk in worker.stream(job, offset=2, follow=follow)]
            assert [Chunk(7, b"789")] == chunks

    asyncio.run(scenario())


def test_a_slow_client_misses_only_what_is_dropped() -> None:
    """It goes on at the first byte that is still kept, and sees the gap by the offset."""

    async def scenario() -> None:
        machine = FakeMachine()
        worker = machine.worker()
        job = await worker.start(JobSpec("sleep", ["1"]))
        sink(machine, job).write(b"0123")
        async with aclosing(worker.stream(job)) as stream:
            assert Chunk(0, b"0123") == await anext(stream)
            sink(machine, job).write(b"456789")
            machine.outputs.drop_before(job, Channel.OUTPUT, 8)
            assert Chunk(8, b"89") == await anext(stream)
            sink(machine, job).write(b"ab")
            machine.outputs.drop_before(job, Channel.OUTPUT, 12)  # nothing at all is left
            await machine.clock.advance(1.0)
            assert [Chunk(12, b"")] == [chunk async for chunk in stream]

    asyncio.run(scenario())


def test_output_that_is_gone_is_never_passed_over() -> None:
    """Where nothing follows what is gone, an empty chunk tells how far it reached."""

    async def scenario() -> None:
        machine = printing(b"0123456789")
        worker = machine.worker()
        job = await worker.start(JobSpec("print"))
        await worker.wait(job)
        machine.outputs.drop_before(job, Channel.OUTPUT, 10)
        for follow in (True, False):
            assert [Chunk(10, b"")] == [chunk async for chunk in worker.stream(job, follow=follow)]

    asyncio.run(scenario())


class Vanishing(MemoryOutputStore):
    """Drops the oldest bytes while they are being read."""

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Drop four bytes, then read."""
        kept = await self.extent(job, channel)
        self.drop_before(job, channel, min(kept.first + 4, kept.end))
        return await super().read(job, channel, offset, size)


def test_a_tail_of_what_vanishes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins at a line that is still there, or else at the first byte that is."""
    monkeypatch.setattr(output, "_LOOK_BACK", 6)

    async def scenario() -> None:
        store = Vanishing()
        for lines in range(1, 10):
            job = new_job_id()
            sinks = await store.create(job, (Channel.OUTPUT,))
            written = sinks[Channel.OUTPUT]
            assert isinstance(written, MemorySink)
            written.write(b"aa\n" * 9)
            start = await output.start_of_tail(store, job, Channel.OUTPUT, lines=lines)
            assert start in {27 - 3 * lines, written.dropped}
            assert start >= written.dropped

    asyncio.run(scenario())


def test_missing_output_is_an_error() -> None:
    """A stream never ends as if it were complete when it is not."""

    async def scenario() -> None:
        machine = printing(b"0123456789")
        worker = machine.worker()
        job = await worker.start(JobSpec("print"))
        await worker.wait(job)
        del sink(machine, job).data[7:]
        with pytest.raises(OutputUnavailable, match="output ends at byte 7 where 10 were recorded"):
            await collect(worker, job)
        await machine.outputs.remove(job)
        with pytest.raises(OutputUnavailable, match=f"no output of job {job} is kept"):
            await collect(worker, job)

    asyncio.run(scenario())


def test_removing_a_job_ends_its_streams() -> None:
    """Whoever still reads learns that the rest is gone."""

    async def scenario() -> None:
        machine = printing(b"x" * (CHUNK_SIZE + 1))
        worker = machine.worker()
        job = await worker.start(JobSpec("print"))
        await worker.wait(job)
        async with aclosing(worker.stream(job)) as stream:
            await anext(stream)
            await worker.remove(job)
            with pytest.raises(OutputUnavailable):
                await anext(stream)

    asyncio.run(scenario())


# --- channels


def test_split_output_is_streamed_apart() -> None:
    """Stdout unless stderr is asked for; each has its own offsets and its own end."""

    async def scenario() -> None:
        worker = printing(b"out", b"err!").worker()
        job = await worker.start(JobSpec("print", split_output=True))
        for channel, expected in (
            (None, b"out"),
            (Channel.OUTPUT, b"out"),
            (Channel.STDOUT, b"out"),
            (Channel.STDERR, b"err!"),
        ):
            assert expected == await collect(worker, job, channel=channel)

    asyncio.run(scenario())


def test_output_in_one_has_no_parts() -> None:
    """Stderr alone cannot be had where it was not recorded alone."""

    async def scenario() -> None:
        worker = printing(b"out", b"err").worker()
        job = await worker.start(JobSpec("print"))
        assert b"outerr" == await collect(worker, job)
        with pytest.raises(InvalidJobSpec, match="channel: the job was not started with split output"):
            await collect(worker, job, channel=Channel.STDERR)

    asyncio.run(scenario())


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


def test_a_stream_ends_when_the_job_is_over_and_not_before() -> None:
    """Whoever has seen the end of a stream can rely on the job's being over, and remove it."""

    async def scenario() -> None:
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

    asyncio.run(scenario())
