"""Taking up the jobs of an earlier server, when journal and spawner do not agree or refuse."""

import asyncio
import os

import pytest

from worker.core.engine.defaults import MemoryJournal
from worker.core.errors import JournalUnusable
from worker.core.model.ending import Exited
from worker.core.model.job import (
    JobId,
    JobRecord,
    JobSpec,
    PastRequest,
    new_job_id,
)
from worker.core.model.limits import ResourceLimits
from worker.core.testing import FakeMachine

SLEEP = JobSpec("sleep", ["5"])


async def test_an_end_that_was_journaled_is_forgotten_by_the_next_server() -> None:
    """A server may die between the two; the spawner does not keep the job for ever."""
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


async def test_a_scope_that_was_left_is_swept() -> None:
    """What could not be taken down at the end of a job is taken down by the next server."""
    machine = FakeMachine()
    worker = machine.worker()
    ended, runs = await worker.start(JobSpec("true")), await worker.start(SLEEP)
    await worker.wait(ended)
    await machine.limiter.prepare(ended, ResourceLimits(), os.getpid())
    assert 2 == len(await machine.worker().list())
    assert {runs} == machine.limiter.scopes.keys()


def test_a_process_of_nobody_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """What is not in the journal may belong to somebody: it is told, and neither ended nor swept."""

    async def scenario() -> None:
        machine = FakeMachine()
        job = await machine.worker().start(SLEEP)
        await machine.journal.remove(job)
        assert [] == await machine.worker().list()
        assert {job} == (await machine.spawner.recover()).keys()
        assert {job} == machine.limiter.scopes.keys()
        assert {job} == machine.outputs._sinks.keys()

    asyncio.run(scenario())
    assert [True] == ["is not in the journal" in message for message in caplog.messages]


class BrokenJournal(MemoryJournal):
    """Refuses what a test tells it to."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.puts: list[JobId] = []

    async def put(self, record: JobRecord) -> None:
        """Insert, or refuse."""
        self._check("put")
        self.puts.append(record.id)
        await super().put(record)

    async def remove(self, job: JobId, remember: PastRequest | None = None) -> None:
        """Drop, or refuse."""
        self._check("remove")
        await super().remove(job, remember)

    def _check(self, what: str) -> None:
        if what in self.refused:
            raise JournalUnusable("disk full")


def test_an_end_that_cannot_be_journaled_is_kept_by_the_spawner(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """This server tells the end all the same, and so does the next."""

    async def scenario() -> None:
        journal = BrokenJournal()
        machine = FakeMachine(journal=journal)
        worker = machine.worker()
        job = await worker.start(SLEEP)
        journal.refused = {"put"}
        await machine.clock.advance(5.0)
        assert Exited(0) == (await worker.wait(job)).ending
        await worker.close()
        journal.refused = set()
        successor = machine.worker()
        assert Exited(0) == (await successor.wait(job)).ending
        assert {} == await machine.spawner.recover()

    asyncio.run(scenario())
    assert [True] == ["its end could not be journaled" in message for message in caplog.messages]


async def test_a_recovery_that_fails_is_tried_again() -> None:
    """The first call hears why; the next ones work as soon as they can, and take no job up twice."""
    journal = BrokenJournal()
    machine = FakeMachine(journal=journal)
    first = machine.worker()
    runs = await first.start(SLEEP)
    await first.close()
    await journal.put(JobRecord(new_job_id(), SLEEP, "", "", machine.clock.now()))
    journal.refused = {"remove"}  # the intent that never ran
    journal.puts.clear()
    worker = machine.worker()
    for _ in range(2):
        with pytest.raises(JournalUnusable):
            await worker.list()
    journal.refused = set()
    assert [runs] == [status.record.id for status in await worker.list()]
    await machine.clock.advance(5.0)
    assert Exited(0) == (await worker.wait(runs)).ending
    assert [runs] == [record.id for record in await journal.load()]
    assert [runs] == journal.puts
    assert {} == await machine.spawner.recover()
