"""The memory of a worker's processes: idle, after 1000 jobs, and with 100 clients that do not read.

The worker is installed from a wheel. Each measurement includes a Python of the same environment that only
waits: the lower bound.
"""

import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from grpcio_client import connect
from installation import Installation, install_wheel, installed
from report import report

from worker import JobSpec
from worker.client.job import Job
from worker.proto.worker import StreamRequest

ROUNDS = 3
JOBS = 1000
AT_ONCE = 16
STUCK = 100
OUTPUT = 200_000_000
SETTLED = 1.0
"""Seconds without a new process or client before memory is measured."""

BARE = "python that waits"

Sizes = tuple[float, float]
"""Resident and proportional megabytes of 10^6 bytes."""


def sizes(pid: int) -> Sizes:
    """Return the resident and the proportional set size of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    facts = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return facts["Rss"], facts["Pss"]


@contextmanager
def bare_python(python: str) -> Iterator[int]:
    """Run a Python of the worker's environment that imports nothing; yields its pid."""
    program = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [python, "-P", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


class Measurements:
    """The sizes of each process at each stage, for all rounds."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._found: dict[tuple[str, str], list[Sizes]] = {}

    def take(self, stage: str, installation: Installation) -> None:
        """Measure all processes and a bare Python."""
        time.sleep(SETTLED)
        with bare_python(self._python) as bare:
            for name, pid in {BARE: bare, **installation.processes()}.items():
                self._found.setdefault((stage, name), []).append(sizes(pid))

    def resident(self, stage: str, name: str) -> float:
        """Return the median resident memory of a process at a stage."""
        return statistics.median(resident for resident, _ in self._found[stage, name])

    def rows(self) -> list[dict[str, str | float]]:
        """Return the medians."""
        return [
            {
                "stage": stage,
                "process": name,
                "resident MB": self.resident(stage, name),
                "proportional MB": statistics.median(proportional for _, proportional in found),
                "x waiting python": self.resident(stage, name) / self.resident(stage, BARE),
            }
            for (stage, name), found in self._found.items()
        ]


async def run_jobs(installation: Installation) -> None:
    """Run short jobs, some at a time, and wait until all have finished."""
    turn = asyncio.Semaphore(AT_ONCE)
    async with installation.client() as client:

        async def run_one() -> None:
            async with turn:
                await (await client.start("echo", "hello")).wait()

        await asyncio.gather(*(run_one() for _ in range(JOBS)))


async def large_output(installation: Installation) -> str:
    """Run a job with large output, and return its id."""
    async with installation.client() as client:
        job = str(await client.start(JobSpec("sh", ["-c", f"yes | head -c {OUTPUT}"])))
        await Job(client, job).wait()
        return job


@contextmanager
def stuck_clients(installation: Installation, job: str) -> Iterator[None]:
    """Run clients, each with a connection, that read the first message and nothing more."""
    with ExitStack() as open_channels:
        calls = []
        for _ in range(STUCK):
            channel = open_channels.enter_context(connect(installation.address, installation.pki))
            request = bytes(StreamRequest(job_id=job))
            calls.append(channel.unary_stream("/worker.v1.WorkerService/Stream")(request))
            next(calls[-1])
        yield
        for call in calls:
            call.cancel()


def measure(found: Measurements, python: str) -> None:
    """Measure each stage once."""
    with installed(python=python) as installation:
        found.take("idle", installation)
        asyncio.run(run_jobs(installation))
        found.take(f"after {JOBS} jobs", installation)
    with installed(python=python) as installation:
        job = asyncio.run(large_output(installation))
        found.take("after a job of much output", installation)
        with stuck_clients(installation, job):
            found.take(f"{STUCK} stuck clients", installation)


def main() -> None:
    """Measure new workers in each round, and report the medians."""
    with tempfile.TemporaryDirectory() as directory:
        python = str(install_wheel(Path(directory)) / "python")
        found = Measurements(python)
        for _ in range(ROUNDS):
            measure(found, python)
    idle, stuck = ("after a job of much output", f"{STUCK} stuck clients")
    each = (found.resident(stuck, "server") - found.resident(idle, "server")) / STUCK
    rows = found.rows()
    rows.append(
        {
            "stage": stuck,
            "process": "server, for each",
            "resident MB": each,
            "proportional MB": "-",
            "x waiting python": "-",
        }
    )
    report("memory", f"Memory, medians of {ROUNDS} rounds", rows)


if __name__ == "__main__":
    main()
