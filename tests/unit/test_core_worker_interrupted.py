"""A Worker that is killed, or whose callers are cancelled, at any point: every operation is atomic."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress

import pytest

from worker.core import (
    Cause,
    Channel,
    Exited,
    JobAlreadyFinished,
    JobId,
    JobNotFound,
    JobSpec,
    JobState,
    Signaled,
    Worker,
    WorkerError,
)
from worker.core.testing import FakeMachine, KillableWorker

ECHO = JobSpec("echo", ["hello"])
SLEEP = JobSpec("sleep", ["5"])


async def turns(number: int) -> None:
    """Yield to the event loop this many times."""
    for _ in range(number):
        await asyncio.sleep(0)


def at_every_turn(scenario: Callable[[int], Coroutine[None, None, bool]]) -> None:
    """Run a scenario with an interruption after 0, 1, 2... turns, until it completes before that.

    Each run has an event loop of its own, so that its pending tasks end with it.
    """
    for number in range(100):
        if asyncio.run(scenario(number)):
            assert number > 1, "the scenario was never interrupted"
            return
    pytest.fail("the scenario did not complete")


async def check_consistent(machine: FakeMachine, worker: Worker) -> list[JobId]:
    """Check that ports and Worker have the same jobs, and scopes only of running ones; return the jobs."""
    statuses = await worker.list()
    jobs = [status.record.id for status in statuses]
    assert jobs == [record.id for record in await machine.journal.load()]
    assert set(jobs) == machine.outputs.jobs
    running = {status.record.id for status in statuses if not status.state.over}
    assert running == machine.limiter.scopes.keys()
    assert running == (await machine.spawner.recover()).keys()
    return jobs


# --- kill -9


def test_killed_while_it_starts_a_job() -> None:
    """The next Worker has the whole job or nothing; a repeated request results in exactly one job."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        start = asyncio.create_task(worker.start(SLEEP, owner="alice", request_id="r1"))
        await turns(number)
        complete = start.done()
        await worker.kill()
        start.cancel()
        successor = KillableWorker(machine)
        found = await check_consistent(machine, successor)
        job = await successor.start(SLEEP, owner="alice", request_id="r1")
        assert found in ([], [job])
        assert [job] == await check_consistent(machine, successor)
        if complete:
            assert start.result() == job
        await machine.clock.advance(5.0)
        assert Exited(0) == (await successor.wait(job)).ending
        assert [job] == await check_consistent(machine, successor)
        return complete

    at_every_turn(scenario)


def test_killed_while_a_job_ends() -> None:
    """The next Worker has the end and the exact output, and nothing of the job still runs."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        job = await worker.start(ECHO)
        wait = asyncio.create_task(worker.wait(job))
        await turns(number)
        complete = wait.done()
        await worker.kill()
        wait.cancel()
        successor = KillableWorker(machine)
        status = await successor.wait(job)
        assert (JobState.EXITED, Exited(0), Cause.NONE) == (status.state, status.ending, status.cause)
        assert {Channel.OUTPUT: 6} == status.record.end.output
        assert b"hello\n" == b"".join([chunk.data async for chunk in successor.stream(job)])
        assert [job] == await check_consistent(machine, successor)
        return complete

    at_every_turn(scenario)


def test_killed_while_it_stops_a_job() -> None:
    """A stop that has begun continues; otherwise the job keeps running and can be stopped."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        job = await worker.start(SLEEP)
        stop = asyncio.create_task(worker.stop(job))
        await turns(number)
        complete = stop.done()
        stop.cancel()
        await worker.kill()
        successor = KillableWorker(machine)
        with suppress(JobAlreadyFinished):
            await successor.stop(job)
        status = await successor.query(job)
        assert (JobState.EXITED, Cause.STOPPED) == (status.state, status.cause)
        assert [job] == await check_consistent(machine, successor)
        return complete

    at_every_turn(scenario)


def test_killed_while_it_removes_a_job() -> None:
    """The next Worker has the whole job or nothing."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        job = await worker.start(ECHO)
        await worker.wait(job)
        remove = asyncio.create_task(worker.remove(job))
        await turns(number)
        complete = remove.done()
        await worker.kill()
        remove.cancel()
        successor = KillableWorker(machine)
        assert await check_consistent(machine, successor) in ([], [job])
        return complete

    at_every_turn(scenario)


def test_killed_while_it_recovers() -> None:
    """The next Worker repeats the recovery from the beginning."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        first = KillableWorker(machine)
        ended, runs = await first.start(ECHO), await first.start(SLEEP)
        await first.kill()
        second = KillableWorker(machine)
        recover = asyncio.create_task(second.recover())
        await turns(number)
        complete = recover.done()
        await second.kill()
        recover.cancel()
        third = KillableWorker(machine)
        assert Exited(0) == (await third.wait(ended)).ending
        assert JobState.RUNNING is (await third.query(runs)).state
        assert [ended, runs] == await check_consistent(machine, third)
        return complete

    at_every_turn(scenario)


# --- cancelled callers


def test_a_cancelled_start_is_atomic() -> None:
    """A start that has begun completes without its caller; a repeated request returns its job."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        start = asyncio.create_task(worker.start(SLEEP, request_id="r1"))
        await turns(number)
        complete = start.done()
        start.cancel()
        await machine.clock.advance(0)
        found = await check_consistent(machine, worker)
        job = await worker.start(SLEEP, request_id="r1")
        assert found in ([], [job])
        assert JobState.RUNNING is (await worker.query(job)).state
        return complete

    at_every_turn(scenario)


def test_a_cancelled_start_that_fails_leaves_nothing() -> None:
    """The clean-up needs no caller, and asyncio reports no exception that was never retrieved."""

    async def scenario(number: int) -> bool:
        reports: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        machine = FakeMachine()
        worker = KillableWorker(machine)
        start = asyncio.create_task(worker.start(JobSpec("no-such-command")))
        await turns(number)
        complete = start.done()
        start.cancel()
        outcome = await asyncio.gather(start, return_exceptions=True)
        assert isinstance(outcome[0], asyncio.CancelledError | WorkerError)
        await machine.clock.advance(0)
        assert [] == await check_consistent(machine, worker)
        gc.collect()  # asyncio reports the exception when the task is collected
        assert [] == reports
        return complete

    at_every_turn(scenario)


def test_a_cancelled_stop_still_stops_the_job() -> None:
    """A stop that has begun is completed, for instance after the deadline of the client."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        job = await worker.start(SLEEP)
        stop = asyncio.create_task(worker.stop(job))
        await turns(number)
        complete = stop.done()
        stop.cancel()
        await machine.clock.advance(0)
        status = await worker.query(job)
        expected = (JobState.EXITED, Signaled(15)) if number > 0 else (JobState.RUNNING, None)
        assert expected == (status.state, status.ending)
        assert [job] == await check_consistent(machine, worker)
        return complete

    at_every_turn(scenario)


def test_a_cancelled_remove_is_atomic() -> None:
    """Either the job and its output exist, or neither does."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        job = await worker.start(ECHO)
        await worker.wait(job)
        remove = asyncio.create_task(worker.remove(job))
        await turns(number)
        complete = remove.done()
        remove.cancel()
        await machine.clock.advance(0)
        assert await check_consistent(machine, worker) in ([], [job])
        return complete

    at_every_turn(scenario)


def test_a_cancelled_wait_affects_no_other_wait() -> None:
    """The job and other waiters continue."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        job = await worker.start(ECHO)
        wait, other = (asyncio.create_task(worker.wait(job)) for _ in range(2))
        await turns(number)
        complete = wait.done()
        wait.cancel()
        assert Exited(0) == (await other).ending
        return complete

    at_every_turn(scenario)


def test_a_cancelled_stream_leaves_no_watch() -> None:
    """No watch or task remains, at whichever point the stream is cancelled."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        job = await worker.start(ECHO)
        await worker.wait(job)
        idle = asyncio.all_tasks()
        sink = machine.outputs.sink(job)

        async def read() -> bytes:
            return b"".join([chunk.data async for chunk in worker.stream(job)])

        stream = asyncio.create_task(read())
        await turns(number)
        complete = stream.done()
        stream.cancel()
        await machine.clock.advance(0)
        assert set() == sink.watches
        assert idle == asyncio.all_tasks()
        assert b"hello\n" == await read()
        return complete

    at_every_turn(scenario)


def test_concurrent_removals_and_a_repeated_start() -> None:
    """The job is removed once, and its repeated request starts no job at any moment."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = KillableWorker(machine)
        job = await worker.start(ECHO, request_id="r1")
        await worker.wait(job)
        first = asyncio.create_task(worker.remove(job))
        await turns(number)
        second = asyncio.create_task(worker.remove(job))
        complete = first.done()
        assert job == await worker.start(ECHO, request_id="r1")
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, JobNotFound) for outcome in outcomes)
        assert [] == await check_consistent(machine, worker)
        return complete

    at_every_turn(scenario)
