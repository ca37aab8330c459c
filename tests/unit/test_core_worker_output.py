"""Bounds on output, and the status of output that cannot be recorded or was deleted."""

import asyncio

import pytest

from worker.core import Channel, Extent, InvalidJobSpec, JobSpec, JobState, StopIncomplete
from worker.core.model.job import LARGEST_OUTPUT, SMALLEST_OUTPUT
from worker.core.testing import FakeMachine, FakeProgram

NO_SPACE = "No space left on device"


@pytest.mark.parametrize(
    ("requested", "effective"),
    [(None, SMALLEST_OUTPUT), (0, 0), (2 * SMALLEST_OUTPUT, 2 * SMALLEST_OUTPUT)],
)
async def test_a_job_has_its_own_bound_or_that_of_the_worker(requested: int | None, effective: int) -> None:
    """The record has the bound in effect, and the store applies it; 0 keeps all output."""
    written = 3 * SMALLEST_OUTPUT
    machine = FakeMachine({"print": lambda _: FakeProgram(bytes(written))})
    worker = machine.worker(output_max=SMALLEST_OUTPUT)
    job = await worker.start(JobSpec("print", output_max=requested))
    status = await worker.wait(job)
    assert effective == status.record.output_max
    first = written - effective if effective else 0
    assert Extent(first, written) == status.output[Channel.OUTPUT]


@pytest.mark.parametrize("size", [-1, 1, SMALLEST_OUTPUT - 1, LARGEST_OUTPUT + 1])
def test_an_invalid_bound_is_rejected(size: int) -> None:
    """The error names the field, for a job spec and for a Worker."""
    with pytest.raises(InvalidJobSpec, match=f"^output max: {size} bytes; must be 256K or more, or 0"):
        JobSpec("ls", output_max=size)
    with pytest.raises(InvalidJobSpec):
        FakeMachine().worker(output_max=size)


async def test_output_trouble_in_the_status() -> None:
    """The status has the reason for as long as output cannot be recorded."""
    machine = FakeMachine({"print": lambda _: FakeProgram(b"x", seconds=100)})
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    assert "" == (await worker.query(job)).output_trouble
    machine.spawner.set_output_trouble(job, NO_SPACE)
    assert NO_SPACE == (await worker.query(job)).output_trouble
    assert [NO_SPACE] == [status.output_trouble for status in await worker.list()]
    machine.spawner.set_output_trouble(job, "")
    assert "" == (await worker.query(job)).output_trouble
    await worker.close()


async def test_output_trouble_in_the_error_of_a_stop() -> None:
    """A stop fails with the reason if all processes have ended but output cannot be recorded."""
    machine = FakeMachine({"print": lambda _: FakeProgram(b"x", seconds=1000)})
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await machine.clock.advance(0)
    machine.spawner.set_output_trouble(job, NO_SPACE)
    stop = asyncio.create_task(worker.stop(job, grace=1.0))
    await machine.clock.advance(0)
    await machine.clock.advance(10.0)
    with pytest.raises(StopIncomplete, match=f"the rest of its output cannot be recorded: {NO_SPACE}"):
        await stop
    machine.spawner.set_output_trouble(job, "")
    status = await worker.wait(job)
    assert (JobState.EXITED, "") == (status.state, status.output_trouble)


async def test_deleted_output_keeps_its_size() -> None:
    """The status shows the size of output that was deleted, as an empty range at its end."""
    machine = FakeMachine({"print": lambda _: FakeProgram(b"0123456789")})
    worker = machine.worker()
    job = await worker.start(JobSpec("print"))
    await worker.wait(job)
    await machine.outputs.remove(job)
    assert Extent(10, 10) == (await worker.query(job)).output[Channel.OUTPUT]
