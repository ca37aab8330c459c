"""A kill at every step of a job: afterwards the job never ran, or its true state is known."""

import asyncio
import sys

import pytest

from worker import JobSpec
from worker.client.job import Job
from worker.core.model.ending import Exited
from worker.core.steps import Step

from ..support.persistent_client import CheckedJob, Ledger
from ..support.restarting_installation import RestartingInstallation

POINTS = {
    "server": [
        Step.INTENT_JOURNALED,
        Step.CGROUP_MADE,
        Step.FIFO_MADE,
        Step.STARTED,
        Step.ANSWERED,
        Step.END_RECEIVED,
        Step.JOURNALED,
        Step.CGROUP_REMOVED,
        Step.FORGOTTEN,
        Step.UNJOURNALED,
        Step.OUTPUT_REMOVED,
        Step.RECOVERED,
    ],
    "supervisor": [
        Step.HISTORY_MADE,
        Step.CLONED,
        Step.EXECUTED,
        Step.REPORTED,
        Step.TERMINATION_RECORDED,
        Step.SIGNALED,
        Step.MAIN_EXIT_SEEN,
        Step.MAIN_EXIT_RECORDED,
        Step.REAPED,
        Step.ALL_ENDED,
        Step.DRAINED,
        Step.EXIT_RECORDED,
        Step.ANNOUNCED,
        Step.FORGOTTEN,
        Step.ADOPTED,
        Step.RETIRED,
    ],
    "zygote": [Step.CLONED],
    "child": [Step.JOINED, Step.WRITTEN, Step.RECORDED, Step.PREPARED],
    "recorder": [Step.SEGMENT_MADE, Step.TIME_NOTED, Step.SPLICED, Step.DRAIN_REPORTED],
}
BOUNDED = {"recorder": [Step.SEGMENT_DROPPED]}
"""Steps that only a job with bounded output takes."""

WITH_INPUT = {"recorder": [Step.INPUT_SPLICED, Step.TYPING, Step.RELAYED]}
"""Steps that only a job with input or a terminal takes; the tests of tests/integration/ kill at them."""

JOBS = [
    CheckedJob("short", 3, lines=20),
    CheckedJob("chatty", 4, lines=5000),
    CheckedJob("slow", 5, pause="sleep 0.7"),
    CheckedJob("leaves-others", 6, before="sleep 1000 & sh -c 'trap \"\" TERM; sleep 0.5' &"),
]


def test_every_step_is_a_crash_point():
    """Every step has a test that kills a process at it."""
    assert set(Step) == {
        step for points in (POINTS, BOUNDED, WITH_INPUT) for steps in points.values() for step in steps
    }


@pytest.mark.parametrize(
    ("role", "step"), [(role, step) for role, steps in POINTS.items() for step in steps], ids=str
)
def test_killed_at_a_step(restarting: RestartingInstallation, until, role, step):
    """The process that takes the step dies; every job ran once, with all of its output and its true end."""
    ledger = Ledger(restarting)
    crash_point = restarting.set_crash_point(role, step)
    if step is Step.RECOVERED:  # only a server that succeeds another one takes this step
        restarting.kill("server")
    asyncio.run(
        ledger.do_all(JOBS, meanwhile=lambda: step is Step.ADOPTED and restarting.kill("supervisor"))
    )
    if step is Step.RETIRED:  # a supervisor without a server takes this step
        restarting.down()
        until(lambda: not crash_point.exists())
        restarting.up()
        asyncio.run(ledger.do_all([CheckedJob("afterwards", 7)]))
    until(lambda: not crash_point.exists())
    ledger.check()


@pytest.mark.parametrize(
    ("role", "step"), [(role, step) for role, steps in BOUNDED.items() for step in steps], ids=str
)
async def test_killed_while_the_oldest_output_is_dropped(
    restarting: RestartingInstallation, until, role, step
):
    """After the kill the end of the output is kept, at its true offset."""
    crash_point = restarting.set_crash_point(role, step)
    command = ["-c", "import os\nfor n in range(100000): os.write(1, b'%d\\n' % n)"]
    written = b"".join(b"%d\n" % number for number in range(100000))

    async with restarting.installation.client() as client:
        job = str(await client.start(JobSpec(sys.executable, command, output_max=256 << 10)))
        assert Exited(0) == (await Job(client, job).wait()).ending
        chunks = [chunk async for chunk in Job(client, job).stream()]
        await Job(client, job).remove()
    offset, kept = chunks[0].offset, b"".join(chunk.data for chunk in chunks)
    assert written[offset:] == kept
    assert 128 << 10 <= len(kept) <= 256 << 10
    until(lambda: not crash_point.exists())
