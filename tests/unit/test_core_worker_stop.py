"""The end of a job by stop, by timeout, and by a signal from elsewhere."""

import asyncio
import math
import signal
from collections.abc import Mapping, Sequence

import pytest

from worker.core import (
    ActionRefused,
    Cause,
    Channel,
    End,
    Exited,
    InvalidJobSpec,
    JobAlreadyFinished,
    JobId,
    JobSpec,
    JobState,
    Leftovers,
    Placement,
    Process,
    Progress,
    Signaled,
    Sink,
    StopIncomplete,
    Survivor,
    Worker,
)
from worker.core.lifecycle import AFTER_MAIN
from worker.core.testing import (
    PROGRAMS,
    FakeLimiter,
    FakeMachine,
    FakeProgram,
    FakeSpawner,
    MemoryOutputStore,
)
from worker.core.worker import STOP_MARGIN

LONG = JobSpec("sleep", ["1000"])
ALL_PROGRAMS = {
    **PROGRAMS,
    "stubborn": lambda _: FakeProgram(seconds=1000, ignores_sigterm=True),
    "stuck": lambda _: FakeProgram(seconds=1000, unkillable=True),
    "forker": lambda _: FakeProgram(seconds=1, exit_code=7, child_seconds=50, ignores_sigterm=True),
}


async def test_stop_returns_when_the_job_has_finished() -> None:
    """After Stop has returned, no process remains and the end is known."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(LONG)
    await worker.stop(job)
    status = await worker.query(job)
    assert JobState.EXITED is status.state
    assert Signaled(signal.SIGTERM) == status.ending
    assert Cause.STOPPED is status.cause


@pytest.mark.parametrize(("grace", "effective"), [(None, 3.0), (2.0, 2.0), (0.0, 0.0)])
async def test_sigkill_follows_after_the_grace_period(grace: float | None, effective: float) -> None:
    """The grace period is that of the call, or else that of the job."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("stubborn", grace=3.0))
    stop = asyncio.create_task(worker.stop(job, grace=grace))
    await machine.clock.advance(0)
    if effective:
        await machine.clock.advance(effective - 0.1)
        assert not stop.done()
        status = await worker.query(job)
        assert (JobState.STOPPING, None, Cause.NONE) == (status.state, status.ending, status.cause)
        await machine.clock.advance(0.1)
    await stop
    assert Signaled(signal.SIGKILL) == (await worker.query(job)).ending


async def test_concurrent_stops_join() -> None:
    """All return with the end of the job; cancelling one does not cancel the stop."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("stubborn"))
    stops = [asyncio.create_task(worker.stop(job, grace=5.0)) for _ in range(5)]
    await machine.clock.advance(0)
    stops.pop(0).cancel()
    await machine.clock.advance(5.0)
    await asyncio.gather(*stops)
    assert JobState.EXITED is (await worker.query(job)).state


async def test_stop_ends_leftovers() -> None:
    """A job with leftovers has not finished and can be stopped; its exit code is unchanged."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("forker", leftovers=Leftovers.WAIT))
    await machine.clock.advance(1.0)
    status = await worker.query(job)
    assert (JobState.STOPPING, Exited(7)) == (status.state, status.ending)
    stop = asyncio.create_task(worker.stop(job, grace=1.0))
    await machine.clock.advance(0)
    await machine.clock.advance(1.0)
    await stop
    status = await worker.query(job)
    assert (JobState.EXITED, Exited(7), Cause.NONE) == (status.state, status.ending, status.cause)


async def test_stopping_a_finished_job_is_rejected() -> None:
    """Stop raises JobAlreadyFinished instead of reporting success."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("true"))
    await worker.wait(job)
    with pytest.raises(JobAlreadyFinished, match=r"^the process is already finished$"):
        await worker.stop(job)


async def test_a_stop_reports_unkillable_processes() -> None:
    """Stop raises StopIncomplete with the remaining processes and their states; SIGKILL is repeated."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("stuck"))
    pid = (await worker.query(job)).record.pid
    stop = asyncio.create_task(worker.stop(job, grace=1.0))
    await machine.clock.advance(0)
    await machine.clock.advance(1.0 + STOP_MARGIN)
    with pytest.raises(
        StopIncomplete, match=rf"^Job {job} has not finished yet: process {pid} in state D remains;"
    ):
        await stop
    await machine.clock.advance(0)
    assert "Event.wait" not in {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
    assert JobState.STOPPING is (await worker.query(job)).state
    machine.spawner.kill(job)  # as the kernel does once the disk responds
    status = await worker.wait(job)
    assert (Signaled(signal.SIGKILL), Cause.STOPPED) == (status.ending, status.cause)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"signal": 0}, "signal: 0 is not a signal number"),
        ({"signal": -15}, "signal: -15 is not"),
        ({"signal": 65}, "signal: 65 is not"),
        ({"grace": -0.1}, "grace: -0.1 s; must be 0 or more"),
        ({"grace": math.nan}, "grace: nan s; must be 0 or more"),
        ({"grace": math.inf}, "grace: inf s; must be 0 or more, at most 10 years"),
    ],
)
async def test_invalid_arguments_of_stop_are_rejected(arguments: dict[str, float], message: str) -> None:
    """The error names the argument, and the job keeps running."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(LONG)
    with pytest.raises(InvalidJobSpec, match=f"^{message}"):
        await worker.stop(job, **arguments)
    assert JobState.RUNNING is (await worker.query(job)).state


async def test_timeout_stops_a_job() -> None:
    """A job is stopped when its timeout expires."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["1000"], timeout=60.0))
    await machine.clock.advance(60.0)
    status = await worker.wait(job)
    assert (Signaled(signal.SIGTERM), Cause.TIMED_OUT) == (status.ending, status.cause)
    assert machine.clock.now() == status.record.end.ended_at


async def test_a_signal_from_elsewhere_has_no_cause() -> None:
    """The ending has the signal, and the cause is NONE."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(LONG)
    machine.spawner.kill(job, signal.SIGSEGV)
    status = await worker.wait(job)
    assert (Signaled(signal.SIGSEGV), Cause.NONE) == (status.ending, status.cause)


# --- which processes get the signal


FILTERED = FakeProgram(seconds=1000, child_seconds=50)
"""Its child ends by itself 50 s after it."""


async def test_stop_signals_the_main_process_first() -> None:
    """The other processes get the signal shortly after the main process has ended."""
    machine = FakeMachine({"filtered": lambda _: FILTERED})
    worker = machine.worker()
    job = await worker.start(JobSpec("filtered"))
    stop = asyncio.create_task(worker.stop(job, grace=10.0))
    await machine.clock.advance(0)
    status = await worker.query(job)
    assert (JobState.STOPPING, Signaled(signal.SIGTERM)) == (status.state, status.ending)
    await machine.clock.advance(AFTER_MAIN)
    await stop


@pytest.mark.parametrize("by", ["call", "job", "server"])
async def test_signal_all(by: str) -> None:
    """Every process gets the signal at once: by the call, the job spec, or the setting of the Worker."""
    machine = FakeMachine({"filtered": lambda _: FILTERED})
    worker = machine.worker(signal_all=by == "server")
    job = await worker.start(JobSpec("filtered", signal_all=by == "job"))
    assert (by != "call") == (await worker.query(job)).record.signal_all
    await worker.stop(job, signal_all=by == "call")
    assert JobState.EXITED is (await worker.query(job)).state


async def test_linger() -> None:
    """The child has this time to end by itself after the main process."""
    machine = FakeMachine({"short": lambda _: FakeProgram(seconds=1, child_seconds=3)})
    worker = machine.worker()
    ends = {}
    for linger in (5.0, 2.0, 0.0):
        job = await worker.start(JobSpec("short", linger=linger))
        start = machine.clock.now()
        for _ in range(10):
            await machine.clock.advance(1.0)
        ends[linger] = (await worker.query(job)).record.end.ended_at - start
    assert {5.0: 4.0, 2.0: 3.0, 0.0: 1.0} == ends


# --- signal, pause, resume


async def test_a_signal_is_not_a_stop() -> None:
    """It has no cause, and a signal without an effect changes nothing."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(LONG)
    await worker.signal(job, signal.SIGCONT)
    assert JobState.RUNNING is (await worker.query(job)).state
    await worker.signal(job, signal.SIGHUP)
    status = await worker.wait(job)
    assert (Signaled(signal.SIGHUP), Cause.NONE) == (status.ending, status.cause)


async def test_a_signal_to_leftovers() -> None:
    """A main process that has ended gets no signal; what is left of the job can get one."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("forker", leftovers=Leftovers.WAIT))
    await machine.clock.advance(1.0)
    with pytest.raises(JobAlreadyFinished):
        await worker.signal(job, signal.SIGHUP)
    await worker.signal(job, signal.SIGHUP, all_processes=True)
    assert Exited(7) == (await worker.wait(job)).ending


async def test_an_invalid_signal_is_rejected() -> None:
    """0 is for kill(2), to check for a process."""
    worker = FakeMachine(ALL_PROGRAMS).worker()
    job = await worker.start(LONG)
    for number in (0, -1, 65):
        with pytest.raises(InvalidJobSpec, match=f"^signal: {number} is not a signal number"):
            await worker.signal(job, number)


async def test_a_paused_job_does_not_run() -> None:
    """Its time stops, a query shows it, and its timeout counts."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("sleep", ["10"], timeout=100.0))
    await machine.clock.advance(4.0)
    await worker.pause(job)
    await machine.clock.advance(50.0)
    status = await worker.query(job)
    assert (JobState.RUNNING, True) == (status.state, status.paused)
    await worker.resume(job)
    await machine.clock.advance(5.9)
    assert JobState.RUNNING is (await worker.query(job)).state
    await machine.clock.advance(0.1)
    assert Exited(0) == (await worker.query(job)).ending
    paused = await worker.start(JobSpec("sleep", ["10"], timeout=100.0))
    await worker.pause(paused)
    await machine.clock.advance(100.0)
    assert Cause.TIMED_OUT is (await worker.wait(paused)).cause


async def test_stop_ends_a_paused_job() -> None:
    """It is thawed after the signal."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(LONG)
    await worker.pause(job)
    await worker.stop(job)
    status = await worker.query(job)
    assert (Signaled(signal.SIGTERM), False) == (status.ending, status.paused)


async def test_a_job_that_is_being_stopped_cannot_be_paused() -> None:
    """It would not end."""
    machine = FakeMachine(ALL_PROGRAMS)
    worker = machine.worker()
    job = await worker.start(JobSpec("stubborn"))
    stop = asyncio.create_task(worker.stop(job, grace=5.0))
    await machine.clock.advance(0)
    with pytest.raises(ActionRefused, match="the job is being stopped"):
        await worker.pause(job)
    await machine.clock.advance(5.0)
    await stop


async def test_a_finished_job_has_no_processes() -> None:
    """Signal, pause and resume raise JobAlreadyFinished."""
    worker = FakeMachine(ALL_PROGRAMS).worker()
    job = await worker.start(JobSpec("true"))
    await worker.wait(job)
    for call in (worker.signal(job, signal.SIGHUP), worker.pause(job), worker.resume(job)):
        with pytest.raises(JobAlreadyFinished):
            await call


class PlainProcess:
    """A process with the methods that every spawner has."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid, self.started_at, self.placement = process.pid, process.started_at, process.placement

    @property
    def progress(self) -> Progress:
        return self._process.progress

    async def stop(self, signal: int, grace: float) -> None:
        await self._process.stop(signal, grace)

    async def survivors(self) -> Sequence[Survivor]:
        return await self._process.survivors()

    async def wait(self) -> End:
        return await self._process.wait()


class PlainSpawner(FakeSpawner):
    """A spawner without optional capabilities."""

    async def spawn(
        self, job: JobId, spec: JobSpec, placement: Placement, sinks: Mapping[Channel, Sink]
    ) -> Process:
        return PlainProcess(await super().spawn(job, spec, placement, sinks))


async def test_a_spawner_without_optional_capabilities() -> None:
    """What it cannot do is refused with the reason; everything else works."""
    worker = Worker(spawner=PlainSpawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore())
    job = await worker.start(LONG)
    for call, what in (
        (worker.signal(job, signal.SIGHUP), "signal"),
        (worker.stop(job, signal_all=True), "signal"),
        (worker.pause(job), "pause"),
        (worker.resume(job), "pause"),
    ):
        with pytest.raises(ActionRefused, match=f"the spawner of this server cannot .*{what}"):
            await call
    await worker.stop(job)
    assert Signaled(signal.SIGTERM) == (await worker.query(job)).ending
    await worker.close()
