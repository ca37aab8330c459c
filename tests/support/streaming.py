"""Jobs that write on a FakeMachine, and checks of their streams."""

from itertools import pairwise

from worker.core import BEGINNING, Channel, FromOffset, JobId, StreamStart, Worker
from worker.core.engine.following import CHUNK_SIZE
from worker.core.testing import PROGRAMS, FakeMachine, FakeProgram


def printing(data: bytes, errors: bytes = b"", **how: float) -> FakeMachine:
    """Return a machine with a program ``print`` that writes this output."""
    return FakeMachine({**PROGRAMS, "print": lambda _: FakeProgram(data, errors, **how)})


async def collect(
    worker: Worker,
    job: JobId,
    *,
    channel: Channel | None = None,
    start: StreamStart = BEGINNING,
    follow: bool = True,
) -> bytes:
    """Read a whole stream; its chunks must be contiguous, and a tail must begin with an empty chunk."""
    chunks = [chunk async for chunk in worker.stream(job, channel=channel, start=start, follow=follow)]
    for before, after in pairwise(chunks):
        assert before.offset + len(before.data) == after.offset
    if not isinstance(start, FromOffset):
        assert b"" == chunks.pop(0).data
    assert all(0 < len(chunk.data) <= CHUNK_SIZE for chunk in chunks)
    return b"".join(chunk.data for chunk in chunks)
