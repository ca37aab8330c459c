"""Ten thousand jobs with limits leave the kernel as it was (`make soak`; some minutes)."""

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
"""Groups that others on this machine may make and drop meanwhile."""

PATIENCE = 30.0

LIMITS = ResourceLimits(memory=MemoryLimit(max=64 << 20), pids=20)


def control_groups() -> dict[str, int]:
    """How many groups the kernel has in each hierarchy, dying ones too (/proc/cgroups)."""
    lines = Path("/proc/cgroups").read_text().splitlines()[1:]
    return {name: int(groups) for name, _, groups, _ in map(str.split, lines)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make control groups here")
def test_no_dying_groups(tmp_path):
    """No control group, not even a dying one, stays behind."""

    async def run(worker: Worker, turn: asyncio.Semaphore) -> None:
        async with turn:
            job = await worker.start(JobSpec("sh", ["-c", "echo hi; exit 3"], limits=LIMITS))
            assert Exited(3) == (await worker.wait(job)).ending
            await worker.remove(job)

    async def scenario() -> None:
        worker = Worker(
            spawner=SupervisorSpawner(tmp_path),
            limiter=cgroups({}, tmp_path),
            outputs=RecorderStore(tmp_path),
        )
        turn = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(run(worker, turn) for _ in range(JOBS)))
        await worker.close()

    before = control_groups()
    asyncio.run(scenario())
    deadline = time.monotonic() + PATIENCE
    while True:  # the kernel frees a group some time after its rmdir
        grown = {name: count - before[name] for name, count in control_groups().items()}
        if max(grown.values()) <= STRAY or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert {} == {name: count for name, count in grown.items() if count > STRAY}
