"""The start of a stream: at an offset, with a tail, and at the first kept byte."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import (
    Channel,
    Chunk,
    Extent,
    FromOffset,
    InvalidJobSpec,
    JobId,
    JobSpec,
    LastBytes,
    LastLines,
    OutputUnavailable,
    StreamStart,
    new_job_id,
)
from worker.core.engine import following
from worker.core.testing import FakeMachine, MemoryOutputStore, MemorySink

from ..support.streaming import collect, printing

LONG = JobSpec("sleep", ["1000"])


@given(data=st.binary(max_size=50), offset=st.integers(0, 60))
async def test_a_stream_starts_at_any_offset(data: bytes, offset: int) -> None:
    """A client can resume at any offset; beyond the end of a finished job the stream is empty."""
    worker = printing(data).worker()
    job = await worker.start(JobSpec("print"))
    assert data[offset:] == await collect(worker, job, start=FromOffset(offset))
    assert data[offset:] == await collect(worker, job, start=FromOffset(offset), follow=False)


async def test_an_offset_beyond_the_current_end() -> None:
    """A stream of a running job waits until that byte has been written."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(LONG)
    async with aclosing(worker.stream(job, start=FromOffset(4))) as stream:
        chunk = asyncio.ensure_future(anext(stream))
        for piece in (b"ab", b"cd", b"ef"):
            await machine.clock.advance(0)
            assert not chunk.done()
            machine.outputs.sink(job).write(piece)
        assert Chunk(4, b"ef") == await chunk


class ShortReads(MemoryOutputStore):
    """Returns a few bytes per read, as a store may at the end of a segment."""

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Return fewer bytes than requested."""
        return await super().read(job, channel, offset, min(size, 3))


@given(
    text=st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\xff"]), max_size=20).map(b"".join),
    lines=st.integers(0, 8),
    size=st.integers(0, 30),
    dropped=st.integers(0, 20),
    tail_block=st.integers(1, 5),
    short_reads=st.booleans(),
)
async def test_tails(
    *, text: bytes, lines: int, size: int, dropped: int, tail_block: int, short_reads: bool
) -> None:
    """A tail has the last lines or bytes of the kept range; its first chunk has the offset of its start."""
    kept = text[min(dropped, len(text)) :]
    last_lines = b"".join(kept.splitlines(keepends=True)[-lines:] if lines else [])
    last_bytes = kept[-size:] if size else b""
    are_kept = lines == 0 or kept.removesuffix(b"\n").count(b"\n") >= lines
    begin = len(text) - len(last_lines) if are_kept else 0
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(following, "TAIL_BLOCK", tail_block)
        machine = printing(text)
        if short_reads:
            machine.outputs = ShortReads()
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


async def test_a_tail_is_followed() -> None:
    """The stream continues with the output that follows the tail."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["5"]))
    machine.outputs.sink(job).write(b"1\n2\n3\n")
    stream = asyncio.create_task(collect(worker, job, start=LastLines(1)))
    await machine.clock.advance(1.0)
    machine.outputs.sink(job).write(b"4\n")
    await machine.clock.advance(4.0)
    assert b"3\n4\n" == await stream


@pytest.mark.parametrize(
    ("start", "named"), [(FromOffset, "offset"), (LastLines, "tail_lines"), (LastBytes, "tail_bytes")]
)
def test_negative_numbers_are_rejected(start: Callable[[int], StreamStart], named: str) -> None:
    """The error names the argument."""
    with pytest.raises(InvalidJobSpec, match=f"^{named}: -1; must be 0 or more"):
        start(-1)


async def test_a_stream_starts_at_the_first_kept_byte() -> None:
    """If older output was dropped, the first chunk has the offset of the first kept byte."""
    machine = printing(b"0123456789")
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    machine.outputs.drop_before(job, Channel.OUTPUT, 7)
    for follow in (True, False):
        chunks = [chunk async for chunk in worker.stream(job, start=FromOffset(2), follow=follow)]
        assert [Chunk(7, b"789")] == chunks


async def test_a_slow_client_misses_only_what_is_dropped() -> None:
    """It continues at the first kept byte, and the offset shows the gap."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["1"]))
    machine.outputs.sink(job).write(b"0123")
    async with aclosing(worker.stream(job)) as stream:
        assert Chunk(0, b"0123") == await anext(stream)
        machine.outputs.sink(job).write(b"456789")
        machine.outputs.drop_before(job, Channel.OUTPUT, 8)
        assert Chunk(8, b"89") == await anext(stream)
        machine.outputs.sink(job).write(b"ab")
        machine.outputs.drop_before(job, Channel.OUTPUT, 12)  # everything is dropped
        await machine.clock.advance(1.0)
        assert [Chunk(12, b"")] == [chunk async for chunk in stream]


async def test_a_gap_at_the_end_is_reported() -> None:
    """If no output follows the gap, an empty chunk has the offset of its end."""
    machine = printing(b"0123456789")
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    machine.outputs.drop_before(job, Channel.OUTPUT, 10)
    for follow in (True, False):
        assert [Chunk(10, b"")] == [chunk async for chunk in worker.stream(job, follow=follow)]


class Dropping(MemoryOutputStore):
    """Drops the oldest bytes at each read."""

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Drop four bytes, then read."""
        kept = await self.extent(job, channel)
        self.drop_before(job, channel, min(kept.first + 4, kept.end))
        return await super().read(job, channel, offset, size)


async def test_a_tail_while_output_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail begins at a line that is still kept, or at the first kept byte."""
    monkeypatch.setattr(following, "TAIL_BLOCK", 6)
    store = Dropping()
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


async def test_the_search_for_a_long_tail_yields_to_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are counted one block at a time, however many are requested."""
    monkeypatch.setattr(following, "TAIL_BLOCK", 10)
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
    """Writes another line at each call of ``extent``."""

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        """Return the kept range, then write a line."""
        extent = await super().extent(job, channel)
        self.sink(job, channel).write(b"another\n")
        return extent


async def test_a_tail_without_follow_while_the_job_writes() -> None:
    """The start and the end of the tail are determined at one moment."""
    machine = printing(b"first\nsecond\n")
    machine.outputs = Growing()
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    assert b"second\n" == await collect(worker, job, start=LastLines(1), follow=False)


async def test_output_that_is_deleted_while_the_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams wait for new output of a running job; only for a finished job this is an error."""
    monkeypatch.setattr(following, "POLL_INTERVAL", 0.001)
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(LONG)
    machine.outputs.sink(job).write(b"old")
    async with (
        aclosing(worker.stream(job)) as early,
        aclosing(worker.stream(job, start=LastLines(3))) as late,
    ):
        assert Chunk(0, b"old") == await anext(early)
        chunk = asyncio.ensure_future(anext(early))
        with machine.outputs.deleted(job):
            assert Chunk(0, b"") == await anext(late)
            assert [] == [chunk async for chunk in worker.stream(job, follow=False)]
            coming = asyncio.ensure_future(anext(late))
            await asyncio.sleep(20 * following.POLL_INTERVAL)  # the streams poll meanwhile
            assert not chunk.done()
            assert not coming.done()
        machine.outputs.sink(job).drop(3)
        machine.outputs.sink(job).write(b"new")
        assert Chunk(3, b"new") == await chunk == await coming


async def test_missing_output_is_an_error() -> None:
    """A stream that is incomplete raises OutputUnavailable instead of ending."""
    machine = printing(b"0123456789")
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    del machine.outputs.sink(job).data[7:]
    with pytest.raises(OutputUnavailable, match="output ends at byte 7 where 10 were recorded"):
        await collect(worker, job)
    await machine.outputs.remove(job)
    with pytest.raises(OutputUnavailable, match=f"no output of job {job} is kept"):
        await collect(worker, job)
