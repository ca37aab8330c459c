"""The latency of a start: the cost of starting a process inside cgroups and with limits.

The limit is posix_spawn(3) of the same command and waitpid(2), measured in the same run.
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
    """Return the seconds of one posix_spawn and waitpid."""
    began = time.perf_counter()
    _spawn_and_wait()
    return time.perf_counter() - began


def _spawn_and_wait() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def start_with(worker: Worker, limits: ResourceLimits) -> Start:
    """Return a function that starts a job, returns the seconds until its exec, and removes the job."""

    async def start() -> float:
        began = time.perf_counter()
        job = await worker.start(JobSpec("true", limits=limits))
        took = time.perf_counter() - began
        await worker.wait(job)
        await worker.remove(job)
        return took

    return start


def unified_alone(process: int) -> Hierarchy:
    """Return only the cgroup v2 hierarchy, which has no controllers on a hybrid host."""
    return replace(detect(process), legacy={})


async def measure(start: Start, idle: float) -> list[float]:
    """Return the milliseconds of each start, with a pause before each."""
    times = []
    for _ in range(ROUNDS):
        await asyncio.sleep(idle)
        times.append(1000 * await start())
    return times


async def main() -> None:
    """Measure every kind of start, and report."""
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
