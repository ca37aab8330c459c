"""What every OutputStore promises."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from ..errors import NoOutputKept, OutputUnavailable
from ..model.ending import Channel
from ..model.job import (
    SMALLEST_OUTPUT,
    Extent,
    JobId,
    new_job_id,
)
from ..ports import OutputStore, Sink
from .contract import Contract

BOTH = (Channel.STDOUT, Channel.STDERR)
ONE = (Channel.OUTPUT,)
TEXT = b"first line\nsecond \xff\x00 line\nno newline"
PATIENCE = 60.0
"""Seconds after which a notice that has not come will not come."""


@dataclass(frozen=True, slots=True)
class OutputBench:
    """A store, and what stands for a job: ``write`` returns when the bytes are recorded."""

    outputs: OutputStore
    write: Callable[[Sink, bytes], Awaitable[None]]


class OutputStoreContract(Contract):
    """A suite of checks; ``make`` gives each a store and a way to write into its sinks."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[OutputBench]]) -> None:
        self._make = make

    async def check_sinks_are_of_the_store_s_kind(self) -> None:
        """Make one sink a channel, of the kind that the store told beforehand."""
        async with self._make() as bench:
            sinks = await bench.outputs.create(new_job_id(), BOTH)
            assert set(BOTH) == set(sinks)
            assert {bench.outputs.sink_kind} == {sink.kind for sink in sinks.values()}

    async def check_a_new_job_has_written_nothing(self) -> None:
        """Begin at offset 0, empty and readable."""
        async with self._make() as bench:
            job = new_job_id()
            await bench.outputs.create(job, BOTH)
            for channel in BOTH:
                assert Extent(0, 0) == await bench.outputs.extent(job, channel)
                assert b"" == await bench.outputs.read(job, channel, 0, 100)

    async def check_extent_grows_with_what_is_written(self) -> None:
        """Keep everything, as long as nothing is dropped."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            for times in (1, 2, 3):
                await bench.write(sinks[Channel.OUTPUT], TEXT)
                assert Extent(0, times * len(TEXT)) == await bench.outputs.extent(job, Channel.OUTPUT)

    async def check_any_piece_can_be_read(self) -> None:
        """Give the bytes from any offset, at most as many as asked for, and all of them in the end."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            await bench.write(sinks[Channel.OUTPUT], TEXT)
            for offset in range(len(TEXT)):
                for size in (1, 7, len(TEXT), 1 << 20):
                    piece = await bench.outputs.read(job, Channel.OUTPUT, offset, size)
                    assert piece
                    assert TEXT[offset : offset + size].startswith(piece)
                assert TEXT[offset:] == await _read_all(bench.outputs, job, Channel.OUTPUT, offset)

    async def check_nothing_lies_beyond_the_end(self) -> None:
        """Give no bytes at the end and after it; what comes later is found there then."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            await bench.write(sinks[Channel.OUTPUT], TEXT)
            for offset in (len(TEXT), len(TEXT) + 1, 1 << 50):
                assert b"" == await bench.outputs.read(job, Channel.OUTPUT, offset, 100)
            await bench.write(sinks[Channel.OUTPUT], b"more")
            assert b"more" == await _read_all(bench.outputs, job, Channel.OUTPUT, len(TEXT))

    async def check_much_output_is_kept_whole(self) -> None:
        """Keep megabytes as they were written, whatever they are cut into inside."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            much = b"".join(number.to_bytes(4, "big") for number in range(1 << 18))
            await bench.write(sinks[Channel.OUTPUT], much)
            assert much == await _read_all(bench.outputs, job, Channel.OUTPUT, 0)

    async def check_a_bound_keeps_the_latest(self) -> None:
        """Keep at most what is asked for, of each channel its part and half of that at least, in place."""
        async with self._make() as bench:
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

    async def check_channels_and_jobs_are_kept_apart(self) -> None:
        """Never mix what was written to different sinks."""
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

    async def check_watch_notices_what_is_written_after_entering(self) -> None:
        """Lose no notice: what was written before ``changed`` is called counts too."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, BOTH)
            async with bench.outputs.watch(job) as watch:
                for sink in sinks.values():
                    await bench.write(sink, TEXT)
                    await asyncio.wait_for(watch.changed(), PATIENCE)

    async def check_watch_wakes_who_is_notified_otherwise(self) -> None:
        """Return from ``changed`` though nothing was written: a job may end without another word."""
        async with self._make() as bench:
            job = new_job_id()
            await bench.outputs.create(job, ONE)
            async with bench.outputs.watch(job) as watch:
                watch.notify()
                await asyncio.wait_for(watch.changed(), PATIENCE)

    async def check_watch_wakes_everybody_who_waits(self) -> None:
        """Wake each of many followers, and have one that has gone away disturb nobody."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            followers = [asyncio.create_task(_read_until(bench.outputs, job, len(TEXT))) for _ in range(10)]
            await asyncio.sleep(0)  # lets them begin; those that do so later are right too
            followers.pop().cancel()
            await bench.write(sinks[Channel.OUTPUT], TEXT)
            read = await asyncio.wait_for(asyncio.gather(*followers), PATIENCE)
            assert [TEXT] * 9 == read

    async def check_watching_an_unknown_job_is_fine(self) -> None:
        """Have nothing to tell about it; reading is what says that it is not there."""
        async with self._make() as bench, bench.outputs.watch(new_job_id()):
            pass

    async def check_unknown_output_is_unavailable(self) -> None:
        """Say so for a job that never was, and for a channel that a job does not have."""
        async with self._make() as bench:
            job = new_job_id()
            await bench.outputs.create(job, ONE)
            await _check_gone(bench.outputs, job, Channel.STDERR)
            await _check_gone(bench.outputs, new_job_id(), Channel.OUTPUT)

    async def check_removed_output_is_gone(self) -> None:
        """Delete one job's output and no other's; removing is idempotent."""
        async with self._make() as bench:
            removed, kept = new_job_id(), new_job_id()
            for job in (removed, kept):
                sinks = await bench.outputs.create(job, ONE)
                await bench.write(sinks[Channel.OUTPUT], TEXT)
            for _ in range(2):
                await bench.outputs.remove(removed)
            await bench.outputs.remove(new_job_id())
            await _check_gone(bench.outputs, removed, Channel.OUTPUT)
            assert TEXT == await _read_all(bench.outputs, kept, Channel.OUTPUT, 0)

    async def check_sweep_removes_all_but_the_kept(self) -> None:
        """Delete what belongs to no known job, and nothing else."""
        async with self._make() as bench:
            swept, kept = new_job_id(), new_job_id()
            for job in (swept, kept):
                sinks = await bench.outputs.create(job, ONE)
                await bench.write(sinks[Channel.OUTPUT], TEXT)
            await bench.outputs.sweep({kept, new_job_id()})
            await _check_gone(bench.outputs, swept, Channel.OUTPUT)
            assert TEXT == await _read_all(bench.outputs, kept, Channel.OUTPUT, 0)
            await bench.outputs.sweep([])
            await _check_gone(bench.outputs, kept, Channel.OUTPUT)

    async def check_close_keeps_what_was_written(self) -> None:
        """Let go of files and watches only; closing twice is fine."""
        async with self._make() as bench:
            job = new_job_id()
            sinks = await bench.outputs.create(job, ONE)
            await bench.write(sinks[Channel.OUTPUT], TEXT)
            await bench.outputs.close()
            await bench.outputs.close()
            assert TEXT == await _read_all(bench.outputs, job, Channel.OUTPUT, 0)


async def _read_all(outputs: OutputStore, job: JobId, channel: Channel, offset: int) -> bytes:
    """Read to the end; a store may give less than asked for, but nothing only at the end."""
    pieces = []
    while piece := await outputs.read(job, channel, offset, 1 << 16):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


async def _read_until(outputs: OutputStore, job: JobId, size: int) -> bytes:
    async with outputs.watch(job) as watch:
        while (await outputs.extent(job, Channel.OUTPUT)).end < size:
            await watch.changed()
        return await _read_all(outputs, job, Channel.OUTPUT, 0)


async def _check_gone(outputs: OutputStore, job: JobId, channel: Channel) -> None:
    assert isinstance(await _check_unavailable(outputs.extent(job, channel)), NoOutputKept)
    assert isinstance(await _check_unavailable(outputs.read(job, channel, 0, 1)), NoOutputKept)


async def _check_unavailable(look: Awaitable[object], first: int | None = None) -> OutputUnavailable:
    refusal: OutputUnavailable | None = None
    try:
        await look
    except OutputUnavailable as error:
        refusal = error
    assert refusal is not None
    assert first == refusal.first  # None: nothing is kept, so there is no first byte
    assert str(refusal)
    return refusal
