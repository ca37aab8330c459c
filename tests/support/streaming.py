"""Jobs that write to a fake machine, and what a stream of them brings."""

from itertools import pairwise

from worker.core.engine.following import CHUNK_SIZE
from worker.core.model.ending import Channel
from worker.core.model.job import JobId, JobSpec
from worker.core.model.stream_start import BEGINNING, FromOffset, StreamStart
from worker.core.testing import FakeMachine, FakeProgram
from worker.core.testing.fake_spawner import PROGRAMS
from worker.core.testing.memory_outputs import MemorySink
from worker.core.worker import Worker

LONG = JobSpec("sleep", ["1000"])


def sink(machine: FakeMachine, job: JobId, channel: Channel = Channel.OUTPUT) -> MemorySink:
    """Return what a job writes to, so that a test can write in its place."""
    return machine.outputs._sinks[job][channel]


def printing(data: bytes, errors: bytes = b"", **how: float) -> FakeMachine:
    """Return a machine with a program ``print`` that writes this."""
    return FakeMachine({**PROGRAMS, "print": lambda _: FakeProgram(data, errors, **how)})


async def collect(
    worker: Worker,
    job: JobId,
    *,
    channel: Channel | None = None,
    start: StreamStart = BEGINNING,
    follow: bool = True,
) -> bytes:
    """Read a stream to its end; its chunks must be whole and in order, that of a tail's begin is empty."""
    chunks = [chunk async for chunk in worker.stream(job, channel=channel, start=start, follow=follow)]
    for before, after in pairwise(chunks):
        assert before.offset + len(before.data) == after.offset
    if not isinstance(start, FromOffset):
        assert b"" == chunks.pop(0).data
    assert all(0 < len(chunk.data) <= CHUNK_SIZE for chunk in chunks)
    return b"".join(chunk.data for chunk in chunks)
