"""The contract suite of OutputStore."""

import asyncio
import os
import stat
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import pairwise

from ..engine.capabilities import timed
from ..engine.compatibility import check_sinks
from ..errors import InvalidJobSpec, NoOutputKept, OutputUnavailable
from ..model.ending import Channel
from ..model.job import (
    SMALLEST_OUTPUT,
    Extent,
    JobId,
    new_job_id,
)
from ..ports import (
    AppendedFile,
    OutputStore,
    RecordedFifo,
    Sink,
)
from .contract import Contract

BOTH = (Channel.STDOUT, Channel.STDERR)
ONE = (Channel.OUTPUT,)
TEXT = b"first line\nsecond \xff\x00 line\nno newline"
TIMEOUT = 60.0
"""Seconds until a missing notification fails a check."""


@dataclass(frozen=True, slots=True)
class OutputBench:
    """A store, and a function that writes as a job would and returns when the bytes are recorded.

    ``bounds`` is False for a store that can only keep all output, and refuses a bound.
    """

    outputs: OutputStore
    write: Callable[[Sink, bytes], Awaitable[None]]
    bounds: bool = True


class OutputStoreContract(Contract):
    """A suite of checks; ``make`` creates a store for each, with a function that writes to its sinks."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[OutputBench]]) -> None:
        self._make = make

    async def check_sinks_have_the_kind_of_the_store(self) -> None:
        """``create`` returns one sink for each channel, of the kind that the store states."""
        async with self._make() as bench:
            sinks = await bench.outputs.create(new_job_id(), BOTH)
            assert set(BOTH) == set(sinks)
            assert {bench.outputs.sink_kind} == {sink.kind for sink in sinks.values()}
            check_sinks(bench.outputs.sink_kind, BOTH, sinks)

    async def check_files_of_sinks_exist_and_belong_to_one_job(self) -> None:
        """What a sink names exists before the job starts, and no two sinks share it."""
        async with self._make() as bench:
            paths: list[str] = []
            for _ in range(2):
                for sink in (await bench.outputs.create(new_job_id(), BOTH)).values():
                    match sink:
                        case RecordedFifo(path, directory):
                            paths.append(path)
                            assert stat.S_ISFIFO(os.stat(path).st_mode)
                            assert stat.S_ISDIR(os.stat(directory).st_mode)
                        case AppendedFile(path, start):
                            paths.append(path)
                            assert stat.S_ISREG(os.stat(path).st_mode)
                            assert start == os.stat(path).st_size
            assert len(set(paths)) == len(paths)

    async def check_a_bound_that_is_refused_leaves_nothing(self) -> None:
        """A store that cannot bound output refuses a bound, with a reason, and leaves nothing."""
        async with self._make() as bench:
            if not bench.bounds:
                job = new_job_id()
                refusal: InvalidJobSpec | None = None
                try:
                    await bench.outputs.create(job, ONE, SMALLEST_OUTPUT)
                except InvalidJobSpec as error:
                    refusal = error
                assert refusal is not None
                assert str(refusal)
                await _check_not_kept(bench.outputs, job, Channel.OUTPUT)

    async def check_the_output_of_a_new_job_is_empty(self) -> None:
        """The output of a new job is empty, begins at offset 0 and can be read."""
        async with self._make() as bench:
            job = new_job_id()
            await bench.outputs.create(job, BOTH)
            for channel in BOTH:
                assert Extent(0, 0) == await bench.outputs.extent(job, channel)
                assert b"" == await bench.outputs.read(job, channel, 0, 100)

    async def check_extent_grows_with_each_write(self) -> None:
        """Without a bound all output is kept."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            for times in (1, 2, 3):
                await bench.write(sinks[Channel.OUTPUT], TEXT)
                assert Extent(0, times * len(TEXT)) == await bench.outputs.extent(job, Channel.OUTPUT)

    async def check_any_range_can_be_read(self) -> None:
        """``read`` returns at most the requested size from any offset; repeated reads return everything."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            await bench.write(sinks[Channel.OUTPUT], TEXT)
            for offset in range(len(TEXT)):
                for size in (1, 7, len(TEXT), 1 << 20):
                    data = await bench.outputs.read(job, Channel.OUTPUT, offset, size)
                    assert data
                    assert TEXT[offset : offset + size].startswith(data)
                assert TEXT[offset:] == await _read_all(bench.outputs, job, Channel.OUTPUT, offset)

    async def check_reads_beyond_the_end_are_empty(self) -> None:
        """``read`` returns no bytes at the end and beyond it, until more output is written there."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            await bench.write(sinks[Channel.OUTPUT], TEXT)
            for offset in (len(TEXT), len(TEXT) + 1, 1 << 50):
                assert b"" == await bench.outputs.read(job, Channel.OUTPUT, offset, 100)
            await bench.write(sinks[Channel.OUTPUT], b"more")
            assert b"more" == await _read_all(bench.outputs, job, Channel.OUTPUT, len(TEXT))

    async def check_large_output_is_complete(self) -> None:
        """Megabytes of output are kept unchanged, however the store divides them."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            much = b"".join(number.to_bytes(4, "big") for number in range(1 << 18))
            await bench.write(sinks[Channel.OUTPUT], much)
            assert much == await _read_all(bench.outputs, job, Channel.OUTPUT, 0)

    async def check_a_bound_keeps_the_newest_output(self) -> None:
        """Each channel keeps at most its part of the bound, at least half of it, at unchanged offsets."""
        async with self._make() as bench:
            if not bench.bounds:
                return
            job = new_job_id()
            sinks = await bench.outputs.create(job, BOTH, SMALLEST_OUTPUT)
            part = SMALLEST_OUTPUT // len(BOTH)
            text = b"".join(number.to_bytes(4, "big") for number in range(part))
            for begin in range(0, len(text), 50_000):
                await bench.write(sinks[Channel.STDERR], text[begin : begin + 50_000])
                extent = await bench.outputs.extent(job, Channel.STDERR)
                assert min(begin + 50_000, len(text)) == extent.end
                assert min(part // 2, extent.end) <= extent.end - extent.first <= part
                kept = await _read_all(bench.outputs, job, Channel.STDERR, extent.first)
                assert text[extent.first : extent.end] == kept
            assert extent.first > 0
            await _check_unavailable(
                bench.outputs.read(job, Channel.STDERR, extent.first - 1, 1), extent.first
            )
            assert Extent(0, 0) == await bench.outputs.extent(job, Channel.STDOUT)

    async def check_channels_and_jobs_are_separate(self) -> None:
        """The output of different sinks is never mixed."""
        async with self._make() as bench:
            jobs = [new_job_id(), new_job_id()]
            for number, job in enumerate(jobs):
                sinks = await bench.outputs.create(job, BOTH)
                for channel in BOTH:
                    await bench.write(sinks[channel], f"{number} {channel}".encode())
            for number, job in enumerate(jobs):
                for channel in BOTH:
                    expected = f"{number} {channel}".encode()
                    assert expected == await _read_all(bench.outputs, job, channel, 0)

    async def check_watch_reports_writes_after_entering(self) -> None:
        """A write before the call of ``changed`` is not lost."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, BOTH)
            async with bench.outputs.watch(job) as watch:
                for sink in sinks.values():
                    await bench.write(sink, TEXT)
                    await asyncio.wait_for(watch.changed(), TIMEOUT)

    async def check_notify_wakes_a_watch(self) -> None:
        """``notify`` makes ``changed`` return without a write, as at the end of a job."""
        async with self._make() as bench:
            job = new_job_id()
            await bench.outputs.create(job, ONE)
            async with bench.outputs.watch(job) as watch:
                watch.notify()
                await asyncio.wait_for(watch.changed(), TIMEOUT)

    async def check_every_watch_is_notified(self) -> None:
        """Each of many followers is notified; cancelling one does not affect the others."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            followers = [asyncio.create_task(_read_until(bench.outputs, job, len(TEXT))) for _ in range(10)]
            await asyncio.sleep(0)  # most followers begin to wait; any others read the output directly
            followers.pop().cancel()
            await bench.write(sinks[Channel.OUTPUT], TEXT)
            read = await asyncio.wait_for(asyncio.gather(*followers), TIMEOUT)
            assert [TEXT] * 9 == read

    async def check_an_unknown_job_can_be_watched(self) -> None:
        """``watch`` of an unknown job is no error; reading its output is."""
        async with self._make() as bench, bench.outputs.watch(new_job_id()):
            pass

    async def check_unknown_output_is_unavailable(self) -> None:
        """An unknown job, or a channel that a job does not have, raises NoOutputKept."""
        async with self._make() as bench:
            job = new_job_id()
            await bench.outputs.create(job, ONE)
            await _check_not_kept(bench.outputs, job, Channel.STDERR)
            await _check_not_kept(bench.outputs, new_job_id(), Channel.OUTPUT)

    async def check_removed_output_is_unavailable(self) -> None:
        """``remove`` deletes the output of one job and of no other; it is idempotent."""
        async with self._make() as bench:
            removed, kept = new_job_id(), new_job_id()
            for job in (removed, kept):
                sinks = await bench.outputs.create(job, ONE)
                await bench.write(sinks[Channel.OUTPUT], TEXT)
            for _ in range(2):
                await bench.outputs.remove(removed)
            await bench.outputs.remove(new_job_id())
            await _check_not_kept(bench.outputs, removed, Channel.OUTPUT)
            assert TEXT == await _read_all(bench.outputs, kept, Channel.OUTPUT, 0)

    async def check_sweep_removes_all_but_the_kept(self) -> None:
        """``sweep`` deletes the output of all other jobs, and nothing else."""
        async with self._make() as bench:
            swept, kept = new_job_id(), new_job_id()
            for job in (swept, kept):
                sinks = await bench.outputs.create(job, ONE)
                await bench.write(sinks[Channel.OUTPUT], TEXT)
            await bench.outputs.sweep({kept, new_job_id()})
            await _check_not_kept(bench.outputs, swept, Channel.OUTPUT)
            assert TEXT == await _read_all(bench.outputs, kept, Channel.OUTPUT, 0)
            await bench.outputs.sweep([])
            await _check_not_kept(bench.outputs, kept, Channel.OUTPUT)

    async def check_times_are_those_of_the_writes(self) -> None:
        """A store with times knows for each byte when it was written, and where a time begins."""
        async with self._make() as bench:
            if not hasattr(bench.outputs, "times"):
                return
            outputs, job = timed(bench.outputs), new_job_id()
            sinks = await outputs.create(job, ONE)
            began = _now_ms()
            for _ in range(3):
                await bench.write(sinks[Channel.OUTPUT], TEXT)
            ended, size = _now_ms(), 3 * len(TEXT)
            for offset in range(size):
                stamps = await outputs.times(job, Channel.OUTPUT, offset, size - offset)
                assert offset == stamps[0].offset
                assert all(before.offset < after.offset < size for before, after in pairwise(stamps))
                assert all(began <= stamp.time_ms <= ended for stamp in stamps)
            for stamp in stamps:
                assert await outputs.offset_at(job, Channel.OUTPUT, stamp.time_ms) <= stamp.offset
            assert 0 == await outputs.offset_at(job, Channel.OUTPUT, began)
            assert size == await outputs.offset_at(job, Channel.OUTPUT, ended + 1)

    async def check_the_times_of_a_bound_are_those_of_the_kept_output(self) -> None:
        """The times of all kept bytes are known, and those of discarded bytes are unavailable."""
        async with self._make() as bench:
            if not bench.bounds or not hasattr(bench.outputs, "times"):
                return
            outputs, job = timed(bench.outputs), new_job_id()
            sinks = await outputs.create(job, ONE, SMALLEST_OUTPUT)
            began = _now_ms()
            for _ in range(6):
                await bench.write(sinks[Channel.OUTPUT], bytes(50_000))
                extent = await outputs.extent(job, Channel.OUTPUT)
                stamps = await outputs.times(job, Channel.OUTPUT, extent.first, 1)
                assert [extent.first] == [stamp.offset for stamp in stamps]
                assert extent.first == await outputs.offset_at(job, Channel.OUTPUT, began)
            assert extent.first > 0
            await _check_unavailable(outputs.times(job, Channel.OUTPUT, extent.first - 1, 1), extent.first)

    async def check_times_of_unknown_output_are_unavailable(self) -> None:
        """A store with times raises NoOutputKept for them as for the output; no output has no times."""
        async with self._make() as bench:
            if not hasattr(bench.outputs, "times"):
                return
            outputs, job = timed(bench.outputs), new_job_id()
            await outputs.create(job, ONE)
            assert 0 == await outputs.offset_at(job, Channel.OUTPUT, 0)
            for call in (
                outputs.offset_at(job, Channel.STDERR, 0),
                outputs.times(new_job_id(), Channel.OUTPUT, 0, 1),
            ):
                assert isinstance(await _check_unavailable(call), NoOutputKept)

    async def check_close_keeps_the_output(self) -> None:
        """``close`` releases only files and watches, and can be repeated."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            await bench.write(sinks[Channel.OUTPUT], TEXT)
            await bench.outputs.close()
            await bench.outputs.close()
            assert TEXT == await _read_all(bench.outputs, job, Channel.OUTPUT, 0)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _read_all(outputs: OutputStore, job: JobId, channel: Channel, offset: int) -> bytes:
    """Read to the end: a store may return fewer bytes than requested, but none only at the end."""
    datas = []
    while data := await outputs.read(job, channel, offset, 1 << 16):
        datas.append(data)
        offset += len(data)
    return b"".join(datas)


async def _read_until(outputs: OutputStore, job: JobId, size: int) -> bytes:
    async with outputs.watch(job) as watch:
        while (await outputs.extent(job, Channel.OUTPUT)).end < size:
            await watch.changed()
        return await _read_all(outputs, job, Channel.OUTPUT, 0)


async def _check_not_kept(outputs: OutputStore, job: JobId, channel: Channel) -> None:
    assert isinstance(await _check_unavailable(outputs.extent(job, channel)), NoOutputKept)
    assert isinstance(await _check_unavailable(outputs.read(job, channel, 0, 1)), NoOutputKept)


async def _check_unavailable(call: Awaitable[object], first: int | None = None) -> OutputUnavailable:
    failure: OutputUnavailable | None = None
    try:
        await call
    except OutputUnavailable as error:
        failure = error
    assert failure is not None
    assert first == failure.first  # None: no byte is kept
    assert str(failure)
    return failure
