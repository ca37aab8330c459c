"""However many jobs have run, they leave nothing in the kernel or in our processes."""

import asyncio
import os
import sys
from pathlib import Path

from worker import JobSpec
from worker.client.job import Job
from worker.core.model.limits import CpuLimit, MemoryLimit, ResourceLimits

LIMITED = ResourceLimits(cpu=CpuLimit(quota=1.0), memory=MemoryLimit(max=64 << 20))


def descriptors(installation):
    """Return how many descriptors server, supervisor, recorder and zygote have open."""
    pids = (installation.server_pid(), installation.supervisor_pid(), *helpers(installation))
    return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]


def helpers(installation):
    """Return the children that a supervisor always has."""
    return {installation.recorder_pid(), installation.zygote_pid()}


def children(pid):
    """Return the children of a process."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def spec(number):
    """Return a job with output, a known exit code, and limits where they are available."""
    limits = LIMITED if os.geteuid() == 0 else ResourceLimits()
    return JobSpec("sh", ["-c", f"echo {number}; exit {number % 200}"], limits=limits)


async def run_and_check(client, number):
    """Run a job; it has its own output and exit code."""
    job = str(await client.start(spec(number)))
    output = b"".join([chunk.data async for chunk in Job(client, job).stream()])
    status = await Job(client, job).wait()
    assert f"{number}\n".encode() == output
    assert number % 200 == status.ending.code
    await Job(client, job).remove()


async def settled(installation, before):
    """Wait until no more descriptors are open than before; a call closes its own after its answer."""
    for _ in range(500):
        if all(now <= then for now, then in zip(descriptors(installation), before, strict=True)):
            return
        await asyncio.sleep(0.02)
    assert before == descriptors(installation)


async def check(installation, rounds):
    """Run jobs in rounds, and compare descriptors and processes before and after."""
    async with installation.client() as client:
        await run_and_check(client, 0)  # whatever is opened on first use is open now
        before = descriptors(installation)
        for numbers in rounds:
            await asyncio.gather(*(run_and_check(client, number) for number in numbers))
        await settled(installation, before)
    assert [] == installation.cgroups()
    assert helpers(installation) == children(installation.supervisor_pid())
    assert [] == os.listdir(installation.home / "jobs")


async def test_one_after_the_other(installation):
    """Three hundred jobs in a row leave no cgroup, descriptor, process or file."""
    await check(installation, [[number] for number in range(300)])


async def test_200_at_once(installation):
    """Two hundred jobs at once, three times, leave nothing either."""
    await check(installation, [range(200)] * 3)


def test_supervisor_stays_small(installation):
    """Supervisor, recorder and zygote load no library that only a server needs."""
    installation.wait(installation.start("true"))  # recorder and zygote run by then
    for pid in (installation.supervisor_pid(), *helpers(installation)):
        mapped = Path(f"/proc/{pid}/maps").read_text()
        for library in ("_ssl", "_asyncio", "_sqlite3", "cryptography"):
            assert library not in mapped, (library, sys.version)
