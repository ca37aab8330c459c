"""Streams that select output by time, and streams with timestamps."""

import asyncio
from contextlib import aclosing
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import (
    BEGINNING,
    Channel,
    Chunk,
    FromOffset,
    InvalidJobSpec,
    JobId,
    JobSpec,
    LastLines,
    MemoryJournal,
    Stamp,
    StreamTimes,
    TimesNotKept,
    Worker,
)
from worker.core.testing import FakeMachine, MemoryOutputStore

from ..support.streaming import printing

LONG = JobSpec("sleep", ["1000"])
NOW = 1_700_000_000_000
"""The time at which a FakeMachine starts, in milliseconds."""


async def written(machine: FakeMachine, worker: Worker, writes: list[tuple[int, bytes]]) -> JobId:
    """Return a running job that has written this, each after some milliseconds."""
    job = await worker.start(LONG)
    for pause, data in writes:
        await machine.clock.advance(pause / 1000)
        machine.outputs.sink(job).write(data)
    return job


async def streamed(worker: Worker, job: JobId, times: StreamTimes, **how: object) -> list[Chunk]:
    """Return the chunks of a stream that does not follow."""
    return [chunk async for chunk in worker.stream(job, times=times, follow=False, **how)]  # type: ignore[arg-type]


@given(
    writes=st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=5)), max_size=8),
    since=st.none() | st.integers(0, 20),
    length=st.none() | st.integers(0, 20),
    start=st.integers(0, 20),
    timestamps=st.booleans(),
)
async def test_a_stream_has_the_output_of_the_requested_time(
    writes: list[tuple[int, bytes]], since: int | None, length: int | None, start: int, *, timestamps: bool
) -> None:
    """From the first byte since a time to the last byte until a time, and from an offset on."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await written(machine, worker, [(1000 * pause, data) for pause, data in writes])
    begin = None if since is None else NOW + 1000 * since
    end = None if length is None else NOW + 1000 * ((since or 0) + length)
    expected, now = b"", NOW
    for position, (pause, data) in enumerate(writes):
        now += 1000 * pause
        before = sum(len(each) for _, each in writes[:position])
        if (begin is None or now >= begin) and (end is None or now <= end):
            expected += data[max(0, start - before) :]
    times = StreamTimes(begin, end, timestamps)
    chunks = await streamed(worker, job, times, start=FromOffset(start))
    assert expected == b"".join(chunk.data for chunk in chunks)
    for before, after in pairwise(chunks):
        assert before.offset + len(before.data) == after.offset
    await worker.close()


async def test_chunks_are_divided_where_the_time_changes() -> None:
    """Each chunk has the time of all of its bytes, and is not divided further."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await written(machine, worker, [(0, b"ab"), (1500, b"cd\nef"), (250, b"\n")])
    stamped = StreamTimes(timestamps=True)
    expected = [Chunk(0, b"ab", NOW), Chunk(2, b"cd\nef", NOW + 1500), Chunk(7, b"\n", NOW + 1750)]
    assert expected == await streamed(worker, job, stamped)
    assert [Chunk(3, b"d\nef", NOW + 1500), expected[2]] == await streamed(
        worker, job, stamped, start=FromOffset(3)
    )
    await worker.close()


async def test_a_time_applies_in_addition_to_a_tail() -> None:
    """The later start applies, as for docker; the first chunk is empty and has its offset."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await written(machine, worker, [(0, b"1\n2\n"), (1000, b"3\n")])
    for since, lines, expected in ((NOW, 2, 2), (NOW + 1, 2, 4), (NOW, 9, 0)):
        chunks = await streamed(worker, job, StreamTimes(since), start=LastLines(lines))
        assert Chunk(expected, b"") == chunks[0]
        assert b"1\n2\n3\n"[expected:] == b"".join(chunk.data for chunk in chunks)
    await worker.close()


async def test_output_of_a_time_that_may_have_been_discarded() -> None:
    """The stream begins with offset 0 then, so that the client sees that bytes are missing."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await written(machine, worker, [(0, b"0123"), (1000, b"4567"), (1000, b"89")])
    machine.outputs.drop_before(job, Channel.OUTPUT, 6)
    assert [Chunk(0, b""), Chunk(6, b"6789")] == await streamed(worker, job, StreamTimes(NOW + 1000))
    assert [Chunk(8, b""), Chunk(8, b"89")] == await streamed(worker, job, StreamTimes(NOW + 1001))
    await worker.close()


async def test_a_time_in_the_future_to_begin_at() -> None:
    """Output until then is skipped, and no empty chunk announces an offset that is not known yet."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await written(machine, worker, [(0, b"past")])
    async with aclosing(worker.stream(job, times=StreamTimes(NOW + 5000))) as stream:
        chunk = asyncio.ensure_future(anext(stream))
        for data in (b"early", b"late"):
            await machine.clock.advance(3)
            assert not chunk.done()
            machine.outputs.sink(job).write(data)
        assert Chunk(9, b"late") == await chunk
    await worker.close()


async def test_a_time_in_the_future_to_end_at() -> None:
    """The stream ends at that time although the job runs, with all output until then."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await written(machine, worker, [(0, b"a")])
    async with aclosing(worker.stream(job, times=StreamTimes(until_ms=NOW + 200_000))) as stream:
        assert Chunk(0, b"a") == await anext(stream)
        rest = asyncio.ensure_future(anext(stream, None))
        for _ in range(3):
            await machine.clock.advance(60.001)
            assert not rest.done()
        machine.outputs.sink(job).write(b"b")
        assert Chunk(1, b"b") == await rest
        rest = asyncio.ensure_future(anext(stream, None))
        await machine.clock.advance(20)
        assert await rest is None
    assert set() == machine.outputs.sink(job).watches
    await worker.close()


async def test_a_time_in_the_past_to_end_at() -> None:
    """The stream ends at once, although more output follows."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await written(machine, worker, [(0, b"a"), (1000, b"b")])
    chunks = [chunk async for chunk in worker.stream(job, times=StreamTimes(until_ms=NOW + 999))]
    assert [Chunk(0, b"a")] == chunks
    await worker.close()


async def test_a_job_that_ends_before_the_time() -> None:
    """Its end is the end of the stream, and nothing of the stream is left."""
    machine = printing(b"all")
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    before = asyncio.all_tasks()
    times = StreamTimes(NOW, NOW + 10**9)
    assert [Chunk(0, b""), Chunk(0, b"all")] == [chunk async for chunk in worker.stream(job, times=times)]
    await machine.clock.advance(0)
    assert before == asyncio.all_tasks()
    await worker.close()


async def test_a_clock_that_is_set_back() -> None:
    """The stream begins with the first byte of the time, and ends before the first later byte."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await written(machine, worker, [(0, b"a"), (10_000, b"b")])
    machine.clock.set(NOW / 1000 + 5)
    machine.outputs.sink(job).write(b"c")
    chunks = await streamed(worker, job, StreamTimes(NOW + 6000, timestamps=True))
    assert [Chunk(1, b""), Chunk(1, b"b", NOW + 10_000), Chunk(2, b"c", NOW + 5000)] == chunks
    assert [Chunk(0, b"a")] == await streamed(worker, job, StreamTimes(until_ms=NOW + 6000))
    await worker.close()


class Dropping(MemoryOutputStore):
    """Drops the first bytes of a job between the read of a chunk and that of its times."""

    async def times(self, job: JobId, channel: Channel, offset: int, size: int) -> list[Stamp]:
        """Drop up to byte 4, then return the times."""
        if self.sink(job, channel).dropped < 4:
            self.drop_before(job, channel, 4)
        return list(await super().times(job, channel, offset, size))


async def test_output_that_is_discarded_while_it_is_read() -> None:
    """The stream continues with the first kept byte, and the offset shows the gap."""
    machine = FakeMachine(outputs=Dropping())
    worker = machine.worker()
    job = await written(machine, worker, [(0, b"012345")])
    assert [Chunk(4, b"45", NOW)] == await streamed(worker, job, StreamTimes(timestamps=True))
    await worker.close()


class Plain:
    """The methods of an OutputStore, and no others."""

    def __init__(self, store: MemoryOutputStore) -> None:
        self.sink_kind = store.sink_kind
        self.create = store.create
        self.extent = store.extent
        self.read = store.read
        self.watch = store.watch
        self.remove = store.remove
        self.sweep = store.sweep
        self.close = store.close


@pytest.mark.parametrize("times", [StreamTimes(0), StreamTimes(until_ms=0), StreamTimes(timestamps=True)])
async def test_a_store_without_times(times: StreamTimes) -> None:
    """A stream that needs times is refused with the reason; others work."""
    machine = FakeMachine()
    worker = Worker(
        spawner=machine.spawner,
        limiter=machine.limiter,
        outputs=Plain(MemoryOutputStore()),
        journal=MemoryJournal(),
    )
    job = await worker.start(JobSpec("echo", ["hi"]))
    assert [Chunk(0, b"hi\n")] == [chunk async for chunk in worker.stream(job)]
    with pytest.raises(TimesNotKept, match="the output store of this server keeps no times"):
        await streamed(worker, job, times, start=BEGINNING)
    await worker.close()


def test_times_that_contradict_each_other() -> None:
    """The error names the field."""
    with pytest.raises(InvalidJobSpec, match=r"^until_ms: 1 is before since_ms, 2"):
        StreamTimes(2, 1)
    with pytest.raises(InvalidJobSpec, match=r"^since_ms: 9223372036854775808; must be 0 or more"):
        StreamTimes(1 << 63)
