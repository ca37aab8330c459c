"""The registry of jobs: the phases of a job, and what a finished job keeps."""

import asyncio

import pytest

from worker.core import (
    Cause,
    Channel,
    ClientId,
    End,
    Exited,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
    Lost,
    Process,
    Progress,
    Retention,
    Scope,
    new_job_id,
)
from worker.core.engine.job_bounds import JobBounds
from worker.core.engine.job_entry import FINISHED, REMOVING, JobEntry, Launching, Running
from worker.core.engine.registry import JobRegistry
from worker.core.testing import FakeMachine, ManualClock

END = End(Exited(0), Cause.NONE, 0, {Channel.OUTPUT: 7}, 1.0)


def record(end: End | None = None) -> JobRecord:
    """Return the record of a new job with a request id."""
    return JobRecord(new_job_id(), JobSpec("sleep", ["100"]), "alice", "r1", 0.0, end=end)


def registry() -> JobRegistry:
    """Return an empty registry."""
    return JobRegistry(ManualClock(), Retention(), JobBounds())


async def process_and_scope(job: JobId) -> tuple[Process, Scope]:
    """Return a running process and its scope."""
    machine = FakeMachine()
    scope = await machine.limiter.prepare(job, JobSpec("sleep").limits, 1)
    sinks = await machine.outputs.create(job, (Channel.OUTPUT,))
    process = await machine.spawner.spawn(job, JobSpec("sleep", ["100"]), scope.placement, sinks)
    return process, scope


def test_a_launching_job() -> None:
    """It is STARTING, and has a scope as soon as its cgroups are prepared."""
    job = JobEntry(record(), Launching())
    assert (Progress(JobState.STARTING), None, None) == (
        job.progress,
        job.scope,
        job.final_size(Channel.OUTPUT),
    )
    assert not job.is_finished


async def test_a_running_job() -> None:
    """It has the progress of its process, and its waiters wait."""
    process, scope = await process_and_scope(new_job_id())
    job = JobEntry(record(), Running(process, scope))
    assert (process.progress, scope) == (job.progress, job.scope)
    assert not job.is_finished
    waiter = asyncio.create_task(job.wait_finished())
    await asyncio.sleep(0)
    assert not waiter.done()
    waiter.cancel()


@pytest.mark.parametrize("kept", [False, True])
async def test_the_end_of_a_job(kept: bool) -> None:  # noqa: FBT001
    """Its waiters wake, and its phase is a value that all finished jobs share."""
    jobs = registry()
    process, scope = await process_and_scope(new_job_id())
    job = JobEntry(record(), Running(process, scope))
    jobs.add(job)
    waiters = [asyncio.create_task(job.wait_finished()) for _ in range(3)]
    await asyncio.sleep(0)
    finished = JobRecord(job.record.id, job.record.spec, "alice", "r1", 0.0, end=END)
    jobs.finish(job, finished)
    if not kept:
        jobs.forgotten(job)
    await asyncio.gather(*waiters)
    await job.wait_finished()
    assert job.phase is FINISHED[kept]
    assert (finished, None, 7) == (job.record, job.scope, job.final_size(Channel.OUTPUT))
    assert Progress(JobState.EXITED, Exited(0)) == job.progress
    assert not hasattr(job, "__dict__")


def test_the_progress_of_a_lost_job() -> None:
    """A job whose ending is lost is LOST."""
    end = End(Lost("power"), Cause.NONE, 0, {}, 1.0)
    assert Progress(JobState.LOST, Lost("power")) == JobEntry(record(end), FINISHED[False]).progress


def test_a_job_that_is_forgotten_while_it_is_removed() -> None:
    """The removal goes on: it makes the spawner forget the job itself."""
    jobs = registry()
    job = JobEntry(record(END), FINISHED[True])
    jobs.add(job)
    with jobs.removing(job):
        jobs.forgotten(job)
        assert job.phase is REMOVING[True]
    jobs.forgotten(job)
    assert job.phase is REMOVING[True]


def test_a_job_is_hidden_while_it_is_removed() -> None:
    """Only a repeated request finds it; concurrent removals agree, and an error shows it again."""
    jobs = registry()
    job = JobEntry(record(END), FINISHED[True])
    jobs.add(job)
    with jobs.removing(job) as kept, jobs.removing(job) as kept_too:
        assert (True, True) == (kept, kept_too)
        assert jobs.get(job.record.id) is None
        assert job is jobs.requested(ClientId("alice"), "r1")
        assert job.is_finished
    with pytest.raises(OSError, match="disk full"), jobs.removing(job):
        raise OSError("disk full")
    assert job is jobs.get(job.record.id)
    assert job.phase is FINISHED[True]
    jobs.drop(job)
    assert jobs.requested(ClientId("alice"), "r1") is None
    assert job.record.id not in jobs
