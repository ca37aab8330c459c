"""Bounds on the jobs of a Worker: how many run, how much memory they take, and quotas."""

import asyncio
from uuid import UUID

import pytest

from worker.core import (
    Grant,
    JobBounds,
    JobId,
    JobSelection,
    JobSpec,
    QuotaExceeded,
    RunningJobs,
    SpawnFailed,
    Worker,
)
from worker.core.engine.job_memory import KEPT
from worker.core.testing import (
    FakeLimiter,
    FakeMachine,
    FakeSpawner,
    MemoryOutputStore,
)


async def test_running_jobs_are_bounded() -> None:
    """One too many is refused, with the setting; jobs that have finished or failed are not counted."""
    machine = FakeMachine()
    bounds = JobBounds(max_jobs=3, max_jobs_per_client=2)
    worker = machine.worker(bounds=bounds)
    first, second = [await worker.start(JobSpec("sleep", ["100"]), owner="alice") for _ in range(2)]
    with pytest.raises(QuotaExceeded, match=r"2 jobs of 'alice' .*setting max_jobs_per_client"):
        await worker.start(JobSpec("sleep", ["100"]), owner="alice")
    with pytest.raises(SpawnFailed):
        await worker.start(JobSpec("/nonexistent"), owner="bob")
    await worker.start(JobSpec("sleep", ["100"]), owner="bob", request_id="r1")
    with pytest.raises(QuotaExceeded, match=r"3 jobs are running.*setting max_jobs\)"):
        await worker.start(JobSpec("sleep", ["100"]), owner="bob")
    await worker.start(JobSpec("sleep", ["100"]), owner="bob", request_id="r1")  # the same job
    await worker.stop(first)
    await worker.start(JobSpec("sleep", ["100"]), owner="alice")
    await worker.close()
    again = machine.worker(bounds=bounds)  # recovered jobs count too
    with pytest.raises(QuotaExceeded):
        await again.start(JobSpec("sleep", ["100"]), owner="carol")
    await again.stop(second)
    await again.start(JobSpec("sleep", ["100"]), owner="carol")


async def test_the_memory_of_jobs_is_bounded() -> None:
    """Texts of jobs that run or have ended lately count, also those of an earlier server."""
    machine = FakeMachine()
    bounds = JobBounds(max_job_memory=6000, max_job_memory_per_client=3500)
    large = JobSpec("sleep", ["100"], labels={"a": "x" * 1900})
    worker = machine.worker(bounds=bounds)
    first = await worker.start(large, owner="alice", request_id="r1")
    for part in ({"labels": large.labels}, {"args": ["x" * 1900]}, {"env": dict(large.labels)}):
        with pytest.raises(QuotaExceeded, match=r"jobs of 'alice' that run, .*max_job_memory_per_client"):
            await worker.start(JobSpec("true", **part), owner="alice")
    await worker.start(JobSpec("sleep", ["100"]), owner="alice")
    await worker.start(large, owner="alice", request_id="r1")  # the same job
    await worker.start(large, owner="bob")
    with pytest.raises(QuotaExceeded, match=r"all jobs that run, .*\(setting max_job_memory\)"):
        await worker.start(large, owner="carol")
    await worker.close()
    worker = machine.worker(bounds=bounds)
    with pytest.raises(QuotaExceeded):
        await worker.start(large, owner="alice")
    await worker.stop(first)
    with pytest.raises(QuotaExceeded):  # its record is kept, and cannot expire yet
        await worker.start(large, owner="alice")
    await worker.remove(first)
    second = await worker.start(large, owner="alice")
    await worker.stop(second)
    await machine.clock.advance(KEPT)
    await worker.start(large, owner="alice")


async def test_the_bound_for_a_client_counts_by_name_and_issuer() -> None:
    """Another client is who has the same name from another CA; a job of unknown issuer counts for both."""
    machine = FakeMachine()
    worker = machine.worker(bounds=JobBounds(max_jobs_per_client=2))

    async def start(issuer: str | None) -> JobId:
        return await worker.start(JobSpec("sleep", ["100"]), owner="alice", issuer=issuer)

    await start(None)  # as those of an earlier version
    await start("CN=1")
    with pytest.raises(QuotaExceeded, match="setting max_jobs_per_client"):
        await start("CN=1")
    job = await start("CN=2")
    with pytest.raises(QuotaExceeded):
        await start("CN=2")
    await worker.stop(job)
    await start("CN=2")
    await worker.close()


async def test_quotas_count_jobs_that_are_not_finished() -> None:
    """Concurrent starts never exceed a quota, a start that failed does not count, and nor does an end."""
    worker = Worker(spawner=FakeSpawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore())
    grant = Grant(quotas=[RunningJobs(2, "a quota")])

    async def start(command: str = "sleep", issuer: str = "") -> JobId:
        return await worker.start(JobSpec(command, ["1000"]), owner="a", issuer=issuer, grant=grant)

    with pytest.raises(SpawnFailed):
        await start("nosuch")
    results = await asyncio.gather(*(start() for _ in range(5)), return_exceptions=True)
    assert [2, 3] == [sum(isinstance(each, kind) for each in results) for kind in (UUID, QuotaExceeded)]
    await start(issuer="another CA")
    [first, *_] = [each for each in results if isinstance(each, UUID)]
    await worker.stop(JobId(first), grace=0)
    await start()
    with pytest.raises(QuotaExceeded, match="'a' has 2 running jobs, the maximum is 2"):
        await start()
    for status in await worker.list(JobSelection(running=True)):
        await worker.stop(status.record.id, grace=0)
    await worker.close()
