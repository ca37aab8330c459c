"""The stream of a job's output that a client asks for: which channel, from where, until when."""

from collections.abc import AsyncGenerator
from functools import partial

from ..errors import InvalidJobSpec, NoOutputKept
from ..model.channel import Channel
from ..model.job import Chunk, Extent, JobSpec
from ..model.stream_start import FromOffset, StreamStart
from ..model.stream_times import ANY_TIME, StreamTimes
from ..ports import Clock, OutputStore
from .capabilities import timed
from .following import BATCH_INTERVAL, Room, StreamEnd, follow, offset_of, read_to
from .job_entry import JobEntry
from .timed_streams import TimedStream


async def begin_stream(
    job: JobEntry,
    outputs: OutputStore,
    clock: Clock,
    *,
    channel: Channel | None,
    start: StreamStart,
    follows: bool,
    times: StreamTimes,
    room: Room,
) -> tuple[Chunk | None, AsyncGenerator[Chunk, None]]:
    """Return the empty chunk that a stream begins with, None if it has none, and the chunks after it.

    The arguments and the errors are those of ``Worker.stream``.
    """
    found = _channel(job.record.spec, channel)
    job_id = job.record.id
    extent = await _extent(outputs, job, found)
    offset = await offset_of(outputs, job_id, found, extent, start)
    stream: TimedStream | None = None
    if times != ANY_TIME:
        stream = TimedStream(timed(outputs), job_id, found, times, clock)
        offset = await stream.start(offset, extent)
    resolved = not isinstance(start, FromOffset) or times.since_ms is not None
    first = Chunk(offset, b"") if resolved and (stream is None or stream.begun) else None
    if follows:
        end = StreamEnd(job.wait_finished, partial(job.final_size, found))
        end = end if stream is None else stream.end(end)
        batch = _batch(job.record.spec)
        chunks = follow(outputs, job_id, found, offset, end, batch=batch, room=room)
    else:
        chunks = read_to(outputs, job_id, found, offset, extent.end, room=room)
    return first, chunks if stream is None else stream.select(chunks)


def _channel(spec: JobSpec, requested: Channel | None) -> Channel:
    """Return the channel to stream; for split output the default is stdout."""
    if requested is None or (requested is Channel.OUTPUT and spec.split_output):
        return spec.channels[0]
    if requested not in spec.channels:
        raise InvalidJobSpec("channel", f"the job was not started with split output and has no {requested}")
    return requested


async def _extent(outputs: OutputStore, job: JobEntry, channel: Channel) -> Extent:
    """Return the kept range of a job's output: empty if it was deleted while the job runs."""
    finished = job.is_finished
    try:
        return await outputs.extent(job.record.id, channel)
    except NoOutputKept:
        if finished:
            raise
        return Extent(0, 0)


def _batch(spec: JobSpec) -> float:
    """Return the seconds between two chunks: a terminal shows each key at once."""
    return BATCH_INTERVAL if spec.terminal is None else 0.0
