"""Reading recorded output at offsets of any size."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from worker.core.errors import OutputUnavailable, TimesNotKept
from worker.core.model.ending import Channel
from worker.core.model.job import Extent, JobId, Stamp, new_job_id
from worker.linux.output.store import RecorderStore
from worker.linux.state.job_directory import segment_path, times_path
from worker.linux.state.layout import Layout
from worker.linux.state.time_entries import ENTRY

SIZE = 65520
LONGEST = (1 << 63) - 1


def recorded(state: Path, segments: dict[int, bytes]) -> JobId:
    """Return a job with these segments of output, given by their offsets."""
    job = new_job_id()
    directory = Path(Layout(state).job(job))
    directory.mkdir(parents=True)
    for offset, data in segments.items():
        Path(segment_path(directory, Channel.OUTPUT, offset)).write_bytes(data)
    return job


@pytest.mark.parametrize(
    "offset", [5, 1 << 40, LONGEST - SIZE, LONGEST - SIZE + 1, LONGEST, 1 << 63, 1 << 70]
)
@pytest.mark.parametrize("first", [0, 3])
async def test_reading_beyond_the_end_returns_nothing(tmp_path: Path, offset: int, first: int) -> None:
    """At any offset, even beyond the largest file of this kernel."""
    job = recorded(tmp_path, {first: b"xy"})
    store = RecorderStore(tmp_path)
    assert b"" == await store.read(job, Channel.OUTPUT, offset, SIZE)
    await store.close()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Use up all descriptors of this process: it can only open a file after it has closed one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


async def test_output_is_read_when_no_descriptor_is_left(tmp_path: Path) -> None:
    """New clients use up the descriptors; existing streams continue. Repeatedly."""
    job = recorded(tmp_path, {0: b"abc", 3: b"defg"})
    Path(times_path(Layout(tmp_path).job(job), Channel.OUTPUT, 0)).write_bytes(ENTRY.pack(0, 70))
    store = RecorderStore(tmp_path)
    assert 0 == await store.offset_at(job, Channel.OUTPUT, 0)  # starts the thread
    with no_descriptors():
        for _ in range(3):
            assert Extent(0, 7) == await store.extent(job, Channel.OUTPUT)
            assert b"bc" == await store.read(job, Channel.OUTPUT, 1, SIZE)
            assert b"defg" == await store.read(job, Channel.OUTPUT, 3, SIZE)
            assert [Stamp(2, 70)] == await store.times(job, Channel.OUTPUT, 2, 5)
            assert 7 == await store.offset_at(job, Channel.OUTPUT, 71)
    await store.close()


async def test_a_shortage_of_descriptors_is_reported(tmp_path: Path) -> None:
    """Without the reserve descriptor the error is EMFILE, not missing output."""
    job = recorded(tmp_path, {0: b"abc"})
    store = RecorderStore(tmp_path)
    store._spare.close()
    with no_descriptors():
        for call in (store.extent(job, Channel.OUTPUT), store.read(job, Channel.OUTPUT, 0, SIZE)):
            with pytest.raises(OSError, match="Too many open files"):
                await call
    await store.close()


async def test_output_of_an_earlier_version_has_no_times(tmp_path: Path) -> None:
    """The error has the reason, and differs from that for output that is not kept."""
    job = recorded(tmp_path, {3: b"abc"})
    store = RecorderStore(tmp_path)
    reason = "it is not known when the output before byte 6 was written: the job was started by an earlier"
    for call in (store.times(job, Channel.OUTPUT, 3, 3), store.offset_at(job, Channel.OUTPUT, 0)):
        with pytest.raises(TimesNotKept, match=reason):
            await call
    with pytest.raises(OutputUnavailable, match="output before byte 3 is not kept"):
        await store.times(job, Channel.OUTPUT, 2, 3)
    await store.close()
