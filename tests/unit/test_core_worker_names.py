"""Names of jobs: an owner has one job with a name that is not finished, whatever happens meanwhile."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from worker.core import (
    JobId,
    JobNameTaken,
    JobSpec,
    JobState,
    RequestIdReused,
    SpawnFailed,
    Worker,
)
from worker.core.testing import FakeMachine, FakeProgram, KillableWorker

PROGRAMS: dict[str, Callable[..., FakeProgram]] = {
    "true": lambda _: FakeProgram(),
    "sleep": lambda _: FakeProgram(seconds=1000),
    "stubborn": lambda _: FakeProgram(seconds=1000, ignores_sigterm=True),
}
BUILD = JobSpec("sleep", name="build")


async def check_taken(worker: Worker, job: JobId, owner: str = "alice", issuer: str | None = "CA") -> None:
    """Check that the name of BUILD is refused because of this job."""
    with pytest.raises(JobNameTaken) as refused:
        await worker.start(BUILD, owner=owner, issuer=issuer)
    assert f"job {job} named build is running; choose another name, or stop it first" == str(refused.value)


async def test_a_name_is_of_one_running_job_of_its_owner() -> None:
    """Another owner, another issuer and another name are not refused; nor is the name after the end."""
    machine = FakeMachine(PROGRAMS)
    worker = machine.worker()
    job = await worker.start(BUILD, owner="alice", issuer="CA")
    await check_taken(worker, job)
    for owner, issuer in (("bob", "CA"), ("alice", "other CA")):
        other = await worker.start(BUILD, owner=owner, issuer=issuer)
        await check_taken(worker, other, owner, issuer)
    await worker.start(replace(BUILD, name="build-2"), owner="alice", issuer="CA")
    for _ in range(2):
        await worker.start(JobSpec("sleep"), owner="alice", issuer="CA")
    await worker.stop(job, grace=0)
    again = await worker.start(BUILD, owner="alice", issuer="CA")
    await check_taken(worker, again)
    await worker.remove(job)
    await check_taken(worker, again)


async def test_an_owner_without_an_issuer_is_every_issuer() -> None:
    """A job that was started without an issuer counts for all, as for the number of running jobs."""
    worker = FakeMachine(PROGRAMS).worker()
    job = await worker.start(BUILD, owner="alice")
    await check_taken(worker, job, issuer=None)
    await check_taken(worker, job, issuer="CA")


async def test_one_of_many_concurrent_starts() -> None:
    """Of starts with the same name at the same time exactly one succeeds, whose job the others name."""
    worker = KillableWorker(FakeMachine(PROGRAMS))
    starts = [worker.start(BUILD, owner="alice") for _ in range(10)]
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    [job] = [each for each in outcomes if not isinstance(each, BaseException)]
    refused = [str(each) for each in outcomes if isinstance(each, JobNameTaken)]
    assert [f"job {job} named build is running; choose another name, or stop it first"] * 9 == refused
    assert [job] == [each.record.id for each in await worker.list()]


async def test_a_job_that_is_starting_or_being_stopped() -> None:
    """It has its name, also for the next server."""
    machine = FakeMachine(PROGRAMS)
    first = KillableWorker(machine)
    starting = asyncio.create_task(first.start(replace(BUILD, command="stubborn"), owner="alice"))
    while not (listed := await first.list()):
        await asyncio.sleep(0)
    assert JobState.STARTING is listed[0].state
    await check_taken(first, listed[0].record.id)
    job = await starting
    stopping = asyncio.create_task(first.stop(job, grace=10))
    while (await first.query(job)).state is not JobState.STOPPING:
        await asyncio.sleep(0)
    await check_taken(first, job)
    await first.kill()
    stopping.cancel()  # its client is gone, too
    second = machine.worker()
    assert JobState.STOPPING is (await second.query(job)).state
    await check_taken(second, job)
    await second.stop(job, grace=0)
    assert job != await second.start(BUILD, owner="alice")


async def test_a_failed_start_leaves_its_name_unused() -> None:
    """A command that cannot be executed does not take the name."""
    worker = FakeMachine(PROGRAMS).worker()
    with pytest.raises(SpawnFailed):
        await worker.start(replace(BUILD, command="missing"), owner="alice")
    await check_taken(worker, await worker.start(BUILD, owner="alice"))


async def test_a_repeated_request_is_not_refused() -> None:
    """It returns the same job, which has the name; with another name it is another request."""
    machine = FakeMachine(PROGRAMS)
    worker = machine.worker()
    job = await worker.start(BUILD, owner="alice", request_id="r1")
    for again in (worker, machine.worker()):
        assert job == await again.start(BUILD, owner="alice", request_id="r1")
        for name in ("", "other"):
            with pytest.raises(RequestIdReused):
                await again.start(replace(BUILD, name=name), owner="alice", request_id="r1")
        with pytest.raises(JobNameTaken):
            await again.start(BUILD, owner="alice", request_id="r2")


async def test_references_after_a_restart() -> None:
    """A name refers to the running job, otherwise to the latest; the next server finds the same jobs."""
    machine = FakeMachine(PROGRAMS)
    worker = machine.worker()
    jobs = []
    for _ in range(3):
        jobs.append(await worker.start(BUILD, owner="alice"))
        await worker.stop(jobs[-1], grace=0)
    bobs = await worker.start(replace(BUILD, name="other"), owner="bob")
    for again in (worker, machine.worker()):
        for text in ("build", "@last", str(jobs[-1])[:13]):
            assert jobs[-1] == await again.resolve(text, owner="alice")
        assert jobs[-1] == await again.resolve("build", owner="bob")
        assert bobs == await again.resolve("@last", owner="bob")
        await again.remove(jobs.pop())
    machine.clock.set(machine.clock.now() - 3600)
    worker = machine.worker()
    running = await worker.start(BUILD, owner="alice")
    for again in (worker, machine.worker()):
        assert running == await again.resolve("build", owner="alice")
        await again.query(jobs[0])


async def test_jobs_that_are_created_at_the_same_time_have_an_order() -> None:
    """It is the same for a list, for ``@last`` and for the next server, though the clock stands still."""
    machine = FakeMachine(PROGRAMS)
    worker = machine.worker()
    jobs = [await worker.start(JobSpec("sleep")) for _ in range(20)]
    machine.clock.set(machine.clock.now() - 0.5)
    jobs.append(await worker.start(JobSpec("sleep")))
    for again in (worker, machine.worker()):
        assert jobs == [each.record.id for each in await again.list()]
        assert jobs[-1] == await again.resolve("@last")
