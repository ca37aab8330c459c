"""Where a stream begins: at offsets, with tails, and at what is still kept."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.engine import following
from worker.core.errors import InvalidJobSpec, OutputUnavailable
from worker.core.model.ending import Channel
from worker.core.model.job import (
    Chunk,
    Extent,
    JobId,
    JobSpec,
    new_job_id,
)
from worker.core.model.stream_start import FromOffset, LastBytes, LastLines, StreamStart
from worker.core.testing import FakeMachine, MemoryOutputStore
from worker.core.testing.memory_outputs import MemorySink

from ..support.streaming import collect, printing, sink

LONG = JobSpec("sleep", ["1000"])


@given(data=st.binary(max_size=50), offset=st.integers(0, 60))
async def test_a_stream_starts_at_any_offset(data: bytes, offset: int) -> None:
    """The offset is where a client resumes; beyond the end of a finished job there is nothing."""
    worker = printing(data).worker()
    job = await worker.start(JobSpec("print"))
    assert data[offset:] == await collect(worker, job, start=FromOffset(offset))
    assert data[offset:] == await collect(worker, job, start=FromOffset(offset), follow=False)


async def test_an_offset_may_lie_in_the_future() -> None:
    """A stream of a running job waits until that byte has been written."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(LONG)
    async with aclosing(worker.stream(job, start=FromOffset(4))) as stream:
        chunk = asyncio.ensure_future(anext(stream))
        for piece in (b"ab", b"cd", b"ef"):
            await machine.clock.advance(0)
            assert not chunk.done()
            sink(machine, job).write(piece)
        assert Chunk(4, b"ef") == await chunk


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
    """The last lines, or bytes, of what is kept; the first chunk tells where they should begin."""
    kept = text[min(dropped, len(text)) :]
    last_lines = b"".join(kept.splitlines(keepends=True)[-lines:] if lines else [])
    last_bytes = kept[-size:] if size else b""
    are_kept = lines == 0 or kept.removesuffix(b"\n").count(b"\n") >= lines
    begin = len(text) - len(last_lines) if are_kept else 0

    async def scenario() -> None:
        machine = printing(text)
        if stingy:
            machine.outputs = Stingy()
        worker = machine.worker()
        job = await worker.start(JobSpec("print"))
        await worker.wait(job)
        machine.outputs.drop_before(job, Channel.OUTPUT, len(text) - len(kept))
        for follow in (True, False):
            tail = [chunk async for chunk in worker.stream(job, start=LastLines(lines), follow=follow)]
            assert (Chunk(begin, b""), last_lines) == (tail[0], b"".join(each.data for each in tail))
            tail = [chunk async for chunk in worker.stream(job, start=LastBytes(size), follow=follow)]
            assert Chunk(max(0, len(text) - size), b"") == tail[0]
            assert last_bytes == b"".join(each.data for each in tail)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(following, "_LOOK_BACK", look_back)
        asyncio.run(scenario())


async def test_a_tail_is_followed() -> None:
    """What comes after the tail belongs to the stream."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["5"]))
    sink(machine, job).write(b"1\n2\n3\n")
    stream = asyncio.create_task(collect(worker, job, start=LastLines(1)))
    await machine.clock.advance(1.0)
    sink(machine, job).write(b"4\n")
    await machine.clock.advance(4.0)
    assert b"3\n4\n" == await stream


@pytest.mark.parametrize(
    ("start", "named"), [(FromOffset, "offset"), (LastLines, "tail_lines"), (LastBytes, "tail_bytes")]
)
def test_negative_numbers_are_refused(start: Callable[[int], StreamStart], named: str) -> None:
    """No byte is there; the error names the value."""
    with pytest.raises(InvalidJobSpec, match=f"^{named}: -1; must be 0 or more"):
        start(-1)


async def test_a_stream_starts_at_the_first_kept_byte() -> None:
    """Where older output is no longer kept, the offset of the first chunk says so."""
    machine = printing(b"0123456789")
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    machine.outputs.drop_before(job, Channel.OUTPUT, 7)
    for follow in (True, False):
        chunks = [chunk async for chunk in worker.stream(job, start=FromOffset(2), follow=follow)]
        assert [Chunk(7, b"789")] == chunks


async def test_a_slow_client_misses_only_what_is_dropped() -> None:
    """It goes on at the first byte that is still kept, and sees the gap by the offset."""
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


async def test_output_that_is_gone_is_never_passed_over() -> None:
    """Where nothing follows what is gone, an empty chunk tells how far it reached."""
    machine = printing(b"0123456789")
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    machine.outputs.drop_before(job, Channel.OUTPUT, 10)
    for follow in (True, False):
        assert [Chunk(10, b"")] == [chunk async for chunk in worker.stream(job, follow=follow)]


class Vanishing(MemoryOutputStore):
    """Drops the oldest bytes while they are being read."""

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Drop four bytes, then read."""
        kept = await self.extent(job, channel)
        self.drop_before(job, channel, min(kept.first + 4, kept.end))
        return await super().read(job, channel, offset, size)


async def test_a_tail_of_what_vanishes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins at a line that is still there, or else with all that is."""
    monkeypatch.setattr(following, "_LOOK_BACK", 6)
    store = Vanishing()
    for lines in range(1, 10):
        job = new_job_id()
        sinks = await store.create(job, (Channel.OUTPUT,))
        written = sinks[Channel.OUTPUT]
        assert isinstance(written, MemorySink)
        written.write(b"aa\n" * 9)
        extent = await store.extent(job, Channel.OUTPUT)
        start = await following.start_of_tail(store, job, Channel.OUTPUT, extent, lines=lines)
        assert start in {27 - 3 * lines, 0}
        assert start == 0 or start >= written.dropped


async def test_others_get_on_while_a_long_tail_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines are asked for: they are counted a piece at a time."""
    monkeypatch.setattr(following, "_LOOK_BACK", 10)
    worker = printing(b"\n" * 1000).worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    tail = asyncio.ensure_future(anext(worker.stream(job, start=LastLines(999))))
    rounds = 0
    while not tail.done():
        rounds += 1
        await asyncio.sleep(0)
    assert Chunk(1, b"") == tail.result()
    assert rounds >= 99


class Growing(MemoryOutputStore):
    """Has another line each time somebody asks how far the output has come."""

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        """Tell, and write on."""
        extent = await super().extent(job, channel)
        self._sinks[job][channel].write(b"another\n")
        return extent


async def test_a_tail_of_what_is_there_now_while_more_comes() -> None:
    """Where it begins and where it ends is decided at one moment."""
    machine = printing(b"first\nsecond\n")
    machine.outputs = Growing()
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    assert b"second\n" == await collect(worker, job, start=LastLines(1), follow=False)


async def test_output_that_is_deleted_while_the_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows, or comes then, waits for what comes; only of a finished job it is an error."""
    monkeypatch.setattr(following, "SLOW_LOOK", 0.001)
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(LONG)
    sink(machine, job).write(b"gone")
    async with (
        aclosing(worker.stream(job)) as early,
        aclosing(worker.stream(job, start=LastLines(3))) as late,
    ):
        assert Chunk(0, b"gone") == await anext(early)
        chunk = asyncio.ensure_future(anext(early))
        with deleted(machine, job):
            assert Chunk(0, b"") == await anext(late)
            assert [] == [chunk async for chunk in worker.stream(job, follow=False)]
            coming = asyncio.ensure_future(anext(late))
            await asyncio.sleep(20 * following.SLOW_LOOK)  # it has been looked at meanwhile
            assert not chunk.done()
            assert not coming.done()
        sink(machine, job).drop(4)
        sink(machine, job).write(b"new")
        assert Chunk(4, b"new") == await chunk == await coming


@contextmanager
def deleted(machine: FakeMachine, job: JobId) -> Iterator[None]:
    """Have nothing kept of a job, for a while."""
    sinks = machine.outputs._sinks.pop(job)
    yield
    machine.outputs._sinks[job] = sinks


async def test_missing_output_is_an_error() -> None:
    """A stream never ends as if it were complete when it is not."""
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
