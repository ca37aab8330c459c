"""Whatever is killed, every job, every byte and every exit code is still there."""

import asyncio
import json
import os
import sys
from contextlib import suppress

import pytest

from worker import JobSpec, JobState
from worker.api.client import RpcError, ServerUnreachable
from worker.core.ending import Exited, Lost

LINES = 40

WRITER = """
import os, sys, time
for number in range({lines}):
    os.write(1, b"%d\\n" % number)
    time.sleep(0.05)
sys.exit({code})
"""


def start_writers(installation, count):
    """Start jobs that write numbered lines for two seconds and exit with codes of their own."""

    async def start():
        async with installation.client() as client:
            specs = [
                JobSpec(sys.executable, ["-c", WRITER.format(lines=LINES, code=code)])
                for code in range(count)
            ]
            return [str(await client.start(spec)) for spec in specs]

    return asyncio.run(start())


def assert_all_there(installation, jobs):
    """Every job has every line once and its own exit code."""
    expected = "".join(f"{number}\n" for number in range(LINES)).encode()

    async def look(client, job, code):
        assert expected == b"".join([chunk.data async for chunk in client.stream(job)])
        status = await client.wait(job)
        assert (JobState.EXITED, Exited(code)) == (status.state, status.ending), status

    async def look_at_all():
        async with installation.client() as client:
            await asyncio.gather(*(look(client, job, code) for code, job in enumerate(jobs)))

    asyncio.run(look_at_all())


def test_server_killed_while_50_jobs_run(installation):
    """A kill -9 of the server loses none of 50 running jobs, no output and no exit code."""
    jobs = start_writers(installation, 50)
    installation.kill(installation.server_pid())
    installation.worker("up")
    assert set(jobs) == {each["id"] for each in json.loads(installation.worker("list", "-o", "json"))}
    assert_all_there(installation, jobs)


def test_recorder_killed_while_50_jobs_run(installation, until):
    """A kill -9 of the recorder, again and again, loses or repeats no byte."""
    jobs = start_writers(installation, 50)
    for _ in range(3):
        killed = installation.recorder_pid()
        installation.kill(killed)
        until(lambda killed=killed: installation.recorder_pid() not in {0, killed})
    assert_all_there(installation, jobs)


@pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15),
    reason="before Linux 6.15 the kernel forgets the exit code of somebody else's child",
)
def test_supervisor_killed_while_jobs_run(installation):
    """A kill -9 of the supervisor loses no job: its successor reads the true exit codes from the kernel."""
    jobs = start_writers(installation, 10)
    installation.kill(installation.supervisor_pid())
    assert_all_there(installation, jobs)


def test_jobs_end_while_no_server_runs(installation, tmp_path, until):
    """Jobs that end, time out and are killed meanwhile are known to the next server as they ended."""
    gate = tmp_path / "gate"
    wait_for_gate = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    ended = installation.start("sh", "-c", f"{wait_for_gate}; echo done; exit 5")
    timed_out = installation.start(
        "--timeout", "4s", "--grace", "500ms", "sh", "-c", "trap '' TERM; sleep 100"
    )
    running = installation.start("sleep", "1000")
    installation.kill(installation.server_pid())
    gate.touch()
    for job in (ended, timed_out):
        until(lambda job=job: recorded_or_forgotten(installation.home / "jobs" / job))
    installation.worker("up")
    assert 5 == installation.query(ended)["exit_code"]
    assert b"done\n" == installation.stream(ended)
    facts = installation.query(timed_out)
    assert ("timed out", 137) == (facts["cause"], facts["exit_code"])
    assert "running" == installation.query(running)["state"]
    installation.worker("stop", running)


def recorded_or_forgotten(directory):
    """Whether the supervisor has written down the end of a job; once a server knows it, it is forgotten."""
    history = directory / "history"
    return not history.exists() or '"end"' in history.read_text()


def test_down_leaves_jobs_running(installation):
    """`worker down` says how many jobs run on, and the next server knows them."""
    job = installation.start("sh", "-c", "sleep 2; echo survived; exit 4")
    assert "1 job" in installation.worker("down")
    installation.worker("up")
    assert b"survived\n" == installation.stream(job)
    assert 4 == installation.wait(job)["exit_code"]


def test_everything_killed(installation):
    """Server, supervisor and recorder killed at once: what runs on is taken up again."""
    job = installation.start("sh", "-c", "echo before; sleep 3; echo after; exit 6")
    for pid in (installation.server_pid(), installation.supervisor_pid(), installation.recorder_pid()):
        installation.kill(pid)
    installation.worker("up")
    assert b"before\nafter\n" == installation.stream(job)
    assert installation.wait(job)["exit_code"] in {6, -1}


@pytest.mark.parametrize("victim", ["server", "supervisor", "recorder"])
def test_killed_while_jobs_are_being_started(installation, victim, until):
    """A kill in the middle of starts leaves a job known, with its true end, or without a trace."""
    pids = {
        "server": installation.server_pid,
        "supervisor": installation.supervisor_pid,
        "recorder": installation.recorder_pid,
    }
    started = set()

    async def start_some(client, number, under_way):
        with suppress(RpcError, ServerUnreachable):  # it did not start, or nobody can say
            started.add(str(await client.start(JobSpec("sh", ["-c", f"echo {number}; exit 3"]))))
            if len(started) == 10:
                under_way.set()

    async def storm():
        under_way = asyncio.Event()
        async with installation.client() as client:
            starts = [asyncio.create_task(start_some(client, number, under_way)) for number in range(60)]
            await under_way.wait()
            installation.kill(pids[victim]())
            await asyncio.gather(*starts)

    async def check():
        """Every job that is known has its true end, or says why nobody knows it; nothing else is there."""
        async with installation.client() as client:
            known = {str(status.record.id) for status in await client.list()}
            assert started <= known
            assert known == set(os.listdir(installation.home / "jobs"))
            for job in known:
                status = await client.wait(job)
                if victim != "supervisor" or not isinstance(status.ending, Lost):
                    assert Exited(3) == status.ending
                await client.remove(job)

    for _ in range(3):
        until(lambda: pids[victim]() != 0)
        asyncio.run(storm())
        if victim == "server":
            installation.worker("up")
        asyncio.run(check())
        assert [] == installation.cgroups()
        started.clear()
