"""Request ids: a start that is repeated returns the same job."""

import asyncio

import pytest

from worker.core import (
    JobId,
    JobSpec,
    JobState,
    LimitsRejected,
    RequestIdReused,
)
from worker.core.testing import (
    FakeLimiter,
    FakeMachine,
)


async def test_a_request_id_belongs_to_name_and_issuer() -> None:
    """Another client is who has the same name from another CA; a job of unknown issuer is that of both."""
    machine = FakeMachine()
    worker = machine.worker()

    async def start(issuer: str | None, request_id: str) -> JobId:
        return await worker.start(JobSpec("true"), owner="alice", issuer=issuer, request_id=request_id)

    old = await start(None, "old")  # as those of an earlier version
    jobs = {issuer: await start(issuer, "r1") for issuer in ("CN=1", "CN=2", None)}
    assert 3 == len(set(jobs.values()))
    for remove in (False, True):
        for job in [old, *jobs.values()] if remove else ():
            await worker.wait(job)
            await worker.remove(job)
        assert jobs == {issuer: await start(issuer, "r1") for issuer in jobs}
        assert {old} == {await start(issuer, "old") for issuer in ("CN=1", "CN=2", None)}
    await worker.close()


async def test_a_repeated_request_returns_the_same_job() -> None:
    """A start that is repeated, concurrently or after the end of the job, starts no second job."""
    machine = FakeMachine()
    worker = machine.worker()
    spec = JobSpec("true")
    starts = (worker.start(spec, owner="alice", request_id="r1") for _ in range(10))
    [job] = set(await asyncio.gather(*starts))
    await worker.wait(job)
    assert job == await worker.start(spec, owner="alice", request_id="r1")
    assert 1 == len(await worker.list())


async def test_request_ids_belong_to_their_owner() -> None:
    """The same id of another owner is another request; without an id each start is a new request."""
    machine = FakeMachine()
    worker = machine.worker()
    jobs = {
        await worker.start(JobSpec("true"), owner=owner, request_id=request_id)
        for owner in ("alice", "bob")
        for request_id in ("r1", "", "")
    }
    assert 6 == len(jobs)


async def test_request_id_of_another_command_is_rejected() -> None:
    """Using an id for a different command raises RequestIdReused and starts nothing."""
    machine = FakeMachine()
    worker = machine.worker()
    await worker.start(JobSpec("true"), request_id="r1")
    with pytest.raises(RequestIdReused, match="'r1' was used for another command"):
        await worker.start(JobSpec("false"), request_id="r1")
    assert 1 == len(await worker.list())


async def test_a_failed_start_can_be_repeated() -> None:
    """A failed start does not use up its request id; all concurrent calls raise its error."""
    machine = FakeMachine(limiter=FakeLimiter(refuse="not today"))
    worker = machine.worker()
    starts = (worker.start(JobSpec("true"), request_id="r1") for _ in range(3))
    failures = await asyncio.gather(*starts, return_exceptions=True)
    assert [LimitsRejected] * 3 == [type(failure) for failure in failures]
    machine.limiter.refuse = None
    job = await worker.start(JobSpec("true"), request_id="r1")
    assert JobState.EXITED is (await worker.wait(job)).state
