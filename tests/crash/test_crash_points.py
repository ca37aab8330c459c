"""A kill at every step of a job's life: the job never ran, or it is known with its true state."""

import asyncio
import sys

import pytest

from worker import JobSpec
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
        Step.CLONED,
        Step.RECORDED,
        Step.RELEASED,
        Step.EXECUTED,
        Step.REPORTED,
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
    "recorder": [Step.SEGMENT_MADE, Step.SPLICED, Step.DRAIN_REPORTED],
}
BOUNDED = {"recorder": [Step.SEGMENT_DROPPED]}
"""Steps that only a job with bounded output takes."""

JOBS = [
    CheckedJob("short", 3, lines=20),
    CheckedJob("chatty", 4, lines=5000),
    CheckedJob("slow", 5, pause="sleep 0.7"),
    CheckedJob("leaves-others", 6, before="sleep 1000 & sh -c 'trap \"\" TERM; sleep 0.5' &"),
]


def test_every_step_is_a_crash_point():
    """No step was given a name without a kill at it."""
    assert set(Step) == {
        step for points in (POINTS, BOUNDED) for steps in points.values() for step in steps
    }


@pytest.mark.parametrize(
    ("role", "step"), [(role, step) for role, steps in POINTS.items() for step in steps], ids=str
)
def test_killed_at_a_step(operated: RestartingInstallation, until, role, step):
    """Whoever takes the step dies there; every job ran once, with all of its output and its true end."""
    ledger = Ledger(operated)
    crash_point = operated.set_crash_point(role, step)
    if step is Step.RECOVERED:  # a step that only the successor of another takes
        operated.kill("server")
    asyncio.run(ledger.do_all(JOBS, meanwhile=lambda: step is Step.ADOPTED and operated.kill("supervisor")))
    if step is Step.RETIRED:  # nobody to be served
        operated.down()
        until(lambda: not crash_point.exists())
        operated.up()
        asyncio.run(ledger.do_all([CheckedJob("afterwards", 7)]))
    until(lambda: not crash_point.exists())
    ledger.check()


@pytest.mark.parametrize(
    ("role", "step"), [(role, step) for role, steps in BOUNDED.items() for step in steps], ids=str
)
def test_killed_while_the_oldest_output_is_dropped(operated: RestartingInstallation, until, role, step):
    """What is kept after the kill is the end of the output, at its true offset."""
    crash_point = operated.set_crash_point(role, step)
    command = ["-c", "import os\nfor n in range(100000): os.write(1, b'%d\\n' % n)"]
    written = b"".join(b"%d\n" % number for number in range(100000))

    async def scenario():
        async with operated.installation.client() as client:
            job = str(await client.start(JobSpec(sys.executable, command, output_max=256 << 10)))
            assert Exited(0) == (await client.wait(job)).ending
            chunks = [chunk async for chunk in client.stream(job)]
            await client.remove(job)
            return chunks[0].offset, b"".join(chunk.data for chunk in chunks)

    offset, kept = asyncio.run(scenario())
    assert written[offset:] == kept
    assert 128 << 10 <= len(kept) <= 256 << 10
    until(lambda: not crash_point.exists())
