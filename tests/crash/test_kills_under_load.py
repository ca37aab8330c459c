"""Kills while 200 jobs run and 50 clients follow them: the next process serves them all."""

import asyncio
import os
import signal
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from worker import JobSpec
from worker.core.model.ending import Cause, Exited, Signaled
from worker.core.model.limits import ResourceLimits

from ..support.persistent_client import FORGETFUL_KERNEL, persistent
from ..support.restarting_installation import MARK, RestartingInstallation

pytestmark = pytest.mark.skipif(
    FORGETFUL_KERNEL, reason="before Linux 6.15 jobs are lost with their supervisor"
)

JOBS, STREAMS = 200, 50
LINES = 100
"""Lines that each job writes after each kill."""

KILLS = ["server", "supervisor", "recorder", "server supervisor recorder"]

# Opening a FIFO for reading waits until a process has it open for writing.
WRITER = """
n=0
for gate in {gates}; do
  : < $gate
  end=$((n+{lines}))
  while [ $n -lt $end ]; do echo $n; n=$((n+1)); done
done
: < {last}
exit {code}
"""

FORKER = ": < {gate}; for n in 1 2 3 4 5 6; do sleep 0.1 & done; wait; exit 0"
CANNOT_FORK = 2  # the exit code of dash if fork fails


@contextmanager
def opened(gate: Path):
    """Open the gate: jobs that wait at it continue, now and later."""
    fd = os.open(gate, os.O_RDWR)
    try:
        yield
    finally:
        os.close(fd)


def make_gates(directory: Path, count: int) -> list[Path]:
    """Make FIFOs that jobs wait at."""
    gates = [directory / f"gate-{number}" for number in range(count)]
    for gate in gates:
        os.mkfifo(gate)
    return gates


def kill(restarting: RestartingInstallation, roles: str, until) -> None:
    """Kill the process of each role, as soon as there is one."""
    for role in roles.split():
        until(partial(restarting.kill, role))


def test_200_jobs_and_50_streams(restarting: RestartingInstallation, tmp_path, until):
    """Streams resumed by offset are exact, every code is right, and a stop works after each kill."""
    *gates, last = make_gates(tmp_path, len(KILLS) + 1)
    written = "".join(f"{number}\n" for number in range(LINES * len(gates))).encode()
    env = {MARK: str(restarting.home)}

    def writer(number):
        names = " ".join(map(str, gates))
        script = WRITER.format(gates=names, last=last, lines=LINES, code=number % 256)
        return JobSpec("sh", ["-c", script], env=env)

    async def scenario(passed):
        async with persistent(restarting) as client:
            starts = (client.start(writer(number), f"{tmp_path} {number}") for number in range(JOBS))
            jobs = await asyncio.gather(*starts)
            streams = [asyncio.create_task(client.stream(job)) for job in jobs[:STREAMS]]
            for gate, roles in zip(gates, KILLS, strict=True):
                sleeper = await client.start(JobSpec("sleep", ["1000"], env=env), f"{gate}")
                passed.enter_context(opened(gate))
                kill(restarting, roles, until)
                await client.stop(sleeper)
                status = await client.wait(sleeper)
                assert (Signaled(signal.SIGTERM), Cause.STOPPED) == (status.ending, status.cause), roles
                await client.remove(sleeper)
                assert set(jobs) == {str(each.record.id) for each in await client.list()}
            passed.enter_context(opened(last))
            outputs = await asyncio.gather(*streams, *map(client.stream, jobs[STREAMS:]))
            assert [written] * JOBS == outputs
            endings = [(await client.wait(job)).ending for job in jobs]
            assert [Exited(number % 256) for number in range(JOBS)] == endings
            await asyncio.gather(*map(client.remove, jobs))

    with ExitStack() as passed:
        asyncio.run(scenario(passed))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make control groups everywhere")
@pytest.mark.parametrize("roles", KILLS)
def test_limits_hold(restarting: RestartingInstallation, tmp_path, until, roles):
    """A limit is enforced after the kill, and can be changed."""
    (gate,) = make_gates(tmp_path, 1)
    command = ["-c", FORKER.format(gate=gate)]
    env = {MARK: str(restarting.home)}

    async def scenario(passed):
        async with persistent(restarting) as client:
            spec = JobSpec("sh", command, env=env, limits=ResourceLimits(pids=3))
            jobs = [await client.start(spec, f"{tmp_path} {number}") for number in range(2)]
            kill(restarting, roles, until)
            await client.list()  # wait until there is a server
            await client.update(jobs[1], ResourceLimits(pids=20))
            passed.enter_context(opened(gate))
            endings = [(await client.wait(job)).ending for job in jobs]
            assert [Exited(CANNOT_FORK), Exited(0)] == endings
            for job in jobs:
                await client.remove(job)

    with ExitStack() as passed:
        asyncio.run(scenario(passed))
