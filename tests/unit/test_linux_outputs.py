"""Reading recorded output at offsets of any size."""

import asyncio
from pathlib import Path

import pytest

from worker.core.ending import Channel
from worker.core.job import JobId, new_job_id
from worker.linux.layout import Layout, segment_path
from worker.linux.outputs import RecorderStore

SIZE = 65520
LONGEST = (1 << 63) - 1


def recorded(state: Path, segments: dict[int, bytes]) -> JobId:
    """Return a job with these segments of output, by their offsets."""
    job = new_job_id()
    directory = Layout(state).job(job)
    directory.mkdir(parents=True)
    for offset, data in segments.items():
        segment_path(directory, Channel.OUTPUT, offset).write_bytes(data)
    return job


@pytest.mark.parametrize(
    "offset", [5, 1 << 40, LONGEST - SIZE, LONGEST - SIZE + 1, LONGEST, 1 << 63, 1 << 70]
)
@pytest.mark.parametrize("first", [0, 3])
def test_beyond_the_end_there_is_nothing_yet(tmp_path: Path, offset: int, first: int) -> None:
    """However far it is, also where no file of this kernel can reach."""

    async def read() -> bytes:
        store = RecorderStore(tmp_path)
        try:
            return await store.read(job, Channel.OUTPUT, offset, SIZE)
        finally:
            await store.close()

    job = recorded(tmp_path, {first: b"xy"})
    assert b"" == asyncio.run(read())
