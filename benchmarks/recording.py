"""The speed of recording output and of reading it by the command line, compared with cat(1).

The output of a job that writes at full speed is recorded; then `worker stream` writes it to /dev/null.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from installation import Installation, cpu_seconds, installed
from report import report

from worker import JobSpec
from worker.client.job import Job

SIZE = 400_000_000
ROUNDS = 5
WRITER = ("head", "-c", str(SIZE), "/dev/zero")

Cost = tuple[float, float]
"""Seconds, and CPU seconds of the process that moves the bytes."""


def _cat_to(file: Path) -> Cost:
    """Return the cost of a cat that copies a pipe to a file."""
    began = time.perf_counter()
    with subprocess.Popen(WRITER, stdout=subprocess.PIPE) as writer, file.open("wb") as target:
        return _waited(subprocess.Popen(["cat"], stdin=writer.stdout, stdout=target), began)


def _command(*command: str, env: Mapping[str, str] | None = None) -> Cost:
    """Return the cost of a command that writes to /dev/null."""
    began = time.perf_counter()
    return _waited(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL), began)


def _waited(process: "subprocess.Popen[bytes]", began: float) -> Cost:
    """Wait for a process, which must succeed, and return the cost of it and its children."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{process.args!r} exited with {process.returncode}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


async def _record(installation: Installation) -> tuple[str, Cost]:
    """Run a job; return its id, and the cost to the recorder until all output was recorded."""
    async with installation.client() as client:
        await client.health()  # connects
        began, before = time.perf_counter(), cpu_seconds(installation.recorder)
        job = str(await client.start(JobSpec(WRITER[0], WRITER[1:])))
        await Job(client, job).wait()
        return job, (time.perf_counter() - began, cpu_seconds(installation.recorder) - before)


async def _remove(installation: Installation, job: str) -> None:
    async with installation.client() as client:
        await Job(client, job).remove()


def _round(installation: Installation) -> dict[str, tuple[Cost, Cost]]:
    """Return the cost of each way, with the cost of its limit."""
    file, worker = installation.home / "same", str(Path(sys.executable).with_name("worker"))
    write = _cat_to(file)
    job, recorded = asyncio.run(_record(installation))
    read, read_to_pipe = _command("cat", str(file)), _command("sh", "-c", f"cat {file} | cat")
    stream = _command(worker, "stream", job, env=installation.env)
    stream_to_pipe = _command("sh", "-c", f"{worker} stream {job} | cat", env=installation.env)
    asyncio.run(_remove(installation, job))
    return {
        "cat > file": (write, write),
        "recorded job": (recorded, write),
        "cat file > /dev/null": (read, read),
        "worker stream > /dev/null": (stream, read),
        "cat file | cat": (read_to_pipe, read_to_pipe),
        "worker stream | cat": (stream_to_pipe, read_to_pipe),
    }


def main() -> None:
    """Measure all ways in each round, and report the medians."""
    with installed() as installation:
        installation.worker("run", "true")  # the first job starts the helper processes
        rounds = [_round(installation) for _ in range(ROUNDS)]
    rows: list[dict[str, str | float]] = []
    for way in rounds[0]:
        pairs = [costs[way] for costs in rounds]
        rows.append(
            {
                "way": way,
                "MB/s": SIZE / 1e6 / statistics.median(seconds for (seconds, _), _ in pairs),
                "x cat": statistics.median(limit / seconds for (seconds, _), (limit, _) in pairs),
                "CPU s/GB": statistics.median(cpu for (_, cpu), _ in pairs) / SIZE * 1e9,
            }
        )
    report("recording", f"{SIZE / 1e6:.0f} MB of output, medians of {ROUNDS} rounds", rows)


if __name__ == "__main__":
    main()
