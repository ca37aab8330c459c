"""The end of a job by stop, by timeout, and by a signal from elsewhere."""

import asyncio
import math
import signal

import pytest

from worker.core import (
    Cause,
    Exited,
    InvalidJobSpec,
    JobAlreadyFinished,
    JobSpec,
    JobState,
    Leftovers,
    Signaled,
    StopIncomplete,
)
from worker.core.testing import PROGRAMS, FakeMachine, FakeProgram
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
