"""Start of a job with a Worker: order of the steps, failures of each port, and what a policy grants."""

import errno
from collections.abc import Callable, Collection, Mapping

import pytest

from worker.core import (
    ActionRefused,
    Cause,
    Channel,
    CpuLimit,
    Execution,
    Exited,
    Extent,
    Grant,
    JobId,
    JobRecord,
    JobSpec,
    JobState,
    JournalUnusable,
    LimitsRejected,
    MemoryJournal,
    Placement,
    PlacementKind,
    Process,
    QuotaExceeded,
    ResourceLimits,
    Sink,
    SpawnFailed,
    Worker,
    WorkerError,
)
from worker.core.testing import (
    FakeLimiter,
    FakeMachine,
    FakeSpawner,
    MemoryOutputStore,
)

from ..support.fake_machines import check_nothing_is_left


async def test_a_job_runs_to_its_end() -> None:
    """Start returns an id, with which the end and the output of the job can be read."""
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


async def test_preparation_precedes_the_exec() -> None:
    """Intent, limits and output are prepared before the command is executed."""
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


class FailingJournal(MemoryJournal):
    """A journal that cannot be written."""

    async def put(self, record: JobRecord) -> None:
        """Fail."""
        raise JournalUnusable(f"no room for {record.id}")


class FailingOutputs(MemoryOutputStore):
    """A store that fails after it has created the output."""

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Create the output, then fail."""
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
    """If a port fails, its error is raised and the preceding steps are undone."""
    machine = make()
    worker = machine.worker()
    with pytest.raises(error) as raised:
        await worker.start(JobSpec(command), request_id="r1")
    if isinstance(raised.value, SpawnFailed):
        assert errno.ENOENT == raised.value.errno
    assert [] == await worker.list()
    await check_nothing_is_left(machine)


async def test_the_record_of_a_failed_start_is_deleted_last() -> None:
    """As long as anything else exists, the record does: a kill during the clean-up leaves no orphan."""
    left: list[tuple[set[JobId], set[JobId]]] = []

    class Inspecting(MemoryJournal):
        async def remove(self, job: JobId) -> None:
            left.append((set(machine.limiter.scopes), set(machine.outputs.jobs)))
            await super().remove(job)

    machine = FakeMachine(journal=Inspecting())
    with pytest.raises(SpawnFailed):
        await machine.worker().start(JobSpec("no-such-command"))
    assert [(set(), set())] == left


async def test_a_failed_undo_does_not_hide_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    """The first error is raised, the error of the clean-up is logged, and the other steps are undone."""

    class Unremovable(FailingOutputs):
        async def remove(self, job: JobId) -> None:
            raise OSError(errno.EBUSY, f"output of {job}")

    machine = FakeMachine(outputs=Unremovable())
    worker = machine.worker()
    with pytest.raises(QuotaExceeded):
        await worker.start(JobSpec("true"))
    assert {} == machine.limiter.scopes
    assert [] == list(await machine.journal.load())
    assert [True] == ["clean-up step failed" in message for message in caplog.messages]


async def test_what_a_policy_grants_is_recorded_and_executed() -> None:
    """The record has the issuer and what is executed; the default user applies where none is requested."""
    seen: list[JobSpec] = []

    class Spawner(FakeSpawner):
        async def spawn(
            self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
        ) -> Process:
            seen.append(spec)
            return await super().spawn(job, spec, placement, sinks)

    worker = Worker(
        spawner=Spawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore(), default_user="nobody"
    )
    execution = Execution("/bin/true", ("/bin/nice",))
    grant = Grant(execution)
    job = await worker.start(JobSpec("true"), owner="a", issuer="CN=x", request_id="1", grant=grant)
    other = await worker.start(JobSpec("true", user="root"), owner="a", request_id="2")
    assert job == await worker.start(JobSpec("true"), owner="a", issuer="CN=x", request_id="1", grant=grant)
    record = await worker.record(job)
    assert ("CN=x", "nobody", execution) == (record.issuer, record.user, record.execution)
    assert JobSpec("true") == record.spec
    assert [("nobody", execution), ("root", None)] == [(each.user, each.execution) for each in seen]
    assert "root" == (await worker.record(other)).effective_user
    await worker.close()


async def test_a_spawner_that_looks_commands_up_itself_is_refused() -> None:
    """Without the capability a spawner would execute another file than the policy allowed."""

    class Spawner(FakeSpawner):
        executes_exactly = False

    worker = Worker(spawner=Spawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore())
    with pytest.raises(ActionRefused, match="cannot execute exactly the file"):
        await worker.start(JobSpec("true"), grant=Grant(Execution("/bin/true")))
    assert [] == await worker.list()
    await worker.close()
