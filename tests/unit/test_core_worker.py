"""Query, list, wait, update, remove and close of a Worker, and many jobs at once."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping

import pytest

from worker.core import (
    Cause,
    Channel,
    End,
    Exited,
    Extent,
    JobId,
    JobNotFound,
    JobRecord,
    JobSelection,
    JobSpec,
    JobState,
    JobStatus,
    JobStillRunning,
    JournalUnusable,
    Lost,
    MemoryJournal,
    Placement,
    Process,
    RequestIdReused,
    ResourceLimits,
    ResourceUsage,
    Signaled,
    Sink,
    SpawnerUnavailable,
    SpawnFailed,
    Worker,
    WorkerError,
    new_job_id,
)
from worker.core.testing import PROGRAMS, FakeMachine, FakeProgram, FakeSpawner
from worker.core.worker import LAUNCH_TIMEOUT

from ..support.fake_machines import check_nothing_is_left

LONG = JobSpec("sleep", ["1000"])
ALL_PROGRAMS = {
    **PROGRAMS,
    "stubborn": lambda _: FakeProgram(seconds=1000, ignores_sigterm=True),
    "forker": lambda _: FakeProgram(seconds=1, exit_code=7, child_seconds=50, ignores_sigterm=True),
}


class GatedSpawner(FakeSpawner):
    """A FakeSpawner that spawns only after its gate is opened."""

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(programs=machine.programs, clock=machine.clock)
        self.gate = asyncio.Event()

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        """Wait for the gate, then spawn."""
        await self.gate.wait()
        return await super().spawn(job, spec, placement, sinks)


class GatedForget(FakeSpawner):
    """A FakeSpawner that forgets a job only after its gate is opened."""

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(programs=machine.programs, clock=machine.clock)
        self.machine = machine
        self.forgetting = asyncio.Event()
        self.gate = asyncio.Event()

    async def forget(self, job: JobId) -> None:
        """Check that the scope is removed, wait for the gate, then forget."""
        assert {} == self.machine.limiter.scopes
        self.forgetting.set()
        await self.gate.wait()
        await super().forget(job)


def gated() -> tuple[FakeMachine, asyncio.Event]:
    """Return a machine, and the gate that its spawner waits for."""
    machine = FakeMachine(ALL_PROGRAMS)
    machine.spawner = spawner = GatedSpawner(machine)
    return machine, spawner.gate


# --- query, list, wait


async def test_states_of_a_job() -> None:
    """STARTING until the exec, RUNNING, STOPPING while leftovers remain, EXITED."""
    machine, gate = gated()
    worker = machine.worker()
    start = asyncio.create_task(worker.start(JobSpec("forker")))
    await machine.clock.advance(0)
    [status] = await worker.list()
    assert (JobState.STARTING, None) == (status.state, status.ending)
    gate.set()
    job = await start
    assert JobState.RUNNING is (await worker.query(job)).state
    await machine.clock.advance(1.0)
    status = await worker.query(job)
    assert (JobState.STOPPING, Exited(7)) == (status.state, status.ending)
    await machine.clock.advance(1.0)
    await machine.clock.advance(2.0)  # the child ignores SIGTERM
    assert JobState.EXITED is (await worker.query(job)).state


async def test_usage_of_a_job() -> None:
    """Each query reads the usage of a running job; the last reading is kept, the scope is removed."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(LONG)
    scope = machine.limiter.scopes[job]
    for cpu in (1, 2):
        scope.consumed = ResourceUsage(cpu_usec=cpu)
        assert cpu == (await worker.query(job)).usage.cpu_usec
    await worker.stop(job)
    assert {} == machine.limiter.scopes
    status = await worker.query(job)
    assert ResourceUsage(cpu_usec=2) == status.usage == status.record.usage


async def test_usage_while_a_job_is_being_finished() -> None:
    """Once its cgroups are removed, a query returns the last reading: a removed scope may raise."""
    machine = FakeMachine(ALL_PROGRAMS)
    machine.spawner = spawner = GatedForget(machine)
    worker = machine.worker()
    job = await worker.start(LONG)
    scope = machine.limiter.scopes[job]
    scope.consumed = ResourceUsage(cpu_usec=2)
    stopping = asyncio.ensure_future(worker.stop(job))
    await spawner.forgetting.wait()
    scope.consumed = ResourceUsage()
    assert ResourceUsage(cpu_usec=2) == (await worker.query(job)).usage
    spawner.gate.set()
    await stopping


async def test_list_filters() -> None:
    """Jobs are listed oldest first, filtered by labels, all of which must match, and by running."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    first = await worker.start(JobSpec("sleep", ["9"], labels={"app": "x", "tier": "db"}))
    second = await worker.start(JobSpec("true", labels={"app": "x"}))
    third = await worker.start(JobSpec("sleep", ["9"]))
    await worker.wait(second)

    async def ids(labels: dict[str, str], *, only_running: bool = False) -> list[JobId]:
        return [each.record.id for each in await worker.list(JobSelection(labels, running=only_running))]

    assert [first, second, third] == await ids({})
    assert [first, second] == await ids({"app": "x"})
    assert [first] == await ids({"app": "x", "tier": "db"})
    assert [] == await ids({"app": "y"})
    assert [first, third] == await ids({}, only_running=True)
    assert [first] == await ids({"app": "x"}, only_running=True)


async def test_status_of_a_lost_job() -> None:
    """A lost job has the state LOST and a reason."""
    machine = FakeMachine()
    record = JobRecord(new_job_id(), LONG, "", "", 0.0, end=End(Lost("power"), Cause.NONE, 0, {}, 1.0))
    await machine.journal.put(record)
    worker = machine.worker()
    status = await worker.wait(record.id)
    assert (JobState.LOST, "power") == (status.state, status.lost_reason)
    assert {Channel.OUTPUT: Extent(0, 0)} == status.output


async def test_concurrent_waiters() -> None:
    """All waiters get the same status, also after the end; cancelling one does not affect the others."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["5"]))
    waiters = [asyncio.create_task(worker.wait(job)) for _ in range(10)]
    await machine.clock.advance(0)
    waiters.pop().cancel()
    await machine.clock.advance(5.0)
    statuses = await asyncio.gather(*waiters)
    assert [await worker.wait(job)] * 9 == statuses


USES: list[Callable[[Worker, JobId], Awaitable[object]]] = [
    lambda worker, job: worker.stop(job),
    lambda worker, job: worker.query(job),
    lambda worker, job: worker.wait(job),
    lambda worker, job: worker.remove(job),
    lambda worker, job: anext(worker.stream(job)),
]


@pytest.mark.parametrize("use", USES, ids=["stop", "query", "wait", "remove", "stream"])
async def test_an_unknown_job_is_not_found(use: Callable[[Worker, JobId], Awaitable[object]]) -> None:
    """Every call raises JobNotFound with the same message."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = new_job_id()
    with pytest.raises(JobNotFound, match=f"^Job {job} not found$"):
        await use(worker, job)


@pytest.mark.parametrize("use", USES, ids=["stop", "query", "wait", "remove", "stream"])
async def test_a_job_whose_start_fails_is_not_found(
    use: Callable[[Worker, JobId], Awaitable[object]],
) -> None:
    """A call for a job that is STARTING waits for the launch, and raises JobNotFound if that fails."""
    machine, gate = gated()
    worker = machine.worker()
    start = asyncio.create_task(worker.start(JobSpec("no-such-command")))
    await machine.clock.advance(0)
    [status] = await worker.list()
    call = asyncio.create_task(_outcome(use(worker, status.record.id)))
    await machine.clock.advance(0)
    gate.set()
    with pytest.raises(SpawnFailed):
        await start
    outcome = await call
    assert isinstance(outcome, JobNotFound | JobStatus)  # query does not wait
    await check_nothing_is_left(machine)


async def _outcome(call: Awaitable[object]) -> object:
    try:
        return await call
    except WorkerError as error:
        return error


# --- remove


async def test_a_removed_job_leaves_only_its_request() -> None:
    """Record and output are deleted; a repeated request returns the old id and starts no job."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("echo", ["x"]), request_id="r1")
    await worker.wait(job)
    await worker.remove(job)
    await check_nothing_is_left(machine)
    assert job == await worker.start(JobSpec("echo", ["x"]), request_id="r1")
    with pytest.raises(RequestIdReused):
        await worker.start(JobSpec("true"), request_id="r1")
    assert job != await worker.start(JobSpec("true"), owner="another owner", request_id="r1")
    with pytest.raises(JobNotFound):
        await worker.query(job)


async def test_a_running_job_is_not_removed() -> None:
    """Remove raises JobStillRunning, and the job keeps running."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(LONG)
    with pytest.raises(JobStillRunning, match="stop it first"):
        await worker.remove(job)
    assert JobState.RUNNING is (await worker.query(job)).state


# --- many, and close


async def test_two_hundred_jobs_at_once() -> None:
    """Each job has its own end; only records and output remain, no scope, process or task."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    await worker.recover()
    idle = asyncio.all_tasks()
    specs = [
        JobSpec(*each)
        for number in range(50)
        for each in (("echo", [str(number)]), ("sleep", ["5"]), ("false", []), ("stubborn", []))
    ]
    jobs = await asyncio.gather(*(worker.start(spec) for spec in specs))
    stops = asyncio.gather(*(worker.stop(job, grace=5.0) for job in jobs[3::4]))
    await machine.clock.advance(0)
    await machine.clock.advance(5.0)
    await stops
    statuses = await asyncio.gather(*(worker.wait(job) for job in jobs))
    assert list(jobs) == [status.record.id for status in statuses]
    expected = [Exited(0), Exited(0), Exited(1), Signaled(signal.SIGKILL)] * 50
    assert expected == [status.ending for status in statuses]
    for number, job in enumerate(jobs[::4]):
        assert f"{number}\n".encode() == await machine.outputs.read(job, Channel.OUTPUT, 0, 100)
    await machine.clock.advance(0)
    assert {} == machine.limiter.scopes
    assert {} == await machine.spawner.recover()
    assert idle == asyncio.all_tasks()


async def test_close_leaves_jobs_running() -> None:
    """The next Worker recovers them with the same status."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["5"]), owner="alice", request_id="r1")
    before = await worker.query(job)
    await worker.close()
    assert machine.limiter.closed
    worker = machine.worker()
    assert before == await worker.query(job)
    assert job == await worker.start(before.record.spec, owner="alice", request_id="r1")
    await machine.clock.advance(5.0)
    assert Exited(0) == (await worker.wait(job)).ending


async def test_close_waits_for_launches() -> None:
    """A start that is in progress completes and returns its id."""
    machine, gate = gated()
    worker = machine.worker()
    start = asyncio.create_task(worker.start(LONG))
    await machine.clock.advance(0)
    close = asyncio.create_task(worker.close())
    await machine.clock.advance(0)
    assert not close.done()
    gate.set()
    await close
    job = await start
    successor = machine.worker()
    assert JobState.RUNNING is (await successor.query(job)).state
    await successor.stop(job)


async def test_close_during_a_launch_that_does_not_end() -> None:
    """The launch is cancelled; a call that waits for it raises SpawnerUnavailable."""
    machine, _ = gated()
    worker = machine.worker()
    start = asyncio.create_task(worker.start(LONG))
    await machine.clock.advance(0)
    [status] = await worker.list()
    wait = asyncio.create_task(_outcome(worker.wait(status.record.id)))
    close = asyncio.create_task(worker.close())
    await machine.clock.advance(0)
    await machine.clock.advance(LAUNCH_TIMEOUT)
    await close
    assert start.cancelled()
    assert isinstance(await wait, SpawnerUnavailable)
    assert [] == await machine.worker().list()
    await check_nothing_is_left(machine)


class FullJournal(MemoryJournal):
    """A journal that cannot be written once it is full."""

    full = False

    async def put(self, record: JobRecord) -> None:
        """Store the record, or fail."""
        if self.full:
            raise JournalUnusable(f"no room for {record.id}")
        await super().put(record)


async def test_an_update_that_cannot_be_journaled() -> None:
    """It changes nothing: neither the limits in force nor those that are shown."""
    journal = FullJournal()
    machine = FakeMachine(journal=journal)
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["1000"], limits=ResourceLimits(pids=7)))
    journal.full = True
    with pytest.raises(JournalUnusable):
        await worker.update(job, ResourceLimits(pids=9))
    assert 7 == machine.limiter.limits[job].pids
    assert 7 == (await worker.query(job)).record.limits.pids
