"""Recovery when journal and spawner disagree or fail."""

import os

import pytest

from worker.core import (
    Exited,
    JobId,
    JobRecord,
    JobSpec,
    JournalUnusable,
    MemoryJournal,
    PastRequest,
    ResourceLimits,
    new_job_id,
)
from worker.core.testing import FakeMachine

SLEEP = JobSpec("sleep", ["5"])


async def test_the_next_worker_forgets_a_job_whose_end_is_journaled() -> None:
    """A Worker may be killed after it has journaled an end; the next one makes the spawner forget it."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(SLEEP)
    [process] = (await machine.spawner.recover()).values()
    await worker.close()
    await machine.clock.advance(5.0)
    [record] = await machine.journal.load()
    await machine.journal.put(JobRecord(job, SLEEP, "", "", record.created_at, end=await process.wait()))
    successor = machine.worker()
    assert Exited(0) == (await successor.query(job)).ending
    assert {} == await machine.spawner.recover()


async def test_a_leftover_scope_is_swept() -> None:
    """The next Worker removes a scope that was not removed at the end of its job."""
    machine = FakeMachine()
    worker = machine.worker()
    ended, runs = await worker.start(JobSpec("true")), await worker.start(SLEEP)
    await worker.wait(ended)
    await machine.limiter.prepare(ended, ResourceLimits(), os.getpid())
    assert 2 == len(await machine.worker().list())
    assert {runs} == machine.limiter.scopes.keys()


async def test_an_unjournaled_job_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A job that is not in the journal is logged, and neither stopped nor swept."""
    machine = FakeMachine()
    job = await machine.worker().start(SLEEP)
    await machine.journal.remove(job)
    assert [] == await machine.worker().list()
    assert {job} == (await machine.spawner.recover()).keys()
    assert {job} == machine.limiter.scopes.keys()
    assert {job} == machine.outputs.jobs
    assert [True] == ["has no readable journal record" in message for message in caplog.messages]


class BrokenJournal(MemoryJournal):
    """A MemoryJournal whose methods in ``failing`` fail."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()
        self.puts: list[JobId] = []

    async def put(self, record: JobRecord) -> None:
        """Insert a record, or fail."""
        self._check("put")
        self.puts.append(record.id)
        await super().put(record)

    async def remove(self, job: JobId, remember: PastRequest | None = None) -> None:
        """Delete a record, or fail."""
        self._check("remove")
        await super().remove(job, remember)

    def _check(self, method: str) -> None:
        if method in self.failing:
            raise JournalUnusable("disk full")


async def test_the_spawner_keeps_an_end_that_cannot_be_journaled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """This Worker reports the end nevertheless, and the next Worker recovers it."""
    journal = BrokenJournal()
    machine = FakeMachine(journal=journal)
    worker = machine.worker()
    job = await worker.start(SLEEP)
    journal.failing = {"put"}
    await machine.clock.advance(5.0)
    assert Exited(0) == (await worker.wait(job)).ending
    await worker.close()
    journal.failing = set()
    successor = machine.worker()
    assert Exited(0) == (await successor.wait(job)).ending
    assert {} == await machine.spawner.recover()
    assert [True] == ["cannot journal the end" in message for message in caplog.messages]
    assert [None] == [each.exc_info for each in caplog.records]  # a full disk is no defect


async def test_a_failed_recovery_is_repeated() -> None:
    """A call raises the error; the next call tries again, and recovers no job twice."""
    journal = BrokenJournal()
    machine = FakeMachine(journal=journal)
    first = machine.worker()
    runs = await first.start(SLEEP)
    await first.close()
    await journal.put(JobRecord(new_job_id(), SLEEP, "", "", machine.clock.now()))
    journal.failing = {"remove"}  # of the intent whose command never ran
    journal.puts.clear()
    worker = machine.worker()
    for _ in range(2):
        with pytest.raises(JournalUnusable):
            await worker.list()
    journal.failing = set()
    assert [runs] == [status.record.id for status in await worker.list()]
    await machine.clock.advance(5.0)
    assert Exited(0) == (await worker.wait(runs)).ending
    assert [runs] == [record.id for record in await journal.load()]
    assert [runs] == journal.puts
    assert {} == await machine.spawner.recover()
