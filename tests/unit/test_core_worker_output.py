"""Bounds on output, and what a status tells of output that is in trouble or gone."""

import asyncio

import pytest

from worker.core.errors import InvalidJobSpec, StopIncomplete
from worker.core.model.ending import Channel
from worker.core.model.job import (
    LARGEST_OUTPUT,
    SMALLEST_OUTPUT,
    Extent,
    JobSpec,
    JobState,
)
from worker.core.testing import FakeMachine, FakeProgram
from worker.core.worker import Worker

NO_SPACE = "No space left on device"


def bounded(machine: FakeMachine, output_max: int) -> Worker:
    """Return a Worker with a bound for jobs that do not say."""
    return Worker(
        spawner=machine.spawner,
        limiter=machine.limiter,
        outputs=machine.outputs,
        clock=machine.clock,
        output_max=output_max,
    )


@pytest.mark.parametrize(
    ("asked", "held"), [(None, SMALLEST_OUTPUT), (0, 0), (2 * SMALLEST_OUTPUT, 2 * SMALLEST_OUTPUT)]
)
async def test_a_job_has_its_own_bound_or_that_of_the_worker(asked: int | None, held: int) -> None:
    """The status tells the one that holds, and the output ends up within it; 0 keeps all."""
    written = 3 * SMALLEST_OUTPUT
    machine = FakeMachine({"print": lambda _: FakeProgram(bytes(written))})
    worker = bounded(machine, SMALLEST_OUTPUT)
    job = await worker.start(JobSpec("print", output_max=asked))
    status = await worker.wait(job)
    assert held == status.record.output_max
    first = written - held if held else 0
    assert Extent(first, written) == status.output[Channel.OUTPUT]


@pytest.mark.parametrize("size", [-1, 1, SMALLEST_OUTPUT - 1, LARGEST_OUTPUT + 1])
def test_a_bound_that_none_can_be(size: int) -> None:
    """It is refused by name, for a job as for a Worker."""
    with pytest.raises(InvalidJobSpec, match=f"^output max: {size} bytes; must be 256K or more, or 0"):
        JobSpec("ls", output_max=size)
    with pytest.raises(InvalidJobSpec):
        bounded(FakeMachine(), size)


async def test_trouble_with_the_output_shows_until_it_is_over() -> None:
    """The status has the reason, and a stop that waits for the output names it."""
    machine = FakeMachine({"print": lambda _: FakeProgram(b"x", seconds=100)})
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    assert "" == (await worker.query(job)).output_trouble
    machine.spawner.trouble(job, NO_SPACE)
    assert NO_SPACE == (await worker.query(job)).output_trouble
    assert [NO_SPACE] == [status.output_trouble for status in await worker.list()]
    machine.spawner.trouble(job, "")
    assert "" == (await worker.query(job)).output_trouble
    await worker.close()


async def test_a_stop_names_what_keeps_the_output_from_being_complete() -> None:
    """No process is left, but the last bytes have no place to go to."""
    machine = FakeMachine({"print": lambda _: FakeProgram(b"x", seconds=1000)})
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await machine.clock.advance(0)
    machine.spawner.trouble(job, NO_SPACE)
    stop = asyncio.create_task(worker.stop(job, grace=1.0))
    await machine.clock.advance(0)
    await machine.clock.advance(10.0)
    with pytest.raises(StopIncomplete, match=f"the last of its output cannot be recorded: {NO_SPACE}"):
        await stop
    machine.spawner.trouble(job, "")
    assert (JobState.EXITED, "") == (
        (status := await worker.wait(job)).state,
        status.output_trouble,
    )


async def test_output_that_is_gone_keeps_its_size() -> None:
    """Of a job whose output somebody has deleted it is still known how much there was."""
    machine = FakeMachine({"print": lambda _: FakeProgram(b"0123456789")})
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    await machine.outputs.remove(job)
    assert Extent(10, 10) == (await worker.query(job)).output[Channel.OUTPUT]
