"""What a supervisor tells of a job is taken in, whatever the server lacks at that moment."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from worker.core.model.job import JobId, JobState, new_job_id
from worker.linux.kernel import procfs
from worker.linux.spawner.process import SupervisedProcess


class Nobody:
    """There is no supervisor to be asked."""

    async def call(self, job: JobId, do: str, **arguments: object) -> dict[str, Any]:
        """Nothing is asked here."""
        raise AssertionError(job, do, arguments)


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Have this process open no more than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("number", [0, 1])
async def test_a_job_that_was_started_when_no_descriptor_is_left(number: int) -> None:
    """It is known all the same, though without the pidfd, and nothing stays open."""
    process = SupervisedProcess(Nobody(), new_job_id(), "generation")
    stat = procfs.stat(os.getpid())
    assert stat is not None
    told = {"pid": os.getpid(), "start": stat.start, "started_at": 5.0}
    before = os.listdir("/proc/self/fd")
    with descriptors_left(number):
        process.apply({**told, "state": "running", "ending": None, "cause": "none"})
    assert before == os.listdir("/proc/self/fd")
    assert (os.getpid(), JobState.RUNNING, None) == (process.pid, process.progress.state, process.pidfd)
