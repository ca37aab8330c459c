"""Start of a job with a Worker: order of the steps, repeated requests, and failures of each port."""

import asyncio
import errno
from collections.abc import Callable, Collection, Mapping
from uuid import UUID

import pytest

from worker.core import (
    ActionRefused,
    AppendedFile,
    Cause,
    Channel,
    CpuLimit,
    Execution,
    Exited,
    Extent,
    Grant,
    IncompatibleAdapters,
    JobBounds,
    JobId,
    JobRecord,
    JobSelection,
    JobSpec,
    JobState,
    JournalUnusable,
    LimitsRejected,
    MemoryJournal,
    Placement,
    PlacementKind,
    Process,
    QuotaExceeded,
    RequestIdReused,
    ResourceLimits,
    RunningJobs,
    Scope,
    Sink,
    SinkKind,
    SpawnFailed,
    Worker,
    WorkerError,
)
from worker.core.engine.job_memory import KEPT
from worker.core.testing import (
    FakeLimiter,
    FakeMachine,
    FakeSpawner,
    MemoryOutputStore,
)


async def check_nothing_is_left(machine: FakeMachine) -> None:
    """Check that no port has anything of a job."""
    assert [] == list(await machine.journal.load())
    assert {} == machine.limiter.scopes
    assert set() == machine.outputs.jobs
    assert {} == await machine.spawner.recover()


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


def test_incompatible_adapters_are_rejected() -> None:
    """An incompatible pair is rejected when the Worker is constructed, not when the first job starts."""

    class NowherePlacing(FakeSpawner):
        @property
        def accepts(self) -> frozenset[PlacementKind]:
            return frozenset({PlacementKind.NONE})

        @property
        def accepts_sinks(self) -> frozenset[str]:
            return frozenset({SinkKind.RECORDED_FIFO, SinkKind.APPENDED_FILE})

    cgroups, none = FakeLimiter(kind=PlacementKind.CGROUPS), FakeLimiter()
    with pytest.raises(IncompatibleAdapters, match="needs the placement cgroups; the spawner accepts none"):
        Worker(spawner=NowherePlacing(), limiter=cgroups, outputs=MemoryOutputStore())
    with pytest.raises(IncompatibleAdapters, match=r"makes in-process sinks; .*-fifo"):
        Worker(spawner=NowherePlacing(), limiter=none, outputs=MemoryOutputStore())


class WrongKind(MemoryOutputStore):
    """A store that does not make the sinks that it declares."""

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Make files instead."""
        await super().create(job, channels, most)
        return {channel: AppendedFile(f"/nonexistent/{channel}") for channel in channels}


class NamesAlone(MemoryOutputStore):
    """A store whose sinks have the kind that it declares, and nothing else of it."""

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Make sinks without a ``write``."""
        await super().create(job, channels, most)
        return dict.fromkeys(channels, KindAlone())


class KindAlone:
    """A sink with nothing but its kind."""

    kind = SinkKind.IN_PROCESS


class OneChannel(MemoryOutputStore):
    """A store that forgets a channel."""

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Make the first sink only."""
        return dict(list((await super().create(job, channels, most)).items())[:1])


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (
            WrongKind,
            "declares in-process sinks, but the sink for stdout is AppendedFile of kind appended-file",
        ),
        (NamesAlone, "declares in-process sinks, but the sink for stdout is KindAlone of kind in-process"),
        (OneChannel, "made sinks for stdout; the job has stderr, stdout"),
    ],
)
async def test_a_store_must_make_the_sinks_that_it_declares(
    outputs: type[MemoryOutputStore], reason: str
) -> None:
    """The start fails with both kinds in the error, and leaves nothing."""
    machine = FakeMachine(outputs=outputs())
    with pytest.raises(IncompatibleAdapters, match=reason):
        await machine.worker().start(JobSpec("true", split_output=True))
    await check_nothing_is_left(machine)


async def test_a_limiter_must_prepare_the_placement_that_it_declares() -> None:
    """The start fails with both kinds in the error, and leaves nothing."""

    class Undeclared(FakeLimiter):
        async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> Scope:
            self.kind = PlacementKind.CGROUPS
            try:
                return await super().prepare(job, limits, parent)
            finally:
                self.kind = PlacementKind.NONE

    machine = FakeMachine(limiter=Undeclared())
    with pytest.raises(IncompatibleAdapters, match="declares the placement none, but prepared cgroups"):
        await machine.worker().start(JobSpec("true"))
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
