"""Ten thousand jobs with limits leave no cgroup in the kernel (`make soak`; takes minutes)."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from worker import JobSpec, Worker
from worker.cgroups.plugins import cgroups
from worker.core.model.ending import Exited
from worker.core.model.limits import MemoryLimit, ResourceLimits
from worker.linux.output.store import RecorderStore
from worker.linux.spawner.spawner import SupervisorSpawner

JOBS = 10_000
AT_ONCE = 8
STRAY = 20
"""Cgroups that other programs on this machine may create during the test."""

PATIENCE = 30.0
"""Seconds within which the kernel frees removed cgroups."""

LIMITS = ResourceLimits(memory=MemoryLimit(max=64 << 20), pids=20)


def control_groups() -> dict[str, int]:
    """Return the number of cgroups in each hierarchy, including dying ones (/proc/cgroups)."""
    lines = Path("/proc/cgroups").read_text().splitlines()[1:]
    return {name: int(groups) for name, _, groups, _ in map(str.split, lines)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create cgroups here")
async def test_no_dying_groups(tmp_path):
    """Jobs leave no cgroup behind, not even a dying one."""
    before = control_groups()
    worker = Worker(
        spawner=SupervisorSpawner(tmp_path),
        limiter=cgroups({}, tmp_path),
        outputs=RecorderStore(tmp_path),
    )
    turn = asyncio.Semaphore(AT_ONCE)

    async def run() -> None:
        async with turn:
            job = await worker.start(JobSpec("sh", ["-c", "echo hi; exit 3"], limits=LIMITS))
            assert Exited(3) == (await worker.wait(job)).ending
            await worker.remove(job)

    await asyncio.gather(*(run() for _ in range(JOBS)))
    await worker.close()
    deadline = time.monotonic() + PATIENCE
    while True:  # the kernel frees a cgroup some time after its rmdir(2)
        grown = {name: count - before[name] for name, count in control_groups().items()}
        if max(grown.values()) <= STRAY or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    assert {} == {name: count for name, count in grown.items() if count > STRAY}
