"""The time until a started server answers, with finished jobs in its journal and with running jobs.

The limit is the same server with an empty journal, measured in the same run.
"""

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from installation import Installation, cpu_seconds, installed, resident_mb
from report import report

from worker import JobSpec
from worker.client.errors import RpcError
from worker.core.model.ending import (
    Cause,
    Channel,
    End,
    Exited,
)
from worker.core.model.job import JobId, JobRecord, new_job_id
from worker.core.model.limits import MemoryLimit, ResourceLimits, ResourceUsage
from worker.linux.journal.sqlite import SqliteJournal

FINISHED = (0, 100, 1000, 10_000)
RUNNING = 1000
ROUNDS = 5
AT_ONCE = 16
PATIENCE = 60.0

LIMITS = ResourceLimits(memory=MemoryLimit(max=256 << 20), pids=100)


@dataclass(frozen=True, slots=True)
class Start:
    """The cost of a server start until its first answer: seconds, CPU seconds, and resident megabytes."""

    wall: float
    cpu: float
    resident: float


def finished(number: int) -> JobRecord:
    """Return the record of a typical job."""
    at = time.time() - 86400 + number
    spec = JobSpec(
        "make",
        ["-C", f"/src/build-{number}", "all"],
        env={"BUILD": str(number)},
        labels={"build": str(number)},
        limits=LIMITS,
    )
    end = End(Exited(0), Cause.NONE, 0, {Channel.OUTPUT: 6}, at + 2.5)
    usage = ResourceUsage(1500, 0, 0, 4096000 + number, 0, 0, 0, 0, 0)
    request_id = str(new_job_id())
    return JobRecord(
        new_job_id(), spec, "writer", request_id, at, 1000 + number, at + 0.5, end, LIMITS, usage
    )


async def fill(directory: Path, number: int) -> JobId:
    """Create a journal of this many jobs and their output; return one of them, or an unknown id if none."""
    (directory / "jobs").mkdir(parents=True)
    journal = SqliteJournal(directory / "journal.db")
    job = new_job_id()
    for each in range(number):
        record = finished(each)
        await journal.put(record)
        output = directory / "jobs" / str(record.id)
        output.mkdir()
        (output / "output-0").write_bytes(b"hello\n")
        job = record.id
    await journal.close()
    return job


def swap(home: Path, directory: Path) -> None:
    """Exchange the jobs of a home with those of another directory, while no server runs."""
    for name in ("jobs", "journal.db", "journal.db-wal", "journal.db-shm"):
        here, there, between = home / name, directory / name, directory / f"{name}.new"
        for source, target in ((there, between), (here, there), (between, here)):
            if source.exists():
                source.rename(target)


@asynccontextmanager
async def server(installation: Installation, job: JobId) -> AsyncIterator[Start]:
    """Start a server, query a job until it answers, and kill it at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    (installation.home / "address").write_text(address)
    began = time.perf_counter()
    command = [sys.executable, "-P", "-m", "worker.cli.main", "serve", "--listen", address]
    process = await asyncio.create_subprocess_exec(
        *command, env=installation.env, stderr=subprocess.DEVNULL
    )
    try:
        while not _listens(address):
            if time.perf_counter() - began > PATIENCE or process.returncode is not None:
                sys.exit("the server does not start")
            await asyncio.sleep(0.003)
        async with installation.client() as client:
            try:
                await client.query(str(job))
            except RpcError as error:
                if error.code != "NotFound":
                    raise
        wall = time.perf_counter() - began
        yield Start(wall, cpu_seconds(process.pid), resident_mb(process.pid))
    finally:
        process.kill()
        await process.wait()


def _listens(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return False
    return True


async def after_finished(installation: Installation, directory: Path) -> dict[int, list[Start]]:
    """Return the starts for each number of finished jobs."""
    jobs = {number: await fill(directory / str(number), number) for number in FINISHED}
    starts: dict[int, list[Start]] = {number: [] for number in FINISHED}
    for _ in range(ROUNDS):
        for number, job in jobs.items():
            swap(installation.home, directory / str(number))
            async with server(installation, job) as start:
                starts[number].append(start)
            swap(installation.home, directory / str(number))
    return starts


async def with_running(installation: Installation) -> list[Start]:
    """Return the starts with running jobs."""
    async with server(installation, new_job_id()), installation.client() as client:
        turn = asyncio.Semaphore(AT_ONCE)

        async def start_one() -> JobId:
            async with turn:
                return (await client.start(JobSpec("sleep", ["600"], limits=LIMITS, timeout=600.0))).id

        jobs = await asyncio.gather(*(start_one() for _ in range(RUNNING)))
    starts = []
    for number in range(ROUNDS):
        async with server(installation, jobs[number]) as start, installation.client() as client:
            starts.append(start)
            if len(await client.list(running=True)) != RUNNING:
                sys.exit("jobs are missing")
    return starts


def row(what: str, starts: list[Start], empty: list[Start], number: int) -> dict[str, str | float]:
    """Return a row of the report."""
    wall, cpu, resident = (
        [statistics.median(getattr(start, name) for start in each) for each in (starts, empty)]
        for name in ("wall", "cpu", "resident")
    )
    return {
        "jobs": what,
        "first answer, p50 ms": 1000 * wall[0],
        "x empty": wall[0] / wall[1],
        "CPU of the server, ms": 1000 * cpu[0],
        "resident, MB": resident[0],
        "KB per job": 1000 * (resident[0] - resident[1]) / number if number else 0.0,
    }


async def main() -> None:
    """Measure and report."""
    with installed() as installation, tempfile.TemporaryDirectory() as directory:
        os.kill(installation.server, signal.SIGKILL)
        starts = await after_finished(installation, Path(directory))
        rows = [row(f"{number} finished", each, starts[0], number) for number, each in starts.items()]
        running = await with_running(installation)
        rows.append(row(f"{RUNNING} running", running, starts[0], RUNNING))
        installation.worker("up")  # `worker down --jobs` then stops the jobs
    report("recovery", f"A server that is started, {ROUNDS} times each", rows)


if __name__ == "__main__":
    asyncio.run(main())
