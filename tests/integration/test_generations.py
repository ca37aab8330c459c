"""Supervisors of several versions start, die and exit; their jobs and endings are kept."""

import asyncio
import os
import select
import signal
from pathlib import Path

import pytest

from worker.core.model.ending import (
    Cause,
    Exited,
    Lost,
    Signaled,
)
from worker.linux.state.job_directory import history_path

from ..support.generations import Machine

OLDER = "older"

keeps_exit_codes = pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15),
    reason="before Linux 6.15 the kernel does not keep the exit code of another process's child",
)


async def test_an_older_generation_serves_its_jobs_to_their_end(machine: Machine) -> None:
    """A new version starts jobs by its own supervisor; the older one exits after its last job."""
    async with machine.server(OLDER) as server:
        old = await server.start("sleep", "1000")
    async with machine.server() as server:
        assert {old} == set(server.found)
        new = await server.start("sh", "-c", "echo new; exit 3")
        supervisors = machine.generations()
        assert 2 == len(supervisors)
        assert supervisors[OLDER] == parent(server.found[old].pid)
        assert Exited(3) == (await server.end(new)).ending
        assert b"new\n" == await server.output(new)
        await server.found[old].stop(signal.SIGTERM, 5)
        end = await server.end(old)
        assert (Signaled(signal.SIGTERM), Cause.STOPPED) == (end.ending, end.cause)
        await asyncio.to_thread(machine.await_supervisors, 1)
        assert OLDER not in machine.generations()
    async with machine.server() as server:
        assert {} == server.found
        assert not machine.layout.generation(OLDER).exists()


@keeps_exit_codes
async def test_jobs_of_a_dead_older_generation_are_taken_over(machine: Machine) -> None:
    """If an older supervisor dies, the newer one takes over its jobs, their output and their endings."""
    gate = machine.home.parent / "gate"
    os.mkfifo(gate)
    async with machine.server(OLDER) as server:
        old = await server.start("sh", "-c", f"echo one; cat {gate}; echo two; exit 7")
    async with machine.server() as server:
        kill(machine.generations()[OLDER])
        await asyncio.to_thread(gate.write_text, "")
        assert Exited(7) == (await server.end(old)).ending
        assert b"one\ntwo\n" == await server.output(old)
        assert [] == [name for name in machine.generations() if name == OLDER]


@keeps_exit_codes
async def test_an_exit_code_from_between_two_supervisors(machine: Machine) -> None:
    """A job that ends while there is no supervisor has its true exit code: the server holds a pidfd."""
    gate = machine.home.parent / "gate"
    os.mkfifo(gate)

    def end_without_supervisor(pid: int) -> None:
        """Run this in the event loop, so that the server cannot start another supervisor meanwhile."""
        kill(*machine.generations().values())
        pidfd = os.pidfd_open(pid)
        gate.write_text("")
        await_pidfd(pidfd)
        machine.until(lambda: not Path(f"/proc/{pid}").exists())

    async with machine.server() as server:
        job = await server.start("sh", "-c", f"echo out; cat {gate}; exit 9")
        end_without_supervisor(server.found[job].pid)
        assert Exited(9) == (await server.end(job)).ending
        assert b"out\n" == await server.output(job)


async def test_the_ending_is_lost_without_a_pidfd(machine: Machine) -> None:
    """A job that ends without server and supervisor is LOST, with the reason and without an exit code."""
    async with machine.server() as server:
        job = await server.start("sleep", "1000")
        pid = server.found[job].pid
    pidfd = os.pidfd_open(pid)
    kill(*machine.generations().values())
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    await_pidfd(pidfd)
    machine.until(lambda: not Path(f"/proc/{pid}").exists())
    async with machine.server() as server:
        ending = (await server.end(job)).ending
        assert isinstance(ending, Lost)
        assert "while its supervisor was dead" in ending.reason


async def test_a_job_that_cannot_be_taken_over_affects_no_other(machine: Machine) -> None:
    """It is killed and LOST with the reason; the others keep running."""
    async with machine.server() as server:
        damaged, other = await server.start("sleep", "1000"), await server.start("sleep", "1000")
        pid = server.found[damaged].pid
    kill(*machine.generations().values())
    history = Path(history_path(machine.layout.job(damaged)))
    # With a recorded end of the main process its cgroup is checked, which is not a directory.
    text = history.read_text().replace('"unified": null', '"unified": "/dev/null"')
    history.write_text(text + '\n{"main": {"exited": 0}, "oom_kills": 0}')
    pidfd = os.pidfd_open(pid)
    async with machine.server() as server:
        ending = (await server.end(damaged)).ending
        assert isinstance(ending, Lost)
        assert ending.reason.startswith("no supervisor could take it over: ")
        await server.found[other].stop(signal.SIGTERM, 5)
        assert Signaled(signal.SIGTERM) == (await server.end(other)).ending
    await_pidfd(pidfd)


@keeps_exit_codes
async def test_a_stop_outlives_the_supervisor(machine: Machine) -> None:
    """The next supervisor kills a job after the grace of its stop; the cause is STOPPED."""
    async with machine.server() as server:
        job = await server.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
        async with server.outputs.watch(job) as watch:
            while not await server.output(job):
                await watch.changed()
        await server.found[job].stop(signal.SIGTERM, 1.0)
        kill(*machine.generations().values())
        end = await server.end(job)
        assert (Signaled(signal.SIGKILL), Cause.STOPPED) == (end.ending, end.cause)


@keeps_exit_codes
async def test_a_timeout_outlives_the_supervisor(machine: Machine) -> None:
    """The next supervisor times out a job, even if its deadline passed while there was none."""
    async with machine.server() as server:
        job = await server.start("sleep", "1000", timeout=1.0)
        kill(*machine.generations().values())
        end = await server.end(job)
        assert (Signaled(signal.SIGTERM), Cause.TIMED_OUT) == (end.ending, end.cause)


# --- processes


def parent(pid: int) -> int:
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill(*pids: int) -> None:
    """Kill processes as a crash would, and wait until they have ended."""
    for pid in pids:
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        await_pidfd(pidfd)


def await_pidfd(pidfd: int) -> None:
    """Wait until a process has ended; close its pidfd."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = poll.poll(60_000)
    os.close(pidfd)
    assert ended
