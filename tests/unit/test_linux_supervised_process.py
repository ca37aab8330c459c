"""The server applies what a supervisor reports, even without free descriptors."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from worker.core.model.job import JobId, JobState, new_job_id
from worker.linux.kernel import procfs
from worker.linux.spawner.process import SupervisedProcess


class NoSupervisor:
    """There is no supervisor."""

    async def call(self, job: JobId, do: str, **arguments: object) -> dict[str, Any]:
        """Fail: no request is expected."""
        raise AssertionError(job, do, arguments)


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Limit the descriptors that this process can still open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("number", [0, 1])
async def test_a_start_without_free_descriptors(number: int) -> None:
    """The job is known, though without a pidfd, and no descriptor leaks."""
    process = SupervisedProcess(NoSupervisor(), new_job_id(), "generation", "/nowhere")
    stat = procfs.stat(os.getpid())
    assert stat is not None
    identity = {"pid": os.getpid(), "start": stat.start, "started_at": 5.0}
    before = os.listdir("/proc/self/fd")
    with descriptors_left(number):
        process.apply({**identity, "state": "running", "ending": None, "cause": "none"})
    assert before == os.listdir("/proc/self/fd")
    assert (os.getpid(), JobState.RUNNING, None) == (process.pid, process.progress.state, process.pidfd)
