"""A Worker in a process of its own that starts jobs; run as ``python embedded.py LIMITER LIMITED HOME``.

Reads lines with a number of starts and the seconds of idleness before each, and answers each with JSON: the
milliseconds of each start until its exec. It uses only names that other versions of the worker have too.
LIMITED is 1 for jobs with CPU and memory limits.
"""

import asyncio
import json
import sys
import time
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from worker import JobSpec, ResourceLimits, Worker


def _plugin(kind: str, name: str, home: Path) -> Any:
    """Return a port by its entry point."""
    (found,) = entry_points(group=f"worker.{kind}", name=name)
    return found.load()({}, home)


async def _start(worker: Worker, spec: JobSpec) -> float:
    began = time.perf_counter()
    job = await worker.start(spec)
    took = time.perf_counter() - began
    await worker.wait(job)
    await worker.remove(job)
    return 1000 * took


async def main(limiter: str, limited: str, directory: str) -> None:
    """Answer all lines."""
    home = Path(directory)
    worker = Worker(
        spawner=_plugin("spawners", "supervisor", home),
        limiter=_plugin("limiters", limiter, home),
        outputs=_plugin("output_stores", "recorder", home),
    )
    limits = ResourceLimits()
    if limited == "1":
        cpu, memory = replace(limits.cpu, quota=1.0), replace(limits.memory, max=256 << 20)
        limits = ResourceLimits(cpu=cpu, memory=memory)
    spec = JobSpec("true", limits=limits)
    await _start(worker, spec)  # starts the supervisor
    print("ready", flush=True)
    for line in sys.stdin:
        number, idle = line.split()
        times = []
        for _ in range(int(number)):
            await asyncio.sleep(float(idle))
            times.append(await _start(worker, spec))
        print(json.dumps(times), flush=True)
    await worker.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
