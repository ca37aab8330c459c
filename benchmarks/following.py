"""What followers see and cost: the first byte, the lag of a line, a job that writes little and often.

And a thousand clients that follow silent jobs, and a hundred that do not read.
"""

import asyncio
import statistics
import sys
import time
from contextlib import ExitStack, aclosing
from pathlib import Path

from grpcio_client import connect
from installation import Installation, cpu_seconds, installed, resident_mb
from report import percentile, report

from worker import JobSpec
from worker.proto.worker import StreamRequest

METHOD = "/worker.v1.WorkerService/Stream"
STREAMS = 30
LINES = 300
FOLLOWERS = 1000
SILENT = 10
STUCK = 100
SECONDS = 10.0

TICKER = """
import os, time
for _ in range(300):
    time.sleep(0.01)
    os.write(1, b"%.6f\\n" % time.time())
"""
CHATTY = """
import os, time
began = time.monotonic()
for number in range(500_000):
    os.write(1, b"a short line of output\\n")
    while number > 100_000 * (time.monotonic() - began):
        time.sleep(0.0005)
"""

Row = dict[str, str | float]


async def _started(installation: Installation, command: str, *arguments: str) -> str:
    async with installation.client() as client:
        return str(await client.start(JobSpec(command, list(arguments))))


async def _first_byte(installation: Installation) -> list[float]:
    """Return the milliseconds from asking for a stream to its first byte, over an open connection."""
    job = await _started(installation, "sh", "-c", "echo here; exec sleep 1000")
    taken = []
    async with installation.client() as client:
        await client.query(job)
        for _ in range(STREAMS):
            began = time.perf_counter()
            async with aclosing(client.stream(job)) as chunks:
                await anext(chunks)
                taken.append(1000 * (time.perf_counter() - began))
        await client.stop(job, grace=0)
    return taken


async def _lag(installation: Installation) -> list[float]:
    """Return the milliseconds from a job's write to its arrival here, for lines 10 ms apart."""
    taken = []
    async with installation.client() as client:
        job = str(await client.start(JobSpec(sys.executable, ["-c", TICKER])))
        async for chunk in client.stream(job):
            taken += [1000 * (time.time() - float(line)) for line in chunk.data.split()]
    return taken


async def _chatty(installation: Installation) -> list[Row]:
    """Return the CPU that server and recorder use for a job of 100,000 short writes a second, followed."""
    pids = {"server": installation.server, "recorder": installation.recorder}
    before, began = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.perf_counter()
    size = 0
    async with installation.client() as client:
        job = str(await client.start(JobSpec(sys.executable, ["-c", CHATTY])))
        async for chunk in client.stream(job):
            size += len(chunk.data)
    seconds = time.perf_counter() - began
    return [
        {
            "what": f"100,000 short writes a second, followed: CPU of the {name}, %",
            "value": 100 * (cpu_seconds(pid) - before[name]) / seconds,
        }
        for name, pid in pids.items()
    ]


def _idle_followers(installation: Installation, jobs: list[str]) -> list[Row]:
    """Return what clients cost that follow silent jobs, each over a connection of its own."""
    server, memory = installation.server, resident_mb(installation.server)
    with ExitStack() as open_channels:
        calls = []
        for number in range(FOLLOWERS):
            channel = open_channels.enter_context(connect(installation.address, installation.pki))
            request = bytes(StreamRequest(job_id=jobs[number % SILENT]))
            calls.append(channel.unary_stream(METHOD)(request))
        for call in calls:
            next(call)
        time.sleep(1)
        watches = sum(
            path.read_text().count("inotify wd:") for path in Path(f"/proc/{server}/fdinfo").iterdir()
        )
        before = cpu_seconds(server)
        time.sleep(SECONDS)
        cpu = 100 * (cpu_seconds(server) - before) / SECONDS
        resident = resident_mb(server)
        for call in calls:
            call.cancel()
    return [
        {"what": f"{FOLLOWERS} idle followers: CPU of the server, %", "value": cpu},
        {"what": f"{FOLLOWERS} idle followers of {SILENT} jobs: inotify watches", "value": float(watches)},
        {
            "what": f"{FOLLOWERS} idle followers: memory, KB each",
            "value": 1000 * (resident - memory) / FOLLOWERS,
        },
    ]


def _stuck(installation: Installation, job: str) -> list[Row]:
    """Return what clients cost that take a first message and then nothing."""
    memory = resident_mb(installation.server)
    with ExitStack() as open_channels:
        calls = []
        for _ in range(STUCK):
            channel = open_channels.enter_context(connect(installation.address, installation.pki))
            calls.append(channel.unary_stream(METHOD)(bytes(StreamRequest(job_id=job))))
            next(calls[-1])
        time.sleep(1)
        resident = resident_mb(installation.server)
        for call in calls:
            call.cancel()
    return [
        {
            "what": f"{STUCK} clients that do not read: memory, KB each",
            "value": 1000 * (resident - memory) / STUCK,
        }
    ]


def main() -> None:
    """Measure and report."""
    with installed() as installation:
        rows: list[Row] = [{"what": "server, idle: resident MB", "value": resident_mb(installation.server)}]
        first, lag = asyncio.run(_first_byte(installation)), asyncio.run(_lag(installation))
        for name, taken in (("first byte", first), ("live lag of a line", lag)):
            rows.append({"what": f"{name}: p50 ms", "value": statistics.median(taken)})
            rows.append({"what": f"{name}: p99 ms", "value": percentile(taken, 99)})
        rows += asyncio.run(_chatty(installation))
        for name, pid in (("supervisor", installation.supervisor), ("recorder", installation.recorder)):
            rows.append({"what": f"{name}, after some jobs: resident MB", "value": resident_mb(pid)})
        noisy = asyncio.run(_started(installation, "sh", "-c", "yes | head -c 200000000"))
        rows += _stuck(installation, noisy)
    with installed() as installation:
        jobs = [
            asyncio.run(_started(installation, "sh", "-c", "echo here; exec sleep 1000"))
            for _ in range(SILENT)
        ]
        rows += _idle_followers(installation, jobs)
    report("following", "Followers", rows)


if __name__ == "__main__":
    main()
