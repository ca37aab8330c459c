"""Streams of a job's output: each byte once, in order, up to the exact end of the output."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass

from ..errors import NoOutputKept, OutputUnavailable
from ..model.ending import Channel
from ..model.job import Chunk, Extent, JobId
from ..model.stream_start import FromOffset, LastBytes, LastLines, StreamStart
from ..ports import OutputStore, Watch

CHUNK_SIZE = 2 * 65520
"""Maximum bytes of one read. Two messages on the wire."""

Room = Callable[[], AbstractAsyncContextManager[int]]
"""The memory for the next chunk: its context waits for it, has the maximum of bytes, and ends when the
receiver asks for another chunk. Until then the receiver is done with this one: whatever passes chunks on
deletes its reference before it asks, because the next one may be long in coming."""

POLL_INTERVAL = 60.0
"""Seconds between reads without a notification: a watch is only a hint."""

BATCH_INTERVAL = 0.002
"""Seconds between two chunks of a job that writes little and often; a single write is not delayed."""

TAIL_BLOCK = 65536


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """When a stream ends: ``wait`` returns then, and from then on ``size`` returns the size of the output.

    A size of 0 means the end of what there is.
    """

    wait: Callable[[], Awaitable[object]]
    size: Callable[[], int | None]


@asynccontextmanager
async def any_room() -> AsyncIterator[int]:
    """Allow a chunk at any time."""
    yield CHUNK_SIZE


async def follow(
    outputs: OutputStore,
    job: JobId,
    channel: Channel,
    offset: int,
    end: StreamEnd,
    *,
    batch: float = BATCH_INTERVAL,
    room: Room = any_room,
) -> AsyncGenerator[Chunk, None]:
    """Yield existing and new output until the end is there and all output has been yielded.

    If bytes are no longer kept, the stream continues at the first kept byte: the next chunk, which may be
    empty, has its offset. ``batch``: as BATCH_INTERVAL.
    """
    time = asyncio.get_running_loop().time
    yielded_at = -batch
    async with outputs.watch(job) as watch:
        notifier = asyncio.ensure_future(_notify_at_end(watch, end.wait))
        try:
            while True:
                async with room() as most:
                    size = end.size()  # before the read: if it is known now, the read sees all output
                    try:
                        chunk = await _read(outputs, job, channel, offset, most)
                    except NoOutputKept:
                        if size is not None:
                            raise
                        chunk = Chunk(offset, b"")  # deleted while the job runs: wait for new output
                    if chunk.data or chunk.offset > offset:
                        offset = chunk.offset + len(chunk.data)
                        yield chunk
                        yielded_at = time()
                        del chunk
                        continue
                if size is None:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_INTERVAL):
                            await watch.changed()
                    if (early := yielded_at + batch - time()) > 0:
                        await asyncio.sleep(early)
                elif chunk.offset < size:
                    raise OutputUnavailable(
                        f"output ends at byte {chunk.offset} where {size} were recorded"
                    )
                else:
                    return
        finally:
            notifier.cancel()


async def read_to(
    outputs: OutputStore, job: JobId, channel: Channel, offset: int, end: int, *, room: Room = any_room
) -> AsyncGenerator[Chunk, None]:
    """Yield the kept output from ``offset`` to ``end`` without waiting; gaps show as in ``follow``."""
    while offset < end:
        async with room() as most:
            chunk = await _read(outputs, job, channel, offset, min(most, end - offset))
            if not chunk.data and chunk.offset == offset:
                return
            offset = chunk.offset + len(chunk.data)
            yield chunk
            del chunk


async def offset_of(
    outputs: OutputStore, job: JobId, channel: Channel, extent: Extent, start: StreamStart
) -> int:
    """Return the offset at which a stream starts; ``extent`` is the range that is kept now."""
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
    """Return the offset of the last ``lines`` lines of ``extent``; the last line may lack its newline.

    0 if they begin before the kept range. Yields to other tasks after each block: a tail can be as
    long as the output.
    """
    if lines == 0:
        return extent.end
    first, position, wanted = extent.first, extent.end, lines
    while position > first:
        start = max(first, position - TAIL_BLOCK)
        try:
            block = await _read_whole(outputs, job, channel, start, position)
        except OutputUnavailable as error:  # the oldest output has been dropped meanwhile
            if error.first is None or error.first <= start:
                raise
            first = error.first
            continue
        if position == extent.end:
            block = block.removesuffix(b"\n")  # it ends the last line and begins no other
        newlines = block.count(b"\n")
        if newlines >= wanted:
            return start + len(block.rsplit(b"\n", wanted)[0]) + 1
        wanted -= newlines
        position = start
        await asyncio.sleep(0)
    return 0


async def _read_whole(outputs: OutputStore, job: JobId, channel: Channel, start: int, end: int) -> bytes:
    """Return all bytes of a range: a store may return fewer than requested, as at the end of a segment."""
    block = b""
    while wanted := end - start - len(block):
        data = await outputs.read(job, channel, start + len(block), wanted)
        if not data:
            break
        block += data
    return block


async def _read(outputs: OutputStore, job: JobId, channel: Channel, offset: int, size: int) -> Chunk:
    while True:
        try:
            return Chunk(offset, await outputs.read(job, channel, offset, size))
        except OutputUnavailable as error:
            if error.first is None or error.first <= offset:
                raise
            offset = error.first


async def _notify_at_end(watch: Watch, wait: Callable[[], Awaitable[object]]) -> None:
    await wait()
    watch.notify()
