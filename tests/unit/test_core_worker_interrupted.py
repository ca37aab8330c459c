"""A Worker whose server dies, or whose callers go away, at any point: nothing is half done."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress

import pytest

from worker.core.errors import JobAlreadyFinished, JobNotFound, WorkerError
from worker.core.model.ending import (
    Cause,
    Channel,
    Exited,
    Signaled,
)
from worker.core.model.job import JobId, JobSpec, JobState
from worker.core.testing import FakeMachine, SuddenServer
from worker.core.worker import Worker

ECHO = JobSpec("echo", ["hello"])
SLEEP = JobSpec("sleep", ["5"])


async def turns(number: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(number):
        await asyncio.sleep(0)


def at_every_turn(scenario: Callable[[int], Coroutine[None, None, bool]]) -> None:
    """Run a scenario with an interruption after 0, 1, 2... turns, until it comes too late to interrupt."""
    for number in range(100):
        if asyncio.run(scenario(number)):
            assert number > 1, "there was nothing to interrupt"
            return
    pytest.fail("it never came to its end")


async def check_whole(machine: FakeMachine, worker: Worker) -> list[JobId]:
    """See that all ports and the Worker know the same jobs, scopes only of those that run; return them."""
    statuses = await worker.list()
    jobs = [status.record.id for status in statuses]
    assert jobs == [record.id for record in await machine.journal.load()]
    assert set(jobs) == machine.outputs._sinks.keys()
    running = {status.record.id for status in statuses if not status.state.over}
    assert running == machine.limiter.scopes.keys()
    assert running == (await machine.spawner.recover()).keys()
    return jobs


# --- kill -9


def test_a_server_that_dies_while_starting_a_job() -> None:
    """The next one has the job or nothing of it; the repeated request leads to one job in any case."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        server = SuddenServer(machine)
        start = asyncio.create_task(server.worker.start(SLEEP, owner="alice", request_id="r1"))
        await turns(number)
        complete = start.done()
        await server.kill()
        start.cancel()
        successor = SuddenServer(machine).worker
        found = await check_whole(machine, successor)
        job = await successor.start(SLEEP, owner="alice", request_id="r1")
        assert found in ([], [job])
        assert [job] == await check_whole(machine, successor)
        if complete:
            assert start.result() == job
        await machine.clock.advance(5.0)
        assert Exited(0) == (await successor.wait(job)).ending
        assert [job] == await check_whole(machine, successor)
        return complete

    at_every_turn(scenario)


def test_a_server_that_dies_while_a_job_ends() -> None:
    """The next one knows the end and the exact output, and nothing of the job is left running."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        server = SuddenServer(machine)
        job = await server.worker.start(ECHO)
        wait = asyncio.create_task(server.worker.wait(job))
        await turns(number)
        complete = wait.done()
        await server.kill()
        wait.cancel()
        successor = SuddenServer(machine).worker
        status = await successor.wait(job)
        assert (JobState.EXITED, Exited(0), Cause.NONE) == (status.state, status.ending, status.cause)
        assert {Channel.OUTPUT: 6} == status.record.end.output
        assert b"hello\n" == b"".join([chunk.data async for chunk in successor.stream(job)])
        assert [job] == await check_whole(machine, successor)
        return complete

    at_every_turn(scenario)


def test_a_server_that_dies_while_stopping_a_job() -> None:
    """Once the stop was asked for it goes on; else the job runs on, and can be stopped."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        server = SuddenServer(machine)
        job = await server.worker.start(SLEEP)
        stop = asyncio.create_task(server.worker.stop(job))
        await turns(number)
        complete = stop.done()
        stop.cancel()
        await server.kill()
        successor = SuddenServer(machine).worker
        with suppress(JobAlreadyFinished):
            await successor.stop(job)
        status = await successor.query(job)
        assert (JobState.EXITED, Cause.STOPPED) == (status.state, status.cause)
        assert [job] == await check_whole(machine, successor)
        return complete

    at_every_turn(scenario)


def test_a_server_that_dies_while_removing_a_job() -> None:
    """The next one has all of the job or nothing."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        server = SuddenServer(machine)
        job = await server.worker.start(ECHO)
        await server.worker.wait(job)
        remove = asyncio.create_task(server.worker.remove(job))
        await turns(number)
        complete = remove.done()
        await server.kill()
        remove.cancel()
        successor = SuddenServer(machine).worker
        assert await check_whole(machine, successor) in ([], [job])
        return complete

    at_every_turn(scenario)


def test_a_server_that_dies_while_it_recovers() -> None:
    """Taking up jobs can be begun anew by the next one, as often as it takes."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        first = SuddenServer(machine)
        ended, runs = await first.worker.start(ECHO), await first.worker.start(SLEEP)
        await first.kill()
        second = SuddenServer(machine)
        recover = asyncio.create_task(second.worker.recover())
        await turns(number)
        complete = recover.done()
        await second.kill()
        recover.cancel()
        third = SuddenServer(machine).worker
        assert Exited(0) == (await third.wait(ended)).ending
        assert JobState.RUNNING is (await third.query(runs)).state
        assert [ended, runs] == await check_whole(machine, third)
        return complete

    at_every_turn(scenario)


# --- callers that go away


def test_a_start_that_is_cancelled_is_whole_or_not_at_all() -> None:
    """What was begun is finished without its caller; the repeated request finds it."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = SuddenServer(machine).worker
        start = asyncio.create_task(worker.start(SLEEP, request_id="r1"))
        await turns(number)
        complete = start.done()
        start.cancel()
        await machine.clock.advance(0)
        found = await check_whole(machine, worker)
        job = await worker.start(SLEEP, request_id="r1")
        assert found in ([], [job])
        assert JobState.RUNNING is (await worker.query(job)).state
        return complete

    at_every_turn(scenario)


def test_a_failing_start_that_is_cancelled_leaves_nothing() -> None:
    """Undoing needs no caller either, and nobody complains of an error that was never fetched."""

    async def scenario(number: int) -> bool:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        machine = FakeMachine()
        worker = SuddenServer(machine).worker
        start = asyncio.create_task(worker.start(JobSpec("no-such-command")))
        await turns(number)
        complete = start.done()
        start.cancel()
        outcome = await asyncio.gather(start, return_exceptions=True)
        assert isinstance(outcome[0], asyncio.CancelledError | WorkerError)
        await machine.clock.advance(0)
        assert [] == await check_whole(machine, worker)
        gc.collect()  # asyncio complains when a task is collected
        assert [] == complaints
        return complete

    at_every_turn(scenario)


def test_a_stop_that_is_cancelled_takes_nothing_back() -> None:
    """Once it was asked for, the job ends; the client's deadline does not abort it."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = SuddenServer(machine).worker
        job = await worker.start(SLEEP)
        stop = asyncio.create_task(worker.stop(job))
        await turns(number)
        complete = stop.done()
        stop.cancel()
        await machine.clock.advance(0)
        status = await worker.query(job)
        expected = (JobState.EXITED, Signaled(15)) if number > 0 else (JobState.RUNNING, None)
        assert expected == (status.state, status.ending)
        assert [job] == await check_whole(machine, worker)
        return complete

    at_every_turn(scenario)


def test_a_remove_that_is_cancelled_is_whole_or_not_at_all() -> None:
    """A job is there with its output, or gone with it."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = SuddenServer(machine).worker
        job = await worker.start(ECHO)
        await worker.wait(job)
        remove = asyncio.create_task(worker.remove(job))
        await turns(number)
        complete = remove.done()
        remove.cancel()
        await machine.clock.advance(0)
        assert await check_whole(machine, worker) in ([], [job])
        return complete

    at_every_turn(scenario)


def test_a_wait_that_is_cancelled_disturbs_nobody() -> None:
    """The job and other waiters go on."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = SuddenServer(machine).worker
        job = await worker.start(ECHO)
        wait, other = (asyncio.create_task(worker.wait(job)) for _ in range(2))
        await turns(number)
        complete = wait.done()
        wait.cancel()
        assert Exited(0) == (await other).ending
        return complete

    at_every_turn(scenario)


def test_a_stream_that_is_cancelled_leaves_no_watch() -> None:
    """Wherever it was, nothing of it stays."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = SuddenServer(machine).worker
        job = await worker.start(ECHO)
        await worker.wait(job)
        idle = asyncio.all_tasks()
        sink = machine.outputs._sinks[job][Channel.OUTPUT]

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


def test_removals_and_a_repeated_start_may_meet() -> None:
    """The job is removed once, and its request starts no other, whenever it is repeated."""

    async def scenario(number: int) -> bool:
        machine = FakeMachine()
        worker = SuddenServer(machine).worker
        job = await worker.start(ECHO, request_id="r1")
        await worker.wait(job)
        first = asyncio.create_task(worker.remove(job))
        await turns(number)
        second = asyncio.create_task(worker.remove(job))
        complete = first.done()
        assert job == await worker.start(ECHO, request_id="r1")
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, JobNotFound) for outcome in outcomes)
        assert [] == await check_whole(machine, worker)
        return complete

    at_every_turn(scenario)
