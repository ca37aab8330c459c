"""The latency of a start: what being born inside control groups and limits costs.

posix_spawn(3) of the same command, waited for, is the limit, measured in turn with the others.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from report import percentile, report

from worker import JobSpec, Worker
from worker.cgroups.hierarchy.detection import detect
from worker.cgroups.hierarchy.hierarchy import Hierarchy
from worker.cgroups.limiter import CgroupLimiter
from worker.cgroups.plugins import auto, none
from worker.core.model.limits import CpuLimit, MemoryLimit, ResourceLimits
from worker.linux.output.store import RecorderStore
from worker.linux.spawner.spawner import SupervisorSpawner

ROUNDS = 100
IDLE = 0.1
LIMITS = ResourceLimits(cpu=CpuLimit(quota=1.0), memory=MemoryLimit(max=256 << 20))

Start = Callable[[], Awaitable[float]]


async def bare() -> float:
    """Return the seconds that posix_spawn takes, and until its child is waited for."""
    began = time.perf_counter()
    _spawn_and_wait()
    return time.perf_counter() - began


def _spawn_and_wait() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def start_with(worker: Worker, limits: ResourceLimits) -> Start:
    """Return what starts a job and returns the seconds until it is executed; the job is removed after."""

    async def start() -> float:
        began = time.perf_counter()
        job = await worker.start(JobSpec("true", limits=limits))
        took = time.perf_counter() - began
        await worker.wait(job)
        await worker.remove(job)
        return took

    return start


def unified_alone(process: int) -> Hierarchy:
    """Return what there is of cgroup v2, where a hybrid host has no controllers."""
    return replace(detect(process), legacy={})


async def measure(start: Start, idle: float) -> list[float]:
    """Return the milliseconds of each start, with a pause before each."""
    times = []
    for _ in range(ROUNDS):
        await asyncio.sleep(idle)
        times.append(1000 * await start())
    return times


async def main() -> None:
    """Measure every way of starting, in turn, and report."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        limiters = (none({}, home), CgroupLimiter("worker-placement", unified_alone), auto({}, home))
        workers = [
            Worker(spawner=SupervisorSpawner(path), limiter=limiter, outputs=RecorderStore(path))
            for limiter, path in zip(limiters, (home / "none", home / "v2", home / "all"), strict=True)
        ]
        unplaced, unified, placed = workers
        ways: dict[str, Start] = {
            "posix_spawn and wait": bare,
            "worker, no control groups": start_with(unplaced, ResourceLimits()),
            "worker, a control group of v2": start_with(unified, ResourceLimits()),
            "worker, all control groups of this host": start_with(placed, ResourceLimits()),
            "worker, the same with CPU and memory limits": start_with(placed, LIMITS),
        }
        rows: list[dict[str, str | float]] = []
        for idle in (0.0, IDLE):
            limit = 0.0
            for name, start in ways.items():
                await start()
                times = await measure(start, idle)
                median = statistics.median(times)
                limit = limit or median
                rows.append(
                    {
                        "start": name,
                        "before it": f"{idle * 1000:.0f} ms idle",
                        "p50 ms": median,
                        "p99 ms": percentile(times, 99),
                        "x limit": median / limit,
                    }
                )
        report("placement", f"Latency of {ROUNDS} starts each", rows)
        for worker in workers:
            await worker.close()


if __name__ == "__main__":
    asyncio.run(main())
