"""Following a job's output: every byte once, in order, and an end exactly where the job's is."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from ..errors import NoOutputKept, OutputUnavailable
from ..model.ending import Channel
from ..model.job import Chunk, Extent, JobId
from ..model.stream_start import FromOffset, LastBytes, LastLines, StreamStart
from ..ports import OutputStore, Watch

CHUNK_SIZE = 2 * 65520
"""The most that is read at once: what a client that does not read costs. Two messages on the wire."""

SLOW_LOOK = 60.0
"""Seconds between looks when nothing was heard: a watch is a hint, and this the last resort."""

GATHER = 0.002
"""Seconds from one piece to the next when a job writes little and often; what comes alone does not wait."""

_LOOK_BACK = 65536


async def follow(
    outputs: OutputStore,
    job: JobId,
    channel: Channel,
    offset: int,
    over: asyncio.Event,
    final_size: Callable[[], int | None],
) -> AsyncGenerator[Chunk, None]:
    """Yield what is there and what comes, until the job is over and all has been yielded.

    ``over`` is set once ``final_size`` returns the exact size. Where bytes are no longer kept it goes
    on at the first that is: the offset of a chunk tells, which is empty if nothing follows as yet.
    """
    time = asyncio.get_running_loop().time
    told = -GATHER
    async with outputs.watch(job) as watch:
        ending = asyncio.ensure_future(_notify_at_end(watch, over))
        try:
            while True:
                size = final_size()  # asked before reading: what is read then is complete
                try:
                    chunk = await _read(outputs, job, channel, offset)
                except NoOutputKept:
                    if size is not None:
                        raise
                    chunk = Chunk(offset, b"")  # what the job writes from here on is kept anew
                if chunk.data or chunk.offset > offset:
                    offset = chunk.offset + len(chunk.data)
                    yield chunk
                    told = time()
                elif size is None:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(SLOW_LOOK):
                            await watch.changed()
                    if (early := told + GATHER - time()) > 0:
                        await asyncio.sleep(early)
                elif chunk.offset < size:
                    raise OutputUnavailable(
                        f"output ends at byte {chunk.offset} where {size} were recorded"
                    )
                else:
                    return
        finally:
            ending.cancel()


async def read_to(
    outputs: OutputStore, job: JobId, channel: Channel, offset: int, end: int
) -> AsyncGenerator[Chunk, None]:
    """Yield what is kept from ``offset`` up to ``end``, waiting for nothing; gaps show as in ``follow``."""
    while offset < end:
        chunk = await _read(outputs, job, channel, offset, min(CHUNK_SIZE, end - offset))
        if not chunk.data and chunk.offset == offset:
            return
        offset = chunk.offset + len(chunk.data)
        yield chunk


async def offset_of(
    outputs: OutputStore, job: JobId, channel: Channel, extent: Extent, start: StreamStart
) -> int:
    """Return the offset at which a stream starts; ``extent`` is what is kept of the output now."""
    match start:
        case FromOffset(offset):
            return offset
        case LastLines(count):
            return await start_of_tail(outputs, job, channel, extent, lines=count)
        case LastBytes(count):
            return max(0, extent.end - count)


async def start_of_tail(
    outputs: OutputStore, job: JobId, channel: Channel, extent: Extent, *, lines: int
) -> int:
    """Return the offset where the last ``lines`` lines of ``extent`` begin; the last may lack its newline.

    0 if they begin before what is kept. Others get on meanwhile: a tail may be as long as the output.
    """
    if lines == 0:
        return extent.end
    first, position, wanted = extent.first, extent.end, lines
    while position > first:
        start = max(first, position - _LOOK_BACK)
        try:
            block = await _read_whole(outputs, job, channel, start, position)
        except OutputUnavailable as gone:  # deleted since: what is left of it begins there
            if gone.first is None or gone.first <= start:
                raise
            first = gone.first
            continue
        if position == extent.end:
            block = block.removesuffix(b"\n")  # it ends the last line and begins no other
        begun = block.count(b"\n")
        if begun >= wanted:
            return start + len(block.rsplit(b"\n", wanted)[0]) + 1
        wanted -= begun
        position = start
        await asyncio.sleep(0)
    return 0


async def _read_whole(outputs: OutputStore, job: JobId, channel: Channel, start: int, end: int) -> bytes:
    """Return all of it: a store may give less than it was asked for, and does so between segments."""
    block = b""
    while wanted := end - start - len(block):
        data = await outputs.read(job, channel, start + len(block), wanted)
        if not data:
            break
        block += data
    return block


async def _read(
    outputs: OutputStore, job: JobId, channel: Channel, offset: int, size: int = CHUNK_SIZE
) -> Chunk:
    while True:
        try:
            return Chunk(offset, await outputs.read(job, channel, offset, size))
        except OutputUnavailable as gone:
            if gone.first is None or gone.first <= offset:
                raise
            offset = gone.first


async def _notify_at_end(watch: Watch, over: asyncio.Event) -> None:
    await over.wait()
    watch.notify()
