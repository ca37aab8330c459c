"""Finished jobs expire, and their requests a day later."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import (
    CpuLimit,
    JobId,
    JobNotFound,
    JobSpec,
    JournalUnusable,
    Leftovers,
    MemoryLimit,
    PastRequest,
    RequestIdReused,
    ResourceLimits,
    Retention,
    Worker,
)
from worker.core.audit.record import timestamp
from worker.core.audit.trail import AuditTrail
from worker.core.engine.idempotency import REQUEST_RETENTION, fingerprint
from worker.core.engine.retention import CLOCK_SETTLING, MAX_INTERVAL, MIN_AGE
from worker.core.testing import FakeMachine, FakeProgram, FakeSpawner, MemoryAuditLog
from worker.core.worker import LIST_BATCH

from ..support.audit_page import assert_documented

ECHO = JobSpec("echo", ["hello"])


async def pass_time(machine: FakeMachine, seconds: float) -> None:
    """Advance the clock in steps, so that every periodic check runs."""
    step = min(seconds, MAX_INTERVAL) if seconds < 100 * MAX_INTERVAL else seconds / 100
    for _ in range(round(seconds / step)):
        await machine.clock.advance(step)


async def kept(machine: FakeMachine, worker: Worker) -> list[JobId]:
    """Return the jobs that are kept; Worker, journal and output store must agree."""
    jobs = [status.record.id for status in await worker.list()]
    assert jobs == [record.id for record in await machine.journal.load()]
    assert set(jobs) == machine.outputs.jobs
    return jobs


async def test_the_oldest_jobs_expire_first() -> None:
    """The newest jobs are kept, and running jobs do not count."""
    machine = FakeMachine()
    worker = machine.worker(retention=Retention(age=inf, jobs=2, bytes=inf))
    runs = await worker.start(JobSpec("sleep", ["100000"]))
    jobs = []
    for _ in range(5):
        jobs.append(await worker.start(ECHO))
        await machine.clock.advance(1.0)
    assert [runs, *jobs] == await kept(machine, worker)
    await pass_time(machine, MIN_AGE + MAX_INTERVAL)
    assert [runs, *jobs[3:]] == await kept(machine, worker)
    with pytest.raises(JobNotFound):
        await worker.query(jobs[0])


async def test_jobs_expire_by_age_and_by_bytes() -> None:
    """The bounds apply to the jobs of a previous Worker, too."""
    machine = FakeMachine()
    first = machine.worker()
    await first.start(ECHO)
    await machine.clock.advance(10_000.0)
    young = []
    for _ in range(3):
        young.append(await first.start(ECHO))
        await machine.clock.advance(MIN_AGE)
    await first.close()
    worker = machine.worker(retention=Retention(age=9000.0, jobs=inf, bytes=12))
    await worker.recover()
    await machine.clock.advance(0)
    assert young[1:] == await kept(machine, worker)
    await pass_time(machine, 9000.0)
    assert [] == await kept(machine, worker)


async def test_a_job_in_use_is_kept() -> None:
    """A job expires only after its last reader has left."""
    machine = FakeMachine()
    worker = machine.worker(retention=Retention(age=0.0, jobs=0, bytes=0))
    job = await worker.start(ECHO)
    await worker.wait(job)
    stream = worker.stream(job)
    assert b"hello\n" == (await anext(stream)).data
    await pass_time(machine, 10 * MAX_INTERVAL)
    assert [job] == await kept(machine, worker)
    await stream.aclose()
    await pass_time(machine, MAX_INTERVAL)
    assert [] == await kept(machine, worker)


async def test_a_request_is_kept_a_day_longer_than_its_job() -> None:
    """Until then a repetition starts nothing, and another command is rejected."""
    machine = FakeMachine()
    keep = Retention(age=3600.0, jobs=inf, bytes=inf)
    worker = machine.worker(retention=keep)
    job = await worker.start(ECHO, owner="alice", request_id="r1")
    await pass_time(machine, 3600.0 + MAX_INTERVAL)
    assert [] == await kept(machine, worker)
    await worker.close()
    worker = machine.worker(retention=keep)
    assert job == await worker.start(ECHO, owner="alice", request_id="r1")
    with pytest.raises(RequestIdReused):
        await worker.start(JobSpec("true"), owner="alice", request_id="r1")
    assert [] == await kept(machine, worker)
    await pass_time(machine, REQUEST_RETENTION - 2 * MAX_INTERVAL)
    assert job == await worker.start(ECHO, owner="alice", request_id="r1")
    await pass_time(machine, CLOCK_SETTLING + 4 * MAX_INTERVAL)
    assert job != await worker.start(ECHO, owner="alice", request_id="r1")


async def test_a_jump_of_the_wall_clock_forgets_no_request() -> None:
    """Neither while a Worker runs, nor if the clock is set only after its start."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(ECHO, request_id="r1")
    await worker.wait(job)
    await worker.remove(job)
    machine.clock.set(machine.clock.now() + 10 * REQUEST_RETENTION)
    await pass_time(machine, 2 * CLOCK_SETTLING)
    await worker.close()
    worker = machine.worker()
    await worker.recover()
    machine.clock.set(machine.clock.now() - 10 * REQUEST_RETENTION)
    await pass_time(machine, 2 * CLOCK_SETTLING)
    assert job == await worker.start(ECHO, request_id="r1")


async def test_a_failed_removal_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """The job exists until it can be removed completely; the audit log has one record of it."""
    machine = FakeMachine()
    log = MemoryAuditLog()
    remove = machine.journal.remove

    async def fail(job: JobId, remember: PastRequest | None = None) -> None:
        raise JournalUnusable("disk full")

    worker = machine.worker(retention=Retention(jobs=0), audit=AuditTrail(log, clock=machine.clock))
    job = await worker.start(ECHO)
    machine.journal.remove = fail
    await pass_time(machine, MIN_AGE + 3 * MAX_INTERVAL)
    assert [job] == [status.record.id for status in await worker.list()]
    machine.journal.remove = remove
    await pass_time(machine, MAX_INTERVAL)
    assert [] == await kept(machine, worker)
    assert all("disk full" in message for message in caplog.messages)
    assert len(caplog.messages) > 1
    assert [str(job)] == [each["job"] for each in log.records if each["event"] == "job_removed"]


async def test_expired_jobs_are_recorded() -> None:
    """With the time of the removal and of the end; what a client removes is recorded as its call."""
    machine = FakeMachine()
    log = MemoryAuditLog()
    worker = machine.worker(retention=Retention(age=100.0), audit=AuditTrail(log, clock=machine.clock))
    expires = await worker.start(ECHO, owner="alice", issuer="CN=1")
    removed = await worker.start(ECHO, owner="bob")
    end = (await worker.wait(expires)).record.end
    await worker.wait(removed)
    await worker.remove(removed)
    before = machine.clock.now()
    await pass_time(machine, 100 + 2 * MAX_INTERVAL)
    assert [] == await kept(machine, worker)
    assert end is not None
    (record,) = [each for each in log.records if each["event"] == "job_removed"]
    assert timestamp(before + 100) <= record["time"] <= timestamp(machine.clock.now())
    assert record == {
        "time": record["time"],
        "event": "job_removed",
        "job": str(expires),
        "identity": "alice",
        "issuer": "CN=1",
        "ended_at": timestamp(end.ended_at),
    }
    assert_documented(log.records)


def test_equal_specs_have_the_same_fingerprint() -> None:
    """The order of names does not matter, nor whether a number is written 10 or 10.0."""
    one = JobSpec("ls", ["/"], env={"A": "1", "B": "2"}, labels={"x": "1", "y": "2"}, timeout=5, grace=10)
    other = JobSpec("ls", ("/",), env={"B": "2", "A": "1"}, labels={"y": "2", "x": "1"}, timeout=5.0)
    assert one == other
    assert fingerprint(one) == fingerprint(other)


def test_the_fingerprint_is_stable() -> None:
    """Fingerprints are compared with those that earlier versions have journaled."""
    assert "4cf29611" == fingerprint(JobSpec("ls"))[:8]


specs = st.builds(
    JobSpec,
    st.sampled_from(["a", "b"]),
    st.lists(st.sampled_from(["", "a", "a b"]), max_size=2),
    env=st.dictionaries(st.sampled_from(["A", "B"]), st.sampled_from(["", "1"]), max_size=2),
    user=st.sampled_from([None, "nobody"]),
    limits=st.builds(
        ResourceLimits,
        cpu=st.builds(CpuLimit, quota=st.sampled_from([None, 1.0, 0.5])),
        memory=st.builds(MemoryLimit, max=st.sampled_from([None, 1 << 20])),
        pids=st.sampled_from([None, 5]),
    ),
    timeout=st.sampled_from([None, 1.0]),
    name=st.sampled_from(["", "a", "b"]),
    leftovers=st.sampled_from(Leftovers),
)


@given(specs, specs)
def test_fingerprints_distinguish_specs(one: JobSpec, other: JobSpec) -> None:
    """Fingerprints are equal exactly for equal specs."""
    assert (one == other) == (fingerprint(one) == fingerprint(other))
    assert fingerprint(one) == fingerprint(replace(one))


async def test_bounded_output_counts_with_its_bound() -> None:
    """Output beyond the bound is not kept and does not count."""
    machine = FakeMachine({"long": lambda _: FakeProgram(output=b"x" * 900_000)})
    worker = machine.worker(retention=Retention(age=inf, jobs=inf, bytes=300_000))
    job = await worker.start(JobSpec("long", output_max=1 << 18))
    await pass_time(machine, MIN_AGE + MAX_INTERVAL)
    assert [job] == await kept(machine, worker)


class Bounding(FakeSpawner):
    """A spawner that is told how much output running jobs may write."""

    granted: int | None = None

    async def bound_output(self, most: int | None, on_reached: Callable[[], None]) -> None:
        """Note it, and what reports that a job waits."""
        self.granted, self.on_reached = most, on_reached


async def test_running_jobs_count() -> None:
    """The oldest finished jobs make room for running ones, also when one waits; these are told how much."""
    programs = {
        "short": lambda _: FakeProgram(output=b"x" * 300),
        "long": lambda _: FakeProgram(output=b"x" * 1200, seconds=1e9),
    }
    machine = FakeMachine(programs)
    spawner = machine.spawner = Bounding(programs=programs, clock=machine.clock)
    worker = machine.worker(retention=Retention(age=inf, jobs=inf, bytes=1600))
    jobs = [await worker.start(JobSpec("short")) for _ in range(2)]
    for job in jobs:
        await worker.wait(job)
    await pass_time(machine, MIN_AGE + MAX_INTERVAL)
    assert jobs == await kept(machine, worker)
    assert 1000 == spawner.granted
    running = await worker.start(JobSpec("long"))
    spawner.on_reached()
    await pass_time(machine, 1.0)
    assert [jobs[1], running] == await kept(machine, worker)
    assert 1300 == spawner.granted


async def test_a_long_list_yields_to_other_tasks() -> None:
    """Other calls proceed while ``list`` processes thousands of jobs."""
    machine = FakeMachine()
    worker = machine.worker()
    jobs = [await worker.start(ECHO) for _ in range(3 * LIST_BATCH)]
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counter = asyncio.create_task(count_turns())
    assert jobs == [status.record.id for status in await worker.list()]
    counter.cancel()
    assert turns >= 2
