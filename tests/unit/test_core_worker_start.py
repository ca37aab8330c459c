"""Starting a job with a Worker: in what order, repeated, and failing at every port."""

import asyncio
import errno
from collections.abc import Callable, Collection, Mapping

import pytest

from worker.core.engine.defaults import MemoryJournal
from worker.core.errors import (
    IncompatibleAdapters,
    JournalUnusable,
    LimitsRejected,
    QuotaExceeded,
    RequestIdReused,
    SpawnFailed,
    WorkerError,
)
from worker.core.model.ending import Cause, Channel, Exited
from worker.core.model.job import (
    Extent,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
)
from worker.core.model.limits import CpuLimit, ResourceLimits
from worker.core.ports import (
    Placement,
    PlacementKind,
    Process,
    Sink,
    SinkKind,
)
from worker.core.testing import (
    FakeLimiter,
    FakeMachine,
    FakeSpawner,
    MemoryOutputStore,
)
from worker.core.worker import Worker


async def check_nothing_is_left(machine: FakeMachine) -> None:
    """No port knows of any job."""
    assert [] == list(await machine.journal.load())
    assert {} == machine.limiter.scopes
    assert {} == machine.outputs._sinks
    assert {} == await machine.spawner.recover()


async def test_a_job_runs_to_its_end() -> None:
    """Start gives an id; the job's end and output are found under it."""
    machine = FakeMachine()
    worker = machine.worker()
    job = await worker.start(JobSpec("echo", ["hello"]), owner="alice")
    status = await worker.wait(job)
    assert JobState.EXITED is status.state
    assert Exited(0) == status.ending
    assert Cause.NONE is status.cause
    assert "alice" == status.record.owner
    assert {Channel.OUTPUT: Extent(0, 6)} == status.output
    assert {Channel.OUTPUT: 6} == status.record.end.output
    assert machine.clock.now() == status.record.created_at == status.record.started_at
    assert 1000 == status.record.pid


async def test_everything_is_ready_before_anything_runs() -> None:
    """Intent, limits and output are in place when the command is executed."""
    limits = ResourceLimits(cpu=CpuLimit(quota=0.5))

    machine = FakeMachine(limiter=FakeLimiter(kind=PlacementKind.CGROUPS))

    class Inspecting(FakeSpawner):
        async def spawn(
            self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
        ) -> Process:
            [intent] = await machine.journal.load()
            assert (job, "alice", "r1", None) == (intent.id, intent.owner, intent.request_id, intent.pid)
            assert limits == machine.limiter.limits[job]
            assert machine.limiter.scopes[job].placement == placement
            assert Extent(0, 0) == await machine.outputs.extent(job, Channel.OUTPUT)
            return await super().spawn(job, spec, placement, sinks)

    machine.spawner = Inspecting(clock=machine.clock)
    worker = machine.worker()
    job = await worker.start(JobSpec("true", limits=limits), owner="alice", request_id="r1")
    await worker.wait(job)


async def test_same_request_gives_the_same_job() -> None:
    """A start that is repeated, at once or after the job's end, runs nothing a second time."""
    machine = FakeMachine()
    worker = machine.worker()
    spec = JobSpec("true")
    starts = (worker.start(spec, owner="alice", request_id="r1") for _ in range(10))
    [job] = set(await asyncio.gather(*starts))
    await worker.wait(job)
    assert job == await worker.start(spec, owner="alice", request_id="r1")
    assert 1 == len(await worker.list())


async def test_request_ids_belong_to_their_owner() -> None:
    """Another owner's same id is another request; without an id every start is its own."""
    machine = FakeMachine()
    worker = machine.worker()
    jobs = {
        await worker.start(JobSpec("true"), owner=owner, request_id=request_id)
        for owner in ("alice", "bob")
        for request_id in ("r1", "", "")
    }
    assert 6 == len(jobs)


async def test_request_id_of_another_command_is_refused() -> None:
    """Whoever uses an id twice by mistake hears of it; nothing is started."""
    machine = FakeMachine()
    worker = machine.worker()
    await worker.start(JobSpec("true"), request_id="r1")
    with pytest.raises(RequestIdReused, match="'r1' was used for another command"):
        await worker.start(JobSpec("false"), request_id="r1")
    assert 1 == len(await worker.list())


async def test_a_failed_start_can_be_repeated() -> None:
    """A request id is used up by a job, not by a failure; all who waited for that one hear of it."""
    machine = FakeMachine(limiter=FakeLimiter(refuse="not today"))
    worker = machine.worker()
    starts = (worker.start(JobSpec("true"), request_id="r1") for _ in range(3))
    failures = await asyncio.gather(*starts, return_exceptions=True)
    assert [LimitsRejected] * 3 == [type(failure) for failure in failures]
    machine.limiter.refuse = None
    job = await worker.start(JobSpec("true"), request_id="r1")
    assert JobState.EXITED is (await worker.wait(job)).state


class FailingJournal(MemoryJournal):
    """Cannot write."""

    async def put(self, record: JobRecord) -> None:
        """Refuse."""
        raise JournalUnusable(f"no room for {record.id}")


class FailingOutputs(MemoryOutputStore):
    """Makes half of the room, then has no more."""

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Refuse."""
        await super().create(job, channels, most)
        raise QuotaExceeded("too many jobs")


@pytest.mark.parametrize(
    ("make", "command", "error"),
    [
        (lambda: FakeMachine(journal=FailingJournal()), "true", JournalUnusable),
        (lambda: FakeMachine(limiter=FakeLimiter(refuse="no such limit")), "true", LimitsRejected),
        (lambda: FakeMachine(outputs=FailingOutputs()), "true", QuotaExceeded),
        (FakeMachine, "no-such-command", SpawnFailed),
    ],
    ids=["journal", "limiter", "outputs", "spawner"],
)
async def test_a_failed_start_leaves_nothing(
    make: Callable[[], FakeMachine], command: str, error: type[WorkerError]
) -> None:
    """Whichever port fails, its own error is told and what came before is undone."""
    machine = make()
    worker = machine.worker()
    with pytest.raises(error) as raised:
        await worker.start(JobSpec(command), request_id="r1")
    if isinstance(raised.value, SpawnFailed):
        assert errno.ENOENT == raised.value.errno
    assert [] == await worker.list()
    await check_nothing_is_left(machine)


def test_the_journal_forgets_a_failed_start_last() -> None:
    """While anything is left of it there is a record: a server that dies meanwhile leaves no orphan."""
    left: list[tuple[set[JobId], set[JobId]]] = []

    class Looking(MemoryJournal):
        async def remove(self, job: JobId) -> None:
            left.append((set(machine.limiter.scopes), set(machine.outputs._sinks)))
            await super().remove(job)

    machine = FakeMachine(journal=Looking())

    async def scenario() -> None:
        with pytest.raises(SpawnFailed):
            await machine.worker().start(JobSpec("no-such-command"))

    asyncio.run(scenario())
    assert [(set(), set())] == left


def test_a_failed_undo_does_not_hide_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    """The first error is told, the second one logged, and the other steps are undone."""

    class Unremovable(FailingOutputs):
        async def remove(self, job: JobId) -> None:
            raise OSError(errno.EBUSY, f"output of {job}")

    async def scenario() -> None:
        machine = FakeMachine(outputs=Unremovable())
        worker = machine.worker()
        with pytest.raises(QuotaExceeded):
            await worker.start(JobSpec("true"))
        assert {} == machine.limiter.scopes
        assert [] == list(await machine.journal.load())

    asyncio.run(scenario())
    assert [True] == ["could not tidy up" in message for message in caplog.messages]


def test_adapters_that_do_not_fit_are_refused() -> None:
    """A wrong pair is found when the Worker is made, not when the first job is started."""

    class NowherePlacing(FakeSpawner):
        @property
        def accepts(self) -> frozenset[PlacementKind]:
            return frozenset({PlacementKind.NONE})

        @property
        def accepts_sinks(self) -> frozenset[SinkKind]:
            return frozenset({SinkKind.FIFO})

    cgroups, none = FakeLimiter(kind=PlacementKind.CGROUPS), FakeLimiter()
    with pytest.raises(IncompatibleAdapters, match="cannot place processes in cgroups; it can in none"):
        Worker(spawner=NowherePlacing(), limiter=cgroups, outputs=MemoryOutputStore())
    with pytest.raises(IncompatibleAdapters, match="cannot write to a memory sink; it can to fifo"):
        Worker(spawner=NowherePlacing(), limiter=none, outputs=MemoryOutputStore())
