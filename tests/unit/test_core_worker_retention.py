"""Finished jobs go by themselves when they were kept long enough, and their requests a day later."""

import asyncio
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.engine.idempotency import REMEMBERED, fingerprint
from worker.core.engine.retention import (
    FRESH,
    LONGEST_REST,
    SETTLING,
    Retention,
)
from worker.core.errors import JobNotFound, JournalUnusable, RequestIdReused
from worker.core.model.job import (
    JobId,
    JobSpec,
    Leftovers,
    PastRequest,
)
from worker.core.model.limits import CpuLimit, MemoryLimit, ResourceLimits
from worker.core.testing import FakeMachine, FakeProgram
from worker.core.worker import LOOKED_AT, Worker

ECHO = JobSpec("echo", ["hello"])


def worker_of(machine: FakeMachine, retention: Retention) -> Worker:
    """Return a new Worker that keeps so much."""
    return Worker(
        spawner=machine.spawner,
        limiter=machine.limiter,
        outputs=machine.outputs,
        journal=machine.journal,
        clock=machine.clock,
        retention=retention,
    )


async def pass_time(machine: FakeMachine, seconds: float) -> None:
    """Let time pass as it does: not in one leap."""
    step = min(seconds, LONGEST_REST) if seconds < 100 * LONGEST_REST else seconds / 100
    for _ in range(round(seconds / step)):
        await machine.clock.advance(step)


async def left(machine: FakeMachine, worker: Worker) -> list[JobId]:
    """Return the jobs that are left, the same everywhere."""
    jobs = [status.record.id for status in await worker.list()]
    assert jobs == [record.id for record in await machine.journal.load()]
    assert set(jobs) == machine.outputs._sinks.keys()
    return jobs


async def test_the_oldest_go_when_there_are_too_many() -> None:
    """The newest stay, and what runs does not count."""
    machine = FakeMachine()
    worker = worker_of(machine, Retention(age=inf, jobs=2, bytes=inf))
    runs = await worker.start(JobSpec("sleep", ["100000"]))
    jobs = []
    for _ in range(5):
        jobs.append(await worker.start(ECHO))
        await machine.clock.advance(1.0)
    assert [runs, *jobs] == await left(machine, worker)
    await pass_time(machine, FRESH + LONGEST_REST)
    assert [runs, *jobs[3:]] == await left(machine, worker)
    with pytest.raises(JobNotFound):
        await worker.query(jobs[0])


async def test_jobs_go_by_age_and_by_bytes() -> None:
    """Those of an earlier server, too."""
    machine = FakeMachine()
    first = machine.worker()
    await first.start(ECHO)
    await machine.clock.advance(10_000.0)
    young = []
    for _ in range(3):
        young.append(await first.start(ECHO))
        await machine.clock.advance(FRESH)
    await first.close()
    worker = worker_of(machine, Retention(age=9000.0, jobs=inf, bytes=12))
    await worker.recover()
    await machine.clock.advance(0)
    assert young[1:] == await left(machine, worker)
    await pass_time(machine, 9000.0)
    assert [] == await left(machine, worker)


async def test_what_is_read_or_waited_for_stays() -> None:
    """A job goes after its last reader."""
    machine = FakeMachine()
    worker = worker_of(machine, Retention(age=0.0, jobs=0, bytes=0))
    job = await worker.start(ECHO)
    await worker.wait(job)
    stream = worker.stream(job)
    assert b"hello\n" == (await anext(stream)).data
    await pass_time(machine, 10 * LONGEST_REST)
    assert [job] == await left(machine, worker)
    await stream.aclose()
    await pass_time(machine, LONGEST_REST)
    assert [] == await left(machine, worker)


async def test_a_request_is_remembered_a_day_longer_than_its_job() -> None:
    """Repeated it starts nothing; with another command it is refused; after that it is a new one."""
    machine = FakeMachine()
    keep = Retention(age=3600.0, jobs=inf, bytes=inf)
    worker = worker_of(machine, keep)
    job = await worker.start(ECHO, owner="alice", request_id="r1")
    await pass_time(machine, 3600.0 + LONGEST_REST)
    assert [] == await left(machine, worker)
    await worker.close()
    worker = worker_of(machine, keep)
    assert job == await worker.start(ECHO, owner="alice", request_id="r1")
    with pytest.raises(RequestIdReused):
        await worker.start(JobSpec("true"), owner="alice", request_id="r1")
    assert [] == await left(machine, worker)
    await pass_time(machine, REMEMBERED - 2 * LONGEST_REST)
    assert job == await worker.start(ECHO, owner="alice", request_id="r1")
    await pass_time(machine, SETTLING + 4 * LONGEST_REST)
    assert job != await worker.start(ECHO, owner="alice", request_id="r1")


async def test_a_clock_that_leaps_forgets_no_request() -> None:
    """Neither while the server runs, nor where one starts with a clock that is set a little later."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(ECHO, request_id="r1")
    await worker.wait(job)
    await worker.remove(job)
    machine.clock.set(machine.clock.now() + 10 * REMEMBERED)
    await pass_time(machine, 2 * SETTLING)
    await worker.close()
    worker = machine.worker()
    await worker.recover()
    machine.clock.set(machine.clock.now() - 10 * REMEMBERED)
    await pass_time(machine, 2 * SETTLING)
    assert job == await worker.start(ECHO, request_id="r1")


def test_a_removal_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """The job is there until it can be removed whole."""

    async def scenario() -> None:
        machine = FakeMachine()
        remove = machine.journal.remove

        async def refuse(job: JobId, remember: PastRequest | None = None) -> None:
            raise JournalUnusable("disk full")

        worker = worker_of(machine, Retention(jobs=0))
        job = await worker.start(ECHO)
        machine.journal.remove = refuse
        await pass_time(machine, FRESH + LONGEST_REST)
        assert [job] == [status.record.id for status in await worker.list()]
        machine.journal.remove = remove
        await pass_time(machine, LONGEST_REST)
        assert [] == await left(machine, worker)

    asyncio.run(scenario())
    assert all("disk full" in message for message in caplog.messages)
    assert caplog.messages


def test_equal_specifications_have_the_same_fingerprint() -> None:
    """Whatever the order of names, and whether a number is written 10 or 10.0."""
    one = JobSpec("ls", ["/"], env={"A": "1", "B": "2"}, labels={"x": "1", "y": "2"}, timeout=5, grace=10)
    other = JobSpec("ls", ("/",), env={"B": "2", "A": "1"}, labels={"y": "2", "x": "1"}, timeout=5.0)
    assert one == other
    assert fingerprint(one) == fingerprint(other)


def test_the_fingerprint_stays_as_it_is() -> None:
    """It is compared with those that earlier versions have journaled."""
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
    leftovers=st.sampled_from(Leftovers),
)


@given(specs, specs)
def test_fingerprints_tell_specifications_apart(one: JobSpec, other: JobSpec) -> None:
    """They are the same for equal ones and for no others."""
    assert (one == other) == (fingerprint(one) == fingerprint(other))
    assert fingerprint(one) == fingerprint(replace(one))


async def test_a_bounded_log_counts_with_its_bound() -> None:
    """What was written beyond it is not kept, and needs no room."""
    machine = FakeMachine({"long": lambda _: FakeProgram(output=b"x" * 900_000)})
    worker = worker_of(machine, Retention(age=inf, jobs=inf, bytes=300_000))
    job = await worker.start(JobSpec("long", output_max=1 << 18))
    await pass_time(machine, FRESH + LONGEST_REST)
    assert [job] == await left(machine, worker)


async def test_a_long_list_lets_others_have_their_turn() -> None:
    """While it looks at thousands of jobs, other calls are answered."""
    machine = FakeMachine()
    worker = machine.worker()
    jobs = [await worker.start(ECHO) for _ in range(3 * LOOKED_AT)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    assert jobs == [status.record.id for status in await worker.list()]
    beside.cancel()
    assert turns >= 2
