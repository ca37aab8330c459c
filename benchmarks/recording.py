"""How fast output is recorded and read back by the command line, beside cat(1) doing the same.

A job that writes as fast as it can is recorded to its end; `worker stream` then writes it to /dev/null.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from installation import Installation, cpu_seconds, installed
from report import report

from worker import JobSpec

SIZE = 400_000_000
ROUNDS = 5
WRITE = f"head -c {SIZE} /dev/zero"

Way = Callable[[], float]


def _seconds(*command: str, env: dict[str, str] | None = None) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


async def _record(installation: Installation) -> tuple[str, float]:
    """Have a job write, and return its id and the seconds until all is recorded."""
    async with installation.client() as client:
        began = time.perf_counter()
        job = str(await client.start(JobSpec("sh", ["-c", WRITE])))
        await client.wait(job)
        return job, time.perf_counter() - began


async def _remove(installation: Installation, job: str) -> None:
    async with installation.client() as client:
        await client.remove(job)


def main() -> None:
    """Measure in turn, round after round, and report the medians."""
    with installed() as installation:
        file = installation.home / "same"
        worker = str(Path(sys.executable).with_name("worker"))
        found: dict[str, list[tuple[float, float]]] = {}

        def measured(name: str, limit: float | None, way: Way) -> float:
            seconds = way()
            found.setdefault(name, []).append((seconds, (limit or seconds) / seconds))
            return seconds

        installation.worker("run", "true")  # the recorder comes with the first job
        cpu = cpu_seconds(installation.recorder)
        for _ in range(ROUNDS):
            cat = measured("cat > file", None, lambda: _seconds("sh", "-c", f"{WRITE} | cat > {file}"))
            job, seconds = asyncio.run(_record(installation))
            measured("recorded job", cat, lambda seconds=seconds: seconds)  # type: ignore[misc]
            read = measured("cat file > /dev/null", None, lambda: _seconds("cat", str(file)))
            for name, output in (("worker stream > /dev/null", ""), ("worker stream | cat", "| cat")):
                command = f"{worker} stream {job} {output} > /dev/null"
                measured(
                    name, read, lambda command=command: _seconds("sh", "-c", command, env=installation.env)
                )  # type: ignore[misc]
            asyncio.run(_remove(installation, job))
        cpu = (cpu_seconds(installation.recorder) - cpu) / (ROUNDS * SIZE) * 1e9
        rows: list[dict[str, str | float]] = [
            {
                "way": name,
                "MB/s": SIZE / 1e6 / statistics.median(seconds for seconds, _ in each),
                "x cat": statistics.median(ratio for _, ratio in each),
            }
            for name, each in found.items()
        ]
        rows.append({"way": "the recorder's CPU seconds per GB", "MB/s": cpu, "x cat": "-"})
        report("recording", f"{SIZE / 1e6:.0f} MB of output, medians of {ROUNDS} rounds", rows)


if __name__ == "__main__":
    main()
